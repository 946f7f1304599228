"""Recording from beginning to end: a source into a folder of clips."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from edge_runtime.errors import ConfigError
from edge_runtime.frames import Frame
from edge_runtime.recording.camera_rate import BURST_S, RateMeter, rate_to_record
from edge_runtime.recording.folder import RecordingFolder
from edge_runtime.recording.glance import Glance
from edge_runtime.recording.intake import Intake
from edge_runtime.recording.recorder import Recorder, Wish
from edge_runtime.score import Event, EventKind
from edge_runtime.sources import BREAKING_EVENTS, LiveSource, Source
from edge_runtime.sources.footage import agree_on_rate

__all__ = ["RecordingProgress", "RecordingRun"]

WAIT_S = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordingProgress:
    """How far it is: seconds of footage, complete clips and bytes in the folder; what is seen in the clip at hand."""

    seconds: float
    clips: int
    size_bytes: int
    glance: Glance | None


class RecordingRun:
    """Records a source until what is wished is there, the source ends, or `stop` is called. Runs once.

    Args:
        fps: frames per second that a camera was asked for; None: its own.
        on_progress: called after every frame.
        on_event: called with what happens to the camera.

    Attributes:
        ended_by: why it ended; `interrupted` after `stop`.
        is_closing: it ends already, and finishes its files.
        dropped: pieces that were too short for a clip.
    """

    def __init__(
        self,
        source: Source,
        folder: RecordingFolder,
        wish: Wish,
        *,
        fps: float | None = None,
        on_progress: Callable[[RecordingProgress], None] = lambda progress: None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.ended_by = "an error"
        self.is_closing = False
        self.dropped = 0
        self._source = source
        self._folder = folder
        self._wish = wish
        self._fps = fps
        self._on_progress = on_progress
        self._on_event = on_event
        self._is_stopping = False

    def stop(self) -> None:
        """Finish the clip at hand and end; safe to call from a signal handler."""
        self._is_stopping = True

    def run(self) -> None:
        """Record.

        Raises:
            EdgeError: of the source or the disk, after the clip at hand is finished.
        """
        try:
            self.ended_by = self._record_live(self._source) if isinstance(self._source, LiveSource) else self._record_footage()
        finally:
            self.is_closing = True
            self._source.close()

    def _record_live(self, source: LiveSource) -> str:
        if self._fps is not None:
            self._check_rate(self._fps)
        intake = Intake(source)
        intake.start()
        try:
            fps = self._camera_rate(source, intake)
            return "interrupted" if fps is None else self._record(fps, partial(self._take_live, intake))
        finally:
            self.is_closing = True
            intake.stop()

    def _record_footage(self) -> str:
        assert self._source.fps is not None  # all footage has one
        return self._record(self._source.fps, self._take_footage)

    def _record(self, fps: float, take_all: Callable[[Recorder], str]) -> str:
        self._check_rate(fps)
        recorder = Recorder(self._folder, self._wish, fps, source=self._source.uri)
        end = "an error"
        try:
            end = take_all(recorder)
            return end
        finally:
            self.is_closing = True
            recorder.end_clip(end)
            self.dropped = recorder.dropped

    def _take_footage(self, recorder: Recorder) -> str:
        first = self._folder.frames_taken_from(self._source.uri)
        if first:
            log.info("%s: goes on at frame %d, those before are recorded", self._source.uri, first)
        for frame in self._source:
            if frame.index >= first:
                self._take(recorder, frame)
            if self._is_stopping:
                return "interrupted"
            if recorder.ended_by:
                return recorder.ended_by
        return "the footage has ended"

    def _take_live(self, intake: Intake, recorder: Recorder) -> str:
        settled_s = -math.inf
        while not self._is_stopping:
            item = intake.take(WAIT_S)
            if isinstance(item, Frame):
                if item.time_s >= settled_s:
                    self._take(recorder, item)
            elif item is not None:
                self._on_event(item)
                if item.event in BREAKING_EVENTS:
                    recorder.end_clip(item.event.words)
                if item.event is EventKind.RECONNECT:
                    settled_s = item.time_s + BURST_S
            if recorder.ended_by:
                return recorder.ended_by
        return "interrupted"

    def _take(self, recorder: Recorder, frame: Frame) -> None:
        recorder.take(frame)
        self._on_progress(RecordingProgress(recorder.seconds, len(self._folder.rows), recorder.size_bytes, recorder.glance))

    def _camera_rate(self, source: LiveSource, intake: Intake) -> float | None:
        """Watch the camera's first seconds; None if it is to stop before."""
        log.info("%s: its frame rate is measured, which takes three seconds", source.uri)
        meter = RateMeter()
        while not self._is_stopping:
            item = intake.take(WAIT_S)
            if isinstance(item, Event):
                self._on_event(item)
            measured = meter.look(item) if isinstance(item, Frame) else None
            if measured is not None:
                rate = rate_to_record(source.uri, measured, wanted=self._fps, declared=source.health().fps)
                log.info("%s: %.1f frames per second measured, recorded at %g", source.uri, measured, rate)
                return rate
        return None

    def _check_rate(self, fps: float) -> None:
        there = self._folder.fps
        if there is not None and agree_on_rate((there, fps)) is None:
            raise ConfigError(
                f"{self._folder.path}: expected {there:g} frames per second like its clips, got {fps:g}. Training needs one rate: "
                "choose another --out."
            )
