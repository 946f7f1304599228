"""One stream from its source through the detector into the sinks, until it ends or is told to stop."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic, perf_counter

import numpy as np

from edge_runtime.detector import Detector
from edge_runtime.errors import EdgeError
from edge_runtime.frames import Frame
from edge_runtime.run.alarms import AlarmTracker
from edge_runtime.run.lost_writes import LostWrites
from edge_runtime.run.rate_watch import RateWatch
from edge_runtime.run.state import StateStore
from edge_runtime.run.summary import Percentiles, Progress, Summary
from edge_runtime.score import Event, Score
from edge_runtime.sinks import Sink
from edge_runtime.sources import BREAKING_EVENTS, DAMAGED, LiveSource, Source
from edge_runtime.sources.read_ahead import read_ahead
from edge_runtime.stream import Stream

__all__ = ["Pipeline"]

LATENCIES_KEPT = 20_000
POLL_S = 0.5  # how long a camera without frames keeps a signal, or the watchdog, waiting

log = logging.getLogger(__name__)


class Pipeline:
    """Runs one stream.

    Args:
        sinks: every frame, score and event goes to each of them, in order; they are closed at the end, whatever happens. One that
            cannot write does not end the run: what it lost is counted, said, and raised at the end.
        stream: made by the detector; restored and frozen as wished.
        state: saves the stream's memory while it runs and at the end.
        on_frame: called with the progress after every frame.
        on_round: called after every frame, and while a camera gives none, every half second in which its reader is at work.

    Attributes:
        progress: counts so far.
        is_stopping: `stop` was called.
        is_closing: no more frames; files are being finished, which must not be interrupted.
    """

    def __init__(
        self,
        detector: Detector,
        source: Source,
        sinks: Sequence[Sink],
        stream: Stream,
        *,
        state: StateStore | None = None,
        on_frame: Callable[[Progress], None] = lambda progress: None,
        on_round: Callable[[], None] = lambda: None,
    ) -> None:
        self.progress = Progress()
        self._detector = detector
        self._source = source
        self._sinks = sinks
        self._stream = stream
        self._state = state
        self._on_frame = on_frame
        self._on_round = on_round
        self._lost_writes = LostWrites()
        self._alarms = AlarmTracker(detector.threshold, detector.bundle.precision(detector.precision).threshold.hold_s)
        self._rate = RateWatch(detector.bundle.manifest.fps) if source.is_live else None
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._sinks_ms = 0.0
        self._seconds = 0.0
        self._ended_by = "not run"
        self.is_stopping = False
        self.is_closing = False

    def stop(self) -> None:
        """Finish the frame at hand, then end; safe to call from a signal handler."""
        self.is_stopping = True

    def run(self, max_frames: int | None = None) -> None:
        """Process frames until the source ends, `max_frames` is reached or `stop` is called. Runs once.

        Raises:
            EdgeError: of the source or the engines, after the sinks are closed and the state is saved.
            SinkError: all frames were processed, but something could not be written.
        """
        started = perf_counter()
        failure: BaseException | None = None
        self._ended_by = "an unexpected error"
        try:
            self._ended_by = self._process(max_frames)
        except (EdgeError, KeyboardInterrupt) as error:  # a second Ctrl-C does not let the frame at hand finish
            failure = error
        finally:
            self.is_closing = True
            self._seconds = perf_counter() - started
            self._finish()
        lost = self._lost_writes.error()
        if failure is not None:
            self._ended_by = f"error: {failure}" if isinstance(failure, EdgeError) else "interrupted"
            if lost is not None:
                log.warning("besides: %s", lost)
            raise failure
        if lost is not None:
            raise lost

    def summary(self) -> Summary:
        """What came of the run, also of one that an error ended."""
        detector, progress = self._detector, self.progress
        return Summary(
            frames=progress.frames,
            scored=progress.scored,
            alarms=progress.alarms,
            updates=progress.updates,
            gaps=progress.gaps,
            fps=progress.frames / self._seconds if self._seconds > 0 else 0.0,
            latency_ms=self._percentiles(),
            bundle=detector.bundle.manifest.name,
            backend=detector.backend,
            device=detector.device.name,
            precision=detector.precision,
            fast_graphs=detector.runs_fast_graphs,
            drift=progress.score.extra.get("drift") if progress.score else None,
            memory_frozen=self._stream.bank.is_frozen,
            ended_by=self._ended_by,
            source=self._source.health() if isinstance(self._source, LiveSource) else None,
            lost=dict(self._lost_writes.counts),
        )

    def _process(self, max_frames: int | None) -> str:
        arrivals = _arrivals(self._source)
        try:
            while not self.is_stopping:
                if self.progress.frames == max_frames:
                    return "max frames"
                started = perf_counter()
                item = next(arrivals, END)
                if isinstance(item, EndOfSource):
                    return "end of source"
                if isinstance(item, Event):
                    self._note_source(item)
                elif item is not None:
                    self._handle(item, self._began(item, started))
                    self._on_frame(self.progress)
                self._on_round()
            return "interrupted"
        finally:
            arrivals.close()
            self._source.close()

    def _began(self, frame: Frame, started: float) -> float:
        """When the frame's latency begins, on the clock of `perf_counter`: a camera's frame has waited since it arrived."""
        return perf_counter() - (monotonic() - frame.time_s) if self._source.is_live else started

    def _note_source(self, event: Event) -> None:
        if event.event in BREAKING_EVENTS:
            self._end_alarm()
        self._write_event(event)

    def _handle(self, frame: Frame, started: float) -> None:
        """One frame from the detector to the sinks; `started` is from before it was grabbed."""
        grab_ms = 1e3 * (perf_counter() - started)
        reason = self._stream.window.gap_before(frame)
        if reason is not None:
            self._note_gap(frame, reason)
        if self._rate is not None:
            self._rate.look(frame)
        was_frozen = self._stream.bank.is_frozen
        [score] = self._detector.step([(self._stream, frame)])
        self.progress.frames += 1
        has_scored = perf_counter()
        if score is None:
            self._write_frame(frame, None)
            return
        latency = replace(score.latency_ms, grab=grab_ms, sinks=self._sinks_ms, total=1e3 * (has_scored - started) + self._sinks_ms)
        score = replace(score, latency_ms=latency)
        self._count(score)
        self._write_frame(self._stream.window.target, score)
        alarm = self._alarms.update(score)
        if alarm is not None:
            self._write_event(alarm)
        if self._stream.bank.is_frozen and not was_frozen:
            self._note_frozen(score)
        if self._state is not None:
            self._lost_writes.attempt("state", partial(self._state.save_if_due, self._stream.bank))
        self._sinks_ms = 1e3 * (perf_counter() - has_scored)
        self._latencies_ms.append(1e3 * (perf_counter() - started))

    def _count(self, score: Score) -> None:
        self.progress.scored += 1
        self.progress.updates += score.memory_updated
        self.progress.score = score

    def _note_gap(self, frame: Frame, reason: str) -> None:
        if reason != DAMAGED:
            self._end_alarm()
        self.progress.gaps += 1
        self._write_event(Event("gap", self._stream.name, frame.index, frame.time_s, frame.wall_time_s, {"reason": reason}))

    def _note_frozen(self, score: Score) -> None:
        limit = self._detector.bundle.manifest.update.drift_limit
        log.warning("%s: the memory drifted past its limit of %.3g and is frozen; it scores on, but learns no more.", score.stream, limit)
        detail = {"drift": score.extra["drift"], "drift_limit": limit}
        self._write_event(Event("memory_frozen", score.stream, score.frame, score.time_s, score.wall_time_s, detail))

    def _end_alarm(self) -> None:
        event = self._alarms.finish()
        if event is not None:
            self._write_event(event)

    def _write_frame(self, frame: Frame, score: Score | None) -> None:
        for sink in self._sinks:
            self._lost_writes.attempt(type(sink).__name__, partial(sink.write_frame, frame, score, score.error_map if score else None))

    def _write_event(self, event: Event) -> None:
        self.progress.alarms += event.event == "alarm_start"
        for sink in self._sinks:
            self._lost_writes.attempt(type(sink).__name__, partial(sink.write_event, event))

    def _finish(self) -> None:
        """End the alarm, close every sink and save the state, each also where another one fails."""
        self._end_alarm()
        for sink in self._sinks:
            self._lost_writes.attempt(type(sink).__name__, sink.close)
        if self._state is not None:
            self._lost_writes.attempt("state", partial(self._state.save, self._stream.bank))

    def _percentiles(self) -> Percentiles | None:
        if not self._latencies_ms:
            return None
        p50, p95, p99 = np.percentile(self._latencies_ms, (50, 95, 99))
        return Percentiles(float(p50), float(p95), float(p99))


class EndOfSource:
    """What comes after the last frame."""


END = EndOfSource()


def _arrivals(source: Source) -> Generator[Frame | Event | None]:
    """What a source gives, in order; None where a camera gives nothing for a while."""
    if not isinstance(source, LiveSource):
        yield from read_ahead(source)
        return
    while True:
        yield source.poll(POLL_S)
