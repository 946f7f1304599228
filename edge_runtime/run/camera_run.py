"""What one camera has in a run: its stream, its sinks, its alarms, its memory on disk, and what has come of it so far."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np

from edge_runtime.detector import Detector
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.run.alarms import AlarmTracker
from edge_runtime.run.lost_writes import LostWrites
from edge_runtime.run.rate_watch import RateWatch
from edge_runtime.run.state import StateStore
from edge_runtime.run.summary import Percentiles, Progress, Summary
from edge_runtime.score import Event, EventKind, Score, Step
from edge_runtime.sinks import Sink
from edge_runtime.sources import BREAKING_EVENTS, LiveSource, Source
from edge_runtime.stream import Stream

__all__ = ["CameraRun"]

LATENCIES_KEPT = 20_000

log = logging.getLogger(__name__)


class CameraRun:
    """Takes what the detector makes of one camera's frames, and what happens to the camera, to its sinks.

    Args:
        source: where the frames come from; not read here.

    Attributes:
        progress: counts so far.
        lost: what could not be written.
    """

    def __init__(self, detector: Detector, source: Source, sinks: Sequence[Sink], stream: Stream, state: StateStore | None) -> None:
        self.progress = Progress()
        self.stream = stream
        self.lost = LostWrites()
        self._detector = detector
        self._source = source
        self._sinks = sinks
        self._state = state
        self._alarms = AlarmTracker(detector.threshold, detector.bundle.precision(detector.precision).threshold.hold_s)
        self._rate = RateWatch(detector.bundle.manifest.fps) if source.is_live else None
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._sinks_ms = 0.0
        self._is_frozen = False

    def begin(self) -> None:
        """Before the first frame: a memory that is frozen by now is so because somebody wants it."""
        self._is_frozen = self.stream.bank.is_frozen

    def note(self, event: Event) -> None:
        """Something happened to the camera."""
        if event.event in BREAKING_EVENTS:
            self._end_alarm()
        self._write_event(event)

    def take(self, step: Step, began: float, grabbed: float) -> None:
        """What came of a frame, to the sinks; when its latency began, and the detector had it, on the clock of `perf_counter`."""
        stepped = perf_counter()
        self.progress.frames += 1
        if step.gap is not None:
            self._note_gap(step.frame, step.gap)
        if self._rate is not None:
            self._rate.look(step)
        if step.score is None:
            self._write_step(step)
            return
        total_ms = 1e3 * (stepped - began) + self._sinks_ms
        latency = replace(step.score.latency_ms, grab=1e3 * (grabbed - began), sinks=self._sinks_ms, total=total_ms)
        score = replace(step.score, latency_ms=latency)
        self.progress.scored += 1
        self.progress.updates += score.memory_updated
        self.progress.score = score
        self._write_step(replace(step, score=score))
        alarm = self._alarms.update(score)
        if alarm is not None:
            self._write_event(alarm)
        self._watch_memory(score)
        if self._state is not None:
            self.lost.attempt("state", partial(self._state.save_if_due, self.stream.bank))
        ended = perf_counter()
        self._sinks_ms = 1e3 * (ended - stepped)
        self._latencies_ms.append(1e3 * (ended - began))

    def finish(self) -> None:
        """End the alarm, close every sink and save the state, each also where another one fails."""
        self._end_alarm()
        for sink in self._sinks:
            self.lost.attempt(type(sink).__name__, sink.close)
        if self._state is not None:
            self.lost.attempt("state", partial(self._state.save, self.stream.bank))

    def summary(self, seconds: float, ended_by: str) -> Summary:
        """What came of it in so many seconds."""
        detector, progress = self._detector, self.progress
        memory = progress.score.memory if progress.score else None
        return Summary(
            frames=progress.frames,
            scored=progress.scored,
            alarms=progress.alarms,
            updates=progress.updates,
            gaps=progress.gaps,
            fps=progress.frames / seconds if seconds > 0 else 0.0,
            latency_ms=self._percentiles(),
            bundle=detector.bundle.manifest.name,
            backend=detector.backend,
            device=detector.device.name,
            precision=detector.precision,
            fast_graphs=detector.runs_fast_graphs,
            drift=memory.drift if memory else None,
            memory_frozen=self._is_frozen,
            ended_by=ended_by,
            source=self._source.health() if isinstance(self._source, LiveSource) else None,
            lost=dict(self.lost.counts),
        )

    def _note_gap(self, frame: Frame, gap: Gap) -> None:
        if gap.kind is not GapKind.DAMAGED:  # on a bad line they come every few seconds
            self._end_alarm()
        self.progress.gaps += 1
        self._write_event(Event(EventKind.GAP, self.stream.name, frame.index, frame.time_s, frame.wall_time_s, {"reason": gap.text}))

    def _watch_memory(self, score: Score) -> None:
        """Say it when the memory freezes."""
        was_frozen, memory = self._is_frozen, score.memory
        self._is_frozen = memory is not None and memory.is_frozen
        if memory is None or was_frozen or not memory.is_frozen:
            return
        limit = self._detector.bundle.manifest.update.drift_limit
        log.warning("%s: the memory drifted past its limit of %.3g and is frozen; it scores on, but learns no more.", score.stream, limit)
        detail = {"drift": memory.drift, "drift_limit": limit}
        self._write_event(Event(EventKind.MEMORY_FROZEN, score.stream, score.frame, score.time_s, score.wall_time_s, detail))

    def _end_alarm(self) -> None:
        event = self._alarms.finish()
        if event is not None:
            self._write_event(event)

    def _write_step(self, step: Step) -> None:
        for sink in self._sinks:
            self.lost.attempt(type(sink).__name__, partial(sink.write_step, step))

    def _write_event(self, event: Event) -> None:
        self.progress.alarms += event.event is EventKind.ALARM_START
        for sink in self._sinks:
            self.lost.attempt(type(sink).__name__, partial(sink.write_event, event))

    def _percentiles(self) -> Percentiles | None:
        if not self._latencies_ms:
            return None
        p50, p95, p99 = np.percentile(self._latencies_ms, (50, 95, 99))
        return Percentiles(float(p50), float(p95), float(p99))
