"""Video files: their frames with the time stamps they carry, and what can be known before they are read."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import SourceOpenError
from edge_runtime.optional.opencv import CAMERA_OPTIONS, FFMPEG_OPTIONS, opencv
from edge_runtime.optional.pyav import has_pyav, pyav
from edge_runtime.sources.footage.media_time import even_rate

__all__ = ["VideoFacts", "read_video", "video_facts"]

STAMPS_LOOKED_AT = 120
# Headers of good files are off by the length of the last frame; those of others by anything.
FARTHEST_HEADER = 0.01

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoFacts:
    """What a video says of itself.

    Attributes:
        fps: frames per second of its even stretches; None where it does not say.
        frames: how many; None where its header is wrong about the rate, from which it often counts them.
        seconds: from its first frame to the end of its last; None where it does not say.
    """

    fps: float | None
    frames: int | None
    seconds: float | None


def video_facts(path: Path) -> VideoFacts:
    """Look at a video's header and at the time stamps of its first frames, none of which is decoded.

    Raises:
        SourceOpenError: it cannot be opened.
    """
    with _opened(path) as capture:
        cv2 = opencv()
        frames, declared = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0), float(capture.get(cv2.CAP_PROP_FPS))
        stamped = even_rate(_first_stamps(capture))
    if declared <= 0:
        return VideoFacts(stamped, frames, seconds=None)
    is_right = stamped is None or abs(stamped / declared - 1) <= FARTHEST_HEADER
    return VideoFacts(declared if is_right else stamped, frames if is_right else None, frames / declared)


def read_video(path: Path) -> Iterator[tuple[np.ndarray, float | None]]:
    """Yield the frames of a video, (H, W, 3) uint8 BGR, and their time stamps in seconds; None where OpenCV has none.

    Raises:
        SourceOpenError: it cannot be opened, or its first frame not decoded.
    """
    facts = video_facts(path)
    read, last_s = 0, 0.0
    with _opened(path) as capture:
        has_stamps, milliseconds = _has_stamps(capture), opencv().CAP_PROP_POS_MSEC
        while True:
            is_read, image = capture.read()
            if not is_read:
                break
            stamp_s = 1e-3 * capture.get(milliseconds) if has_stamps else None
            yield image, stamp_s
            read, last_s = read + 1, max(last_s, stamp_s or 0.0)
    if read == 0:
        raise SourceOpenError(f"{path}: expected video frames, cannot decode the first one. Is the file whole?")
    _check_end(path, facts, read, last_s)


def _check_end(path: Path, facts: VideoFacts, read: int, last_s: float) -> None:
    """Say it where frames are missing at the end.

    A header counts the frames of a pause, too, and those before the beginning of what was cut out without encoding anew: then the last
    time stamp decides.
    """

    def reaches(seconds: float | None) -> bool:
        return bool(facts.fps and seconds and last_s + 1.5 / facts.fps >= seconds)

    has_all = facts.frames is not None and read >= facts.frames
    if has_all or reaches(facts.seconds) or reaches(_shown_s(path)):
        return
    if facts.frames is None:
        log.warning("%s: ended after %.1f of %.1f s; scored up to there.", path, last_s, facts.seconds)
    else:
        log.warning("%s: ended after %d of %d frames; scored up to there.", path, read, facts.frames)


def _shown_s(path: Path) -> float | None:
    """How many seconds of a video are shown; None where PyAV is missing, or cannot say."""
    if not has_pyav():
        return None
    av = pyav("length of a video", encodes=False)
    try:
        with av.open(os.path.abspath(path), metadata_errors="replace") as container:
            stream = container.streams.video[0]  # the one that OpenCV reads
            return None if stream.duration is None else float(stream.duration * stream.time_base)
    except (av.FFmpegError, IndexError) as error:
        log.debug("%s: PyAV cannot say its length: %s", path, error)
        return None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():  # a pipe would be waited for, whatever the signal
        raise SourceOpenError(f"{path}: expected a video file, found none there. Videos are read twice: a pipe cannot be one.")
    with _without_camera_options():
        # FFmpeg takes what stands before a colon for a protocol, as in 12:30.mp4, but not after a slash.
        capture = opencv().VideoCapture(os.path.abspath(path))
    try:
        if not capture.isOpened():
            raise SourceOpenError(f"{path}: expected a video, OpenCV cannot open it. Is the file whole?")
        yield capture
    finally:
        capture.release()


@contextmanager
def _without_camera_options() -> Iterator[None]:
    """A network camera in this process may have set them; of a file that FFmpeg looks at so briefly, some time stamps are wrong."""
    options = os.environ.get(FFMPEG_OPTIONS)
    if options != CAMERA_OPTIONS:
        yield
        return
    del os.environ[FFMPEG_OPTIONS]
    try:
        yield
    finally:
        os.environ.setdefault(FFMPEG_OPTIONS, options)


def _has_stamps(capture: Any) -> bool:
    """GStreamer tells where its pipeline is, which may be a frame further."""
    return bool(capture.getBackendName() == "FFMPEG")


def _first_stamps(capture: Any) -> list[float]:
    """Time stamps of the first frames in seconds, in the order in which they are stored; the capture cannot be read afterwards."""
    cv2 = opencv()
    stamps_s: list[float] = []
    if _has_stamps(capture) and capture.set(cv2.CAP_PROP_FORMAT, -1):  # undecoded
        while len(stamps_s) < STAMPS_LOOKED_AT and capture.grab():
            stamps_s.append(1e-3 * capture.get(cv2.CAP_PROP_POS_MSEC))
    return stamps_s
