"""One clip as a file: H.264 in an mp4 of a constant frame rate. It appears under its name when it is complete."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import SourceOpenError
from edge_runtime.files import path_beside
from edge_runtime.optional.pyav import pyav
from edge_runtime.sinks.video.h264 import H264Settings, Mp4File

__all__ = ["DEFAULT_CRF", "ClipFacts", "ClipFile", "read_facts"]

# Training has to see the sensor's noise, or the noise alone sets off alarms later. x264 takes much of it for a waste of bits:
# of noise of 4 levels on a still scene, 61 % were left at CRF 23, and all of it once tuned for grain (a third of the bits of
# CRF 16, which kept 86 % untuned).
DEFAULT_CRF = 23
OPTIONS = {"preset": "veryfast", "tune": "grain"}


@dataclass(frozen=True)
class ClipFacts:
    """What a finished clip says of itself: frames, frames per second, width and height in pixels, its file's size in bytes."""

    frames: int
    fps: float
    size_px: tuple[int, int]
    size_bytes: int


class ClipFile:
    """A clip being written, frame after frame.

    Args:
        path: where it will be, ending in `.mp4`. Until then it lies beside it, hidden and with another ending: nobody takes it for footage.
        size_px: width and height of the pictures; odd ones lose their last column or row, which 4:2:0 colour cannot hold.
        fps: frames per second.
        crf: x264's constant rate factor, 0 (lossless) to 51.

    Raises:
        BackendUnavailable: PyAV, or its H.264 encoder, is not installed.
        SinkError: the file cannot be written, here or later.
    """

    def __init__(self, path: Path, size_px: tuple[int, int], fps: float, crf: int = DEFAULT_CRF) -> None:
        self.path = path
        self.frames = 0
        self._width, self._height = (length - length % 2 for length in size_px)
        settings = H264Settings(self._width, self._height, fps, OPTIONS | {"crf": str(crf)}, threads=0)
        self._file = Mp4File(path, settings, beside=path_beside(path.with_suffix(".part")), has_index_first=False)

    @property
    def size_bytes(self) -> int:
        """What is on the disk so far."""
        return self._file.size_bytes

    def write(self, image: np.ndarray) -> None:
        """Append one picture: (H, W, 3) uint8 BGR."""
        self._file.encode(np.ascontiguousarray(image[: self._height, : self._width]))
        self.frames += 1

    def finish(self) -> None:
        """Complete the file and give it its name."""
        self._file.finish()

    def drop(self) -> None:
        """Leave nothing of it."""
        self._file.abandon()


def read_facts(path: Path) -> ClipFacts:
    """What a video's header says; nothing is decoded.

    Raises:
        SourceOpenError: no video that can be read.
        BackendUnavailable: PyAV is not installed.
    """
    av = pyav("recording")
    try:
        with av.open(str(path.absolute())) as container:
            stream = container.streams.video[0]
            return ClipFacts(stream.frames, float(stream.average_rate), (stream.width, stream.height), path.stat().st_size)
    except (OSError, av.FFmpegError, IndexError, TypeError) as error:
        raise SourceOpenError(
            f"{path}: expected a video, got one that cannot be read ({error}). Remove it: training needs it whole."
        ) from error
