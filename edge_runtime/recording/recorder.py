"""Cuts frames into clips, none of which spans a gap, until enough is recorded."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass

from edge_runtime.errors import ConfigError, SinkError
from edge_runtime.frames import Frame
from edge_runtime.recording.clip_file import DEFAULT_CRF, ClipFile
from edge_runtime.recording.folder import ClipRow, RecordingFolder
from edge_runtime.recording.glance import Glance, GlanceMeter

__all__ = ["SHORTEST_CLIP_S", "Recorder", "Wish", "limit_reached"]

SHORTEST_CLIP_S = 2.0
# Training takes a clip's frames for evenly spaced. One missing frame is a step of two periods, as large as a camera's jitter; what
# takes longer would be a jump in the footage and has to be a new clip. Repeating frames instead would show people who stop and leap.
LONGEST_STEP_PERIODS = 2.5
MB = 1_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """What is to be recorded.

    Attributes:
        minutes: of footage, with what is in the folder already.
        clip_minutes: of one clip.
        max_mb: of all clips in the folder, in millions of bytes; kept to within a second or two of footage.
        crf: x264's constant rate factor: smaller is better and larger.
        least_free_mb: what has to stay free on the disk.
    """

    minutes: float = 30.0
    clip_minutes: float = 5.0
    max_mb: float = 10_000.0
    crf: int = DEFAULT_CRF
    least_free_mb: float = 500.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: one of them is not possible.
        """
        for name, value in (("--minutes", self.minutes), ("--clip-minutes", self.clip_minutes)):
            if not SHORTEST_CLIP_S / 60 <= value < 1e6:
                raise ConfigError(f"{name}: expected minutes, at least {SHORTEST_CLIP_S / 60:.3f} ({SHORTEST_CLIP_S:g} s), got {value:g}.")
        if not self.max_mb > 0:
            raise ConfigError(f"--max-mb: expected a positive number of megabytes, got {self.max_mb:g}.")
        if not 0 <= self.crf <= 51:
            raise ConfigError(f"--crf: expected 0 (lossless) to 51, got {self.crf}. {DEFAULT_CRF} keeps the sensor's noise.")


def limit_reached(folder: RecordingFolder, wish: Wish) -> str | None:
    """Why nothing more is to be recorded; None where something is."""
    if folder.seconds > 60 * wish.minutes - SHORTEST_CLIP_S:  # less than a clip is missing
        return f"{wish.minutes:g} minutes are recorded"
    if folder.size_bytes >= wish.max_mb * MB:
        return f"the clips have reached {wish.max_mb:g} MB (--max-mb)"
    return None


class Recorder:
    """Frames in, clips out.

    Args:
        fps: frames per second at which the frames come, and the clips play.
        source: what `recording.json` calls the source; without credentials.

    Attributes:
        ended_by: why nothing more is taken; None while something is.
        dropped: pieces that were too short for a clip.
    """

    def __init__(self, folder: RecordingFolder, wish: Wish, fps: float, *, source: str) -> None:
        self.ended_by: str | None = None
        self.dropped = 0
        self._folder = folder
        self._wish = wish
        self._fps = fps
        self._source = source
        self._clip: _OpenClip | None = None
        self._clip_frames = max(round(60 * wish.clip_minutes * fps), round(SHORTEST_CLIP_S * fps))

    @property
    def seconds(self) -> float:
        """Of footage, in the folder and the clip at hand."""
        return self._folder.seconds + (self._clip.file.frames / self._fps if self._clip else 0.0)

    @property
    def size_bytes(self) -> int:
        """Of the clips in the folder and the one at hand."""
        return self._folder.size_bytes + (self._clip.file.size_bytes if self._clip else 0)

    @property
    def glance(self) -> Glance | None:
        """At the clip at hand; None between clips."""
        return self._clip.meter.result() if self._clip else None

    def take(self, frame: Frame) -> None:
        """Record a frame.

        Raises:
            SinkError: the disk is nearly full, after the clip at hand is finished; or a clip cannot be written.
        """
        if self._clip is not None and (reason := self._gap_before(self._clip, frame)):
            self.end_clip(reason)
        if self._clip is None:
            self._clip = self._begin(frame)
        clip = self._clip
        try:
            clip.append(frame)
        except SinkError:
            self._clip = None  # it is gone
            raise
        if clip.file.frames % max(1, round(self._fps)) == 0:
            self._check_disk()
            self._check_limits()
        is_last = self.seconds >= 60 * self._wish.minutes - 0.5 / self._fps
        if is_last:
            self.end_clip("enough is recorded")
            self.ended_by = self.ended_by or f"{self._wish.minutes:g} minutes are recorded"
        elif clip.file.frames >= self._clip_frames and self._is_worth_another_clip():
            self.end_clip("full length")

    def end_clip(self, reason: str) -> None:
        """Finish the clip at hand, if there is one; too short a one is dropped."""
        clip, self._clip = self._clip, None
        if clip is None:
            return
        seconds = clip.file.frames / self._fps
        if clip.file.frames < round(SHORTEST_CLIP_S * self._fps):
            clip.file.drop()
            self.dropped += 1
            log.info("dropped %.1f s of footage, too short for a clip: %s", seconds, reason)
            return
        clip.file.finish()
        self._folder.add(clip.row(self._fps, self._source, reason))
        log.info("%s: %.1f s, %d frames; ended: %s", clip.file.path, seconds, clip.file.frames, reason)

    def _begin(self, frame: Frame) -> _OpenClip:
        self._check_disk()
        size_px = (frame.image.shape[1], frame.image.shape[0])
        path = self._folder.path_for(frame.wall_time_s)
        return _OpenClip(ClipFile(path, size_px, self._fps, self._wish.crf), GlanceMeter(self._fps), size_px, frame)

    def _gap_before(self, clip: _OpenClip, frame: Frame) -> str | None:
        """Why the clip's frames do not lead up to this one; None where they do."""
        if frame.gap is not None:
            return frame.gap.text
        size_px = (frame.image.shape[1], frame.image.shape[0])
        if size_px != clip.size_px:
            return f"pictures of {size_px[0]}x{size_px[1]} after {clip.size_px[0]}x{clip.size_px[1]}"
        step_s = frame.time_s - clip.newest.time_s
        if step_s > LONGEST_STEP_PERIODS / self._fps:
            return f"no frame for {step_s:.2f} s"
        return None

    def _is_worth_another_clip(self) -> bool:
        """Whether what is still missing makes a clip; else the clip at hand goes on to the end."""
        return 60 * self._wish.minutes - self.seconds >= SHORTEST_CLIP_S

    def _check_limits(self) -> None:
        if self.size_bytes >= self._wish.max_mb * MB:
            self.ended_by = f"the clips have reached {self._wish.max_mb:g} MB (--max-mb)"
            self.end_clip(self.ended_by)

    def _check_disk(self) -> None:
        free_mb = shutil.disk_usage(self._folder.path).free / MB
        if free_mb < self._wish.least_free_mb:
            self.end_clip("the disk is nearly full")
            raise SinkError(
                f"{self._folder.path}: expected {self._wish.least_free_mb:g} MB free on its disk, got {free_mb:.0f}. "
                "Free some space and run the same command again: it goes on from here."
            )


class _OpenClip:
    """The clip at hand: its file, what was seen in it, and its first and newest frame."""

    def __init__(self, file: ClipFile, meter: GlanceMeter, size_px: tuple[int, int], first: Frame) -> None:
        self.file, self.meter, self.size_px = file, meter, size_px
        self.first = self.newest = first

    def append(self, frame: Frame) -> None:
        self.file.write(frame.image)
        self.meter.look(frame.image)
        self.newest = frame

    def row(self, fps: float, source: str, end: str) -> ClipRow:
        lasted_s = self.newest.time_s - self.first.time_s
        return ClipRow(
            name=self.file.path.stem,
            frames=self.file.frames,
            seconds=self.file.frames / fps,
            fps=fps,
            size_px=self.size_px,
            size_bytes=0,
            source=source,
            start_wall_time_s=self.first.wall_time_s,
            first_frame=self.first.index,
            measured_fps=(self.file.frames - 1) / lasted_s if lasted_s > 0 else None,
            end=end,
            glance=self.meter.result(),
        )
