"""One alarm while it is being recorded: its clip, its oddest frame so far, and what is known of it in the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.files import write_atomically
from edge_runtime.frames import Frame
from edge_runtime.optional.opencv import opencv
from edge_runtime.score import Event, Score
from edge_runtime.sinks.events.event_store import CLIP, FACTS, PEAK, EventFolder
from edge_runtime.sinks.events.packets import TICKS_PER_S
from edge_runtime.sinks.video.h264 import EncodedFrame, H264Settings, Mp4File
from edge_runtime.sinks.video.heat_map import HeatMap

__all__ = ["FrameInClip", "Recording"]

LARGEST_PEAK_WIDTH_PX = 1280
JPEG_QUALITY = 90


@dataclass(frozen=True, eq=False)
class FrameInClip:
    """A frame, its score, and its time in the encoder's ticks; None where its packet is gone."""

    frame: Frame
    score: Score
    pts: int | None


class Recording:
    """The files of one alarm, in a folder that has no name yet.

    Args:
        start: the `alarm_start`.
        began: its frame.
        settings: of the encoder whose packets come.
        longest_s: the clip ends when it is that long.

    Attributes:
        folder: where the files go.
        alarm: the alarm's name.
    """

    def __init__(self, start: Event, began: FrameInClip, folder: EventFolder, settings: H264Settings, longest_s: float) -> None:
        self.folder = folder
        self.alarm = str(start.detail["alarm"])
        self._start = start
        self._began = began
        self._peak = began
        self._clip = _Clip(folder.hidden / CLIP, settings, longest_s)

    def append(self, encoded: EncodedFrame) -> None:
        """The clip's next frame.

        Raises:
            SinkError: it cannot be written.
        """
        self._clip.append(encoded)

    def cut(self) -> None:
        """End the clip here.

        Raises:
            SinkError: it cannot be written.
        """
        self._clip.cut()

    def compare(self, frame: FrameInClip) -> None:
        """Take a frame of the alarm as its peak if there was none as odd."""
        if frame.score.score > self._peak.score.score:
            self._peak = frame

    def finish(self, end: Event, heat: HeatMap) -> None:
        """Complete the files with the `alarm_end`.

        Raises:
            SinkError: they cannot be written.
        """
        self._clip.finish()
        hidden = self.folder.hidden
        write_atomically(hidden / PEAK, _jpeg(self._peak, heat))
        facts = {**self._facts(end), "files": {name: (hidden / name).stat().st_size for name in (CLIP, PEAK)}}
        write_atomically(hidden / FACTS, msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n")

    def discard(self) -> None:
        """Remove everything."""
        self._clip.abandon()
        self.folder.discard()

    def _facts(self, end: Event) -> dict[str, Any]:
        """What `event.json` says; `EventClipsSink` describes it."""
        score = self._peak.score
        return {
            "alarm": self.alarm,
            "stream": self._start.stream,
            "start": _when(self._start),
            "peak": {**_when(score), "score": score.score},
            "end": _when(end),
            "duration_s": end.detail["duration_s"],
            "threshold": score.threshold,
            "has_heat_map": score.error_map is not None,
            "clip": self._clip.facts(alarm_pts=self._began.pts, peak_pts=self._peak.pts),
        }


class _Clip:
    """A video of packets that begins at a keyframe, whenever that was, and ends at a length."""

    def __init__(self, path: Path, settings: H264Settings, longest_s: float) -> None:
        self._path = path
        self._settings = settings
        self._longest = round(longest_s * TICKS_PER_S)
        self._file: Mp4File | None = None
        self._first: EncodedFrame | None = None
        self._last: EncodedFrame | None = None
        self._frames = 0
        self._is_cut = False

    def append(self, encoded: EncodedFrame) -> None:
        if self._first is None or self._file is None:
            self._first = encoded
            self._file = Mp4File(self._path, self._settings)
        if encoded.pts - self._first.pts >= self._longest:
            self.cut()
        if not self._is_cut:
            self._file.append(encoded, encoded.pts - self._first.pts)
            self._last = encoded
            self._frames += 1

    def cut(self) -> None:
        self._is_cut = True
        self.finish()

    def finish(self) -> None:
        if self._file is not None:
            self._file.finish()

    def abandon(self) -> None:
        if self._file is not None:
            self._file.abandon()

    def facts(self, *, alarm_pts: int | None, peak_pts: int | None) -> dict[str, Any]:
        first, last = self._first, self._last
        assert first is not None and last is not None
        return {
            "frames": self._frames,
            "first_frame": first.index,
            "last_frame": last.index,
            "duration_s": (last.pts - first.pts) / TICKS_PER_S,
            "alarm_at_s": self._at_s(alarm_pts),
            "peak_at_s": self._at_s(peak_pts),
            "width": self._settings.width,
            "height": self._settings.height,
            "is_cut": self._is_cut,
        }

    def _at_s(self, pts: int | None) -> float | None:
        """Seconds from the clip's beginning; None for what is not in it."""
        if pts is None or self._first is None or self._last is None or not self._first.pts <= pts <= self._last.pts:
            return None
        return (pts - self._first.pts) / TICKS_PER_S


def _when(at: Event | Score) -> dict[str, float]:
    return {"frame": at.frame, "time_s": at.time_s, "wall_time_s": at.wall_time_s}


def _jpeg(scored: FrameInClip, heat: HeatMap) -> bytes:
    cv2, image = opencv(), scored.frame.image
    reach = LARGEST_PEAK_WIDTH_PX / image.shape[1]
    if reach < 1:
        size = (LARGEST_PEAK_WIDTH_PX, max(1, round(image.shape[0] * reach)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if scored.score.error_map is not None:
        image = heat.over(image, scored.score.error_map)
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(content)
