"""Every alarm as a folder: a clip that begins before it, the frame that was oddest, and the facts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.errors import ConfigError, SinkError
from edge_runtime.frames import Frame
from edge_runtime.optional.pyav import pyav
from edge_runtime.score import Event, EventKind, Step
from edge_runtime.sinks.events.event_recording import FrameInClip, Recording
from edge_runtime.sinks.events.event_store import EventStore
from edge_runtime.sinks.events.packets import FrameEncoder, PacketRing
from edge_runtime.sinks.video.heat_map import HeatMap

__all__ = ["EventClipsSink"]

_LEAST_AFTER_S = 2.0  # of a clip after its pre-roll: a second of it may go to the keyframe before


class EventClipsSink:
    """Keeps the alarms of one stream, each in a folder of its own: `folder / event_folder_name(alarm)`.

    - `clip.mp4`, H.264, at most 640 px wide: from `pre_s` before the alarm to the newest frame at its `alarm_end`. An alarm ends
      when the score has been below the threshold for the bundle's hold time: that is how long the clip goes on after it.
      It begins with a keyframe: up to a second early, and late where the stream began, or had a gap, less than `pre_s` before.
    - `peak.jpg`: the frame with the highest score, at most 1280 px wide, with its errors as a heat map over it where the
      detector keeps error maps.
    - `event.json`: `alarm`, `stream`; `start`, `peak`, `end`, each with `frame`, `time_s`, `wall_time_s`, and `peak` with
      `score`; `duration_s` from the first to the last frame at or above the `threshold`; `has_heat_map`; `clip` with
      `frames`, `first_frame`, `last_frame`, `duration_s` (to its last frame), `alarm_at_s` and `peak_at_s` (null for what is
      not in it), `width`, `height`, `is_cut` (it ends before the alarm does); `files`: their sizes in bytes by name.

    Every frame is encoded once, alarm or not. Packets of the last `pre_s` are kept, and clips are made of packets, without
    encoding again. Besides, one picture is kept, and during an alarm its peak.

    An event's folder appears, complete, while `write_event` takes the `alarm_end`: sinks that come after this one can rely
    on it. A kill leaves none. After a SinkError nothing of the alarm at hand is left; the sink goes on with the next one.

    Args:
        folder: of the events; see `EventStore`.
        fps: frames per second that the source is meant to deliver. Frames keep their own times.
        pre_s: seconds of a clip before the alarm, 0 or more.
        longest_s: a clip ends when it is that long; at least 2 more than `pre_s`.
        capacity_mb: megabytes that all events together may take; the oldest go first.

    Raises:
        BackendUnavailable: OpenCV, PyAV or its H.264 encoder is not installed.
        ConfigError: an argument is out of its range.
        SinkError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, fps: float, *, pre_s: float = 5.0, longest_s: float = 120.0, capacity_mb: float = 2000.0) -> None:
        _check(fps, pre_s, longest_s)
        pyav("event clips")
        self._heat = HeatMap()
        self._store = EventStore(folder, capacity_mb)
        self._fps = fps
        self._longest_s = longest_s
        self._ring = PacketRing(pre_s)
        self._encoder: FrameEncoder | None = None
        self._latest: FrameInClip | None = None
        self._recording: Recording | None = None

    def write_step(self, step: Step) -> None:
        """Encode the new frame; remember the scored one if it is the peak of an alarm.

        Raises:
            SinkError: it cannot be encoded, or the alarm's clip cannot be written.
        """
        with self._nothing_half_done():
            self._encode(step)
        if step.target is not None and step.score is not None:
            self._latest = FrameInClip(step.target, step.score, self._ring.pts_of(step.target.index))
            self._ring.forget(self._latest.pts)
            if self._recording is not None:
                self._recording.compare(self._latest)

    def write_event(self, event: Event) -> None:
        """Begin to record with an `alarm_start`; complete the event with its `alarm_end`.

        Raises:
            SinkError: the event cannot be written.
        """
        with self._nothing_half_done():
            if event.event is EventKind.ALARM_START:
                self._begin(event)
            elif event.event is EventKind.ALARM_END:
                self._end(event)

    def close(self) -> None:
        """Let go of everything; an alarm that has not ended by now leaves nothing."""
        self._discard()
        self._encoder = None
        self._latest = None
        self._ring.clear()

    def _encode(self, step: Step) -> None:
        if self._encoder is None or step.gap is not None:
            self._restart(step.frame)
        encoder, self._encoder = self._encoder, None
        assert encoder is not None
        encoded = encoder.encode(step.frame)
        self._encoder = encoder  # one that failed is not asked again
        self._ring.append(encoded)
        if self._recording is not None:
            self._recording.append(encoded)

    def _restart(self, frame: Frame) -> None:
        """A new encoder: what it makes does not continue what there was."""
        if self._recording is not None:
            self._recording.cut()
        self._ring.clear()
        self._encoder = FrameEncoder(frame.image, self._fps)

    def _begin(self, start: Event) -> None:
        if self._latest is None or self._encoder is None:
            return  # the alarm's frame could not be encoded, which was said
        self._discard()
        folder = self._store.begin(str(start.detail["alarm"]))
        self._recording = Recording(start, self._latest, folder, self._encoder.settings, self._longest_s)
        for encoded in self._ring:
            self._recording.append(encoded)

    def _end(self, end: Event) -> None:
        if self._recording is not None:
            self._recording.finish(end, self._heat)
            self._store.keep(self._recording.folder)
            self._recording = None

    @contextmanager
    def _nothing_half_done(self) -> Iterator[None]:
        """A failure loses the alarm at hand, as a whole."""
        try:
            yield
        except SinkError as error:
            recording = self._recording
            self._discard()
            if recording is None:
                raise
            raise SinkError(f"the event '{recording.alarm}' is lost. {error}") from error

    def _discard(self) -> None:
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.discard()


def _check(fps: float, pre_s: float, longest_s: float) -> None:
    if not 0 < fps < math.inf:
        raise ConfigError(f"event clips: expected a frame rate above 0, got {fps}. Give the source's rate.")
    if not 0 <= pre_s < math.inf:
        raise ConfigError(f"event clips: expected 0 or more seconds before an alarm, got {pre_s}. Five show how it came about.")
    if not pre_s + _LEAST_AFTER_S <= longest_s < math.inf:
        raise ConfigError(
            f"event clips: expected a longest clip of {pre_s + _LEAST_AFTER_S:g} s or more, got {longest_s}. "
            f"The {pre_s:g} s before the alarm are a part of it."
        )
