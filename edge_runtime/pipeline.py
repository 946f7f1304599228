"""One stream from its source through the detector into the sinks, until it ends or is told to stop."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter

import numpy as np

from edge_runtime.alarms import AlarmTracker
from edge_runtime.detector import Detector
from edge_runtime.errors import EdgeError
from edge_runtime.frames import Frame
from edge_runtime.score import Event, Score
from edge_runtime.sinks import Sink
from edge_runtime.sources import Source
from edge_runtime.state import StateStore
from edge_runtime.stream import Stream

__all__ = ["Percentiles", "Pipeline", "Progress", "Summary"]

LATENCIES_KEPT = 20_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds below which 50, 95 and 99 % of the frames were done."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Summary:
    """`summary.json`.

    Attributes:
        frames, scored, alarms, updates: counts; an update is a frame that was learned.
        gaps: how often the window was emptied.
        fps: frames per second of wall time.
        latency_ms: of scored frames, from before the grab to after the sinks; the newest 20,000 of them.
        bundle, backend, device, precision: what ran.
        drift: of the memory at the end; None for a model without memory.
        memory_frozen: the memory does not learn (any more).
        ended_by: `end of source`, `max frames`, `interrupted` or an error's text.
    """

    frames: int
    scored: int
    alarms: int
    updates: int
    gaps: int
    fps: float
    latency_ms: Percentiles | None
    bundle: str
    backend: str
    device: str
    precision: str
    drift: float | None
    memory_frozen: bool
    ended_by: str


@dataclass
class Progress:
    """Counts of a run so far; `score` is the newest."""

    frames: int = 0
    scored: int = 0
    alarms: int = 0
    updates: int = 0
    gaps: int = 0
    score: Score | None = None


class Pipeline:
    """Runs one stream.

    Args:
        sinks: every frame, score and event goes to each of them, in order; they are closed at the end, whatever happens.
        stream: made by the detector; restored and frozen as wished.
        state: saves the stream's memory while it runs and at the end.
        on_frame: called with the progress after every frame.

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
    ) -> None:
        self.progress = Progress()
        self._detector = detector
        self._source = source
        self._sinks = sinks
        self._stream = stream
        self._state = state
        self._on_frame = on_frame
        self._alarms = AlarmTracker(detector.threshold, detector.bundle.precision(detector.precision).threshold.hold_s)
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
            EdgeError: of the source, the engines or a sink, after the sinks are closed and the state is saved.
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
            failure = self._finish(failure)
        if failure is not None:
            self._ended_by = f"error: {failure}" if isinstance(failure, EdgeError) else "interrupted"
            raise failure

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
            drift=progress.score.extra.get("drift") if progress.score else None,
            memory_frozen=self._stream.bank.is_frozen,
            ended_by=self._ended_by,
        )

    def _process(self, max_frames: int | None) -> str:
        frames = iter(self._source)
        try:
            while not self.is_stopping:
                if self.progress.frames == max_frames:
                    return "max frames"
                started = perf_counter()
                frame = next(frames, None)
                if frame is None:
                    return "end of source"
                self._handle(frame, started)
                self._on_frame(self.progress)
            return "interrupted"
        finally:
            self._source.close()

    def _handle(self, frame: Frame, started: float) -> None:
        """One frame from the detector to the sinks; `started` is from before it was grabbed."""
        grab_ms = 1e3 * (perf_counter() - started)
        reason = self._stream.window.gap_before(frame)
        if reason is not None:
            self._note_gap(frame, reason)
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
            self._state.save_if_due(self._stream.bank)
        self._sinks_ms = 1e3 * (perf_counter() - has_scored)
        self._latencies_ms.append(1e3 * (perf_counter() - started))

    def _count(self, score: Score) -> None:
        self.progress.scored += 1
        self.progress.updates += score.memory_updated
        self.progress.score = score

    def _note_gap(self, frame: Frame, reason: str) -> None:
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
            sink.write_frame(frame, score, score.error_map if score else None)

    def _write_event(self, event: Event) -> None:
        self.progress.alarms += event.event == "alarm_start"
        for sink in self._sinks:
            sink.write_event(event)

    def _finish(self, failure: BaseException | None) -> BaseException | None:
        """End the alarm, close every sink and save the state, each also where another one fails.

        Returns:
            The first failure, which may be the one that ended the run; later ones are logged.
        """
        steps = [self._end_alarm, *(sink.close for sink in self._sinks)]
        if self._state is not None:
            steps.append(partial(self._state.save, self._stream.bank))
        for step in steps:
            try:
                step()
            except EdgeError as error:
                if failure is not None:
                    log.warning("besides: %s", error)
                failure = failure or error
        return failure

    def _percentiles(self) -> Percentiles | None:
        if not self._latencies_ms:
            return None
        p50, p95, p99 = np.percentile(self._latencies_ms, (50, 95, 99))
        return Percentiles(float(p50), float(p95), float(p99))
