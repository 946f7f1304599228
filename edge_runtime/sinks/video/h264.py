"""H.264 in an mp4 that a browser plays."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from edge_runtime.errors import SinkError
from edge_runtime.files import locked, move_into_place, path_beside, unwritable
from edge_runtime.optional.opencv import opencv
from edge_runtime.optional.pyav import pyav

__all__ = ["EncodedFrame", "H264Settings", "Mp4File", "even", "video_frame"]

_LARGEST_DENOMINATOR = 1001


@dataclass(frozen=True)
class H264Settings:
    """How pictures become H.264.

    Encoders with equal settings write equal headers: what one of them encoded plays in the file of another.

    Attributes:
        width, height: of the pictures in px, even.
        fps: frames per second, > 0; where frames carry their own times, what the encoder may expect.
        options: of libx264, and of FFmpeg's codecs.
        time_base: seconds a tick of the frames' times; None: frames carry none and follow each other at `fps`.
        threads: that encode; 0: one a core. The other cores belong to the detector, where one runs.
    """

    width: int
    height: int
    fps: float
    options: Mapping[str, str]
    time_base: Fraction | None = None
    threads: int = 1

    @property
    def rate(self) -> Fraction:
        """Frames per second, as a fraction that the file can hold."""
        return max(Fraction(self.fps).limit_denominator(_LARGEST_DENOMINATOR), Fraction(1, _LARGEST_DENOMINATOR))

    def apply(self, codec: Any) -> None:
        """Set up a codec context that is not open yet."""
        codec.width, codec.height, codec.pix_fmt = self.width, self.height, "yuv420p"
        codec.framerate = self.rate
        codec.time_base = self.time_base or 1 / self.rate
        codec.thread_count, codec.thread_type = self.threads, "FRAME"
        codec.options = dict(self.options)


@dataclass(frozen=True)
class EncodedFrame:
    """One frame as H.264.

    Attributes:
        index: of the frame in its stream.
        pts: when it is shown, in ticks of its encoder's time base, rising.
        is_keyframe: it can be decoded without those before.
        data: the packet; its headers are those of the encoder's settings.
    """

    index: int
    pts: int
    is_keyframe: bool
    data: bytes


class Mp4File:
    """One video, under a hidden name until it is complete. After a failure nothing is left of it.

    Args:
        beside: that name; by default one with the same ending.
        has_index_first: a browser starts to play before it has everything; costs a second writing at the end.

    Raises:
        SinkError: it cannot be written, here or at any later call.
    """

    def __init__(self, path: Path, settings: H264Settings, *, beside: Path | None = None, has_index_first: bool = True) -> None:
        self._av = pyav(path.name)
        self._path = path
        self._beside = beside or path_beside(path)
        self._settings = settings
        self._container: Any = None
        self._lock = ExitStack()  # until the file has its name, a run that begins beside this one leaves it alone
        try:
            self._lock.enter_context(locked(self._beside))
            options = {"movflags": "+faststart"} if has_index_first else {}
            self._container = self._av.open(str(self._beside.absolute()), "w", format="mp4", options=options)
            self._stream = self._container.add_stream("libx264", rate=settings.rate)
            settings.apply(self._stream.codec_context)
            self._container.start_encoding()
        except (OSError, self._av.FFmpegError) as error:
            self.abandon()
            raise unwritable(path, error) from error

    @property
    def size_bytes(self) -> int:
        """What is on the disk so far."""
        return self._beside.stat().st_size

    def encode(self, image: np.ndarray) -> None:
        """Append a picture, (height, width, 3) uint8 BGR."""
        self._refuse_after_failure()
        try:
            self._container.mux(self._stream.encode(video_frame(self._av, image)))
        except (OSError, self._av.FFmpegError) as error:
            self.abandon()
            raise unwritable(self._path, error) from error

    def append(self, frame: EncodedFrame, pts: int) -> None:
        """Append a frame that an encoder with these settings made, the first of them a keyframe, at a time of this file."""
        self._refuse_after_failure()
        packet = self._av.Packet(frame.data)
        packet.pts = packet.dts = pts
        packet.time_base = self._settings.time_base
        packet.is_keyframe = frame.is_keyframe
        packet.stream = self._stream
        try:
            self._container.mux(packet)
        except (OSError, self._av.FFmpegError) as error:
            self.abandon()
            raise unwritable(self._path, error) from error

    def finish(self) -> None:
        """Complete the file and give it its name; nothing to do after a failure."""
        if self._container is None:
            return
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            move_into_place(self._beside, self._path)
        except (OSError, self._av.FFmpegError) as error:
            self.abandon()
            raise unwritable(self._path, error) from error
        self._container = None
        self._lock.close()

    def _refuse_after_failure(self) -> None:
        if self._container is None:
            raise SinkError(f"{self._path}: expected a video that is being written, it has failed or was finished. The rest of it is lost.")

    def abandon(self) -> None:
        """Remove what was written so far; nothing to do once it is finished."""
        container, self._container = self._container, None
        with suppress(OSError, self._av.FFmpegError):
            if container is not None:
                container.close()
        with suppress(OSError):
            self._beside.unlink()
        self._lock.close()


def video_frame(av: ModuleType, image: np.ndarray) -> Any:
    """A picture as encoders take it: (H, W, 3) uint8 BGR, even sides, to YUV 4:2:0."""
    planes = opencv().cvtColor(image, opencv().COLOR_BGR2YUV_I420)
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def even(length: float) -> int:
    """The nearest length that 4:2:0 colour can hold."""
    return max(2, 2 * round(length / 2))
