"""One clip as a file: H.264 in an mp4 of a constant frame rate. It appears under its name when it is complete."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import SinkError, SourceOpenError
from edge_runtime.files import move_into_place, path_beside, unwritable
from edge_runtime.optional.opencv import opencv
from edge_runtime.optional.pyav import pyav

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
        self._av = pyav("recording")
        self._width, self._height = (length - length % 2 for length in size_px)
        self._beside = path_beside(path.with_suffix(".part"))
        self._container: Any = None
        try:
            self._container = self._av.open(str(self._beside.absolute()), "w", format="mp4")
            self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
            self._stream.width, self._stream.height, self._stream.pix_fmt = self._width, self._height, "yuv420p"
            self._stream.codec_context.thread_type = "FRAME"
            self._stream.options = OPTIONS | {"crf": str(crf)}
            self._container.start_encoding()
        except (OSError, self._av.FFmpegError) as error:
            raise self._given_up(error) from error

    @property
    def size_bytes(self) -> int:
        """What is on the disk so far."""
        return self._beside.stat().st_size

    def write(self, image: np.ndarray) -> None:
        """Append one picture: (H, W, 3) uint8 BGR."""
        cv2 = opencv()
        planes = cv2.cvtColor(np.ascontiguousarray(image[: self._height, : self._width]), cv2.COLOR_BGR2YUV_I420)
        try:
            self._container.mux(self._stream.encode(self._av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        except (OSError, self._av.FFmpegError) as error:
            raise self._given_up(error) from error
        self.frames += 1

    def finish(self) -> None:
        """Complete the file and give it its name."""
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            move_into_place(self._beside, self.path)
        except (OSError, self._av.FFmpegError) as error:
            raise self._given_up(error) from error

    def drop(self) -> None:
        """Leave nothing of it."""
        container, self._container = self._container, None
        with suppress(OSError, self._av.FFmpegError):
            if container is not None:
                container.close()
        with suppress(OSError):
            self._beside.unlink()

    def _given_up(self, error: Exception) -> SinkError:
        self.drop()
        return unwritable(self.path, error)


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
