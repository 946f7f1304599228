"""The frames of recorded footage, clip after clip."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.optional.opencv import opencv
from edge_runtime.sources.footage.clips import Clip, list_clips
from edge_runtime.sources.footage.media_time import MediaClock, Tick, TimeWarnings
from edge_runtime.sources.footage.numbered_files import Count, count_of
from edge_runtime.sources.footage.size_watch import SizeChange, SizeWarnings, SizeWatch
from edge_runtime.sources.footage.video_file import read_video, video_facts

__all__ = ["FootageSource", "agree_on_rate", "read_clip"]

JPEG_ENDINGS = (".jpg", ".jpeg")
JPEG_END = b"\xff\xd9"

log = logging.getLogger(__name__)


class FootageSource:
    """All frames of one or several clips, in natural order, with a gap before each clip, after each pause of the recorder (images whose
    numbers have a hole show one, too) and where a video's size changes.

    Args:
        fps: frames per second, whatever the videos say. Where it is not what they say, their time stamps are not followed.

    Attributes:
        uri, fps, frame_count, is_live: as `Source` says; `fps` holds for all clips.
        recorded_fps: what each video says, those that say nothing left out.

    Raises:
        SourceOpenError: nothing there, nothing readable in it.
        ConfigError: images without a frame rate, or images beside other footage.
        SourceError (while iterating): an unreadable image, a size that changes within a clip.
    """

    is_live = False

    def __init__(
        self, uri: str, *, fps: float | None = None, default_fps: float | None = None, loop: bool = False, stream: str | None = None
    ) -> None:
        self.uri = uri
        self._clips = list_clips(uri)
        self._loop = loop
        self.stream = stream or (Path(uri) if os.path.exists(uri) else self._clips[0].path).resolve().name
        videos = [video_facts(clip.path) for clip in self._clips if not clip.images]
        images = sum(len(clip.images) for clip in self._clips)
        rates = [video.fps or default_fps for video in videos] + [default_fps] * bool(images)
        self.fps = fps or _common_rate(uri, rates)
        self.recorded_fps = tuple(video.fps for video in videos if video.fps is not None)
        is_as_recorded = fps is None or all(agree_on_rate((fps, rate)) is not None for rate in self.recorded_fps)
        self._follows_stamps = fps is None or (is_as_recorded and bool(self.recorded_fps))
        if not is_as_recorded:
            log.warning(
                "%s: recorded at %s frames per second, taken for %g all the same: its motion is slower or faster than it was, and its "
                "pauses are not seen. Leave --fps out, or write it anew with that rate: ffmpeg -i IN -vf fps=%g OUT",
                *(uri, " and ".join(f"{rate:g}" for rate in sorted(set(self.recorded_fps))), fps, fps),
            )
        counts = [images, *(video.frames for video in videos)]
        known = [count for count in counts if count is not None]
        self.frame_count = None if loop or len(known) < len(counts) else sum(known)

    def __iter__(self) -> Iterator[Frame]:
        index, began_s = 0, 0.0
        clock = MediaClock(self.fps)
        time_warnings, size_warnings = TimeWarnings(self.fps), SizeWarnings()
        for before, clip in self._rounds():
            gap: Gap | None = before
            clock.begin_clip()
            count = count_of(clip.images)
            with closing(SizeWatch(clip.path)) as sizes:
                for number, (image, stamp_s) in enumerate(read_clip(clip)):
                    tick = clock.tick(self._stamp(stamp_s, count, number))
                    change = sizes.look(stamp_s)
                    began_s = began_s if number else tick.time_s
                    time_warnings.look(clip.path, number, tick)
                    size_warnings.look(clip.path, number, tick.time_s - began_s, change)
                    yield Frame(image, index, tick.time_s, time.time(), self.stream, gap or _gap_before(tick, change))
                    index += 1
                    gap = None

    def _stamp(self, stamp_s: float | None, count: Count | None, number: int) -> float | None:
        """When a clip's frame was taken, in seconds: a video's own stamp, an image's number; None where it has neither."""
        if count is not None:
            return count.steps_to(number) / self.fps
        return stamp_s if self._follows_stamps else None

    def close(self) -> None:
        """Nothing to do: a file is open only while its clip is iterated."""

    def _rounds(self) -> Iterator[tuple[Gap, Clip]]:
        """Each clip with the gap before it."""
        gap = Gap(GapKind.START, "start")
        while True:
            for clip in self._clips:
                yield gap, clip
                gap = Gap(GapKind.NEXT_CLIP, f"next clip after {clip.name}")
            if not self._loop:
                return
            gap = Gap(GapKind.LOOP, "loop")


def read_clip(clip: Clip) -> Iterator[tuple[np.ndarray, float | None]]:
    """Yield the frames of a clip, (H, W, 3) uint8 BGR, all of one size, with the time stamps in seconds that a video has of them.

    Raises:
        SourceError: an unreadable image, or one of another size than the first.
    """
    size = None
    frames = ((image, None) for image in _read_images(clip)) if clip.images else read_video(clip.path)
    for number, (image, stamp_s) in enumerate(frames):
        size = size or image.shape[:2]
        if image.shape[:2] != size:
            name = clip.images[number] if clip.images else f"{clip.path}, frame {number}"
            raise SourceError(
                f"{name}: expected {size[1]}x{size[0]} pixels like the frames before it, got {image.shape[1]}x{image.shape[0]}. "
                "Put footage of another size into a clip of its own."
            )
        yield image, stamp_s


def _gap_before(tick: Tick, change: SizeChange | None) -> Gap | None:
    if change is not None:
        return Gap.of_size(*change.after)
    return None if tick.pause_s is None else Gap(GapKind.PAUSE, f"no frame for {tick.pause_s:.1f} s")


def agree_on_rate(rates: Iterable[float]) -> float | None:
    """The middle one of frame rates that differ by no more than 2 %, as 29.97 and 30 do; None where they differ more."""
    ordered = sorted(rates)
    is_one = bool(ordered) and ordered[-1] <= 1.02 * ordered[0]
    return ordered[len(ordered) // 2] if is_one else None


def _common_rate(uri: str, rates: list[float | None]) -> float:
    known = [rate for rate in rates if rate is not None]
    rate = agree_on_rate(known) if len(known) == len(rates) else None
    if rate is None:
        raise ConfigError(f"{uri}: expected a frame rate, found none that holds for all of it. Say it, for example: --fps 10")
    return rate


def _read_images(clip: Clip) -> Iterator[np.ndarray]:
    cv2 = opencv()
    for path in clip.images:
        content = _content(path)
        # OpenCV fills up a JPEG that was cut off with grey, and says nothing.
        is_cut = path.suffix.lower() in JPEG_ENDINGS and JPEG_END not in content[-1024:]
        image = None if is_cut or not content else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise SourceError(f"{path}: expected an image, cannot decode it. Replace or remove the file.")
        yield image


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise SourceError(f"{path}: expected an image, found none there. Leave footage in place while it is read.")
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: expected an image, got '{error.strerror}'. Check the file and its permissions.") from error
