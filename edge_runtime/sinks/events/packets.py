"""A camera's newest seconds as H.264, ready to become the beginning of a clip.

Every frame is encoded once, and its packet is kept, not its picture: five seconds of 640x360 at 25 frames a second are
about 1 MB of a busy street and 2.4 MB of nothing but noise, where the pictures are 86.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np

from edge_runtime.errors import SinkError
from edge_runtime.frames import Frame
from edge_runtime.optional.opencv import opencv
from edge_runtime.optional.pyav import pyav
from edge_runtime.sinks.video.h264 import EncodedFrame, H264Settings, even, video_frame

__all__ = ["TICKS_PER_S", "FrameEncoder", "PacketRing"]

TICKS_PER_S = 90_000
LARGEST_WIDTH_PX = 640
KEYFRAME_EVERY_S = 1.0  # by the frames' times: what a camera says of its rate is not what it delivers
LONGEST_STEP_S = 1.0

# Keyframes come when asked for and never else. The last two hold a picture full of noise to 3 Mbit/s: three times a busy street.
_X264 = "scenecut=0:keyint=infinite:vbv-maxrate=3000:vbv-bufsize=1500"
_OPTIONS = {"preset": "ultrafast", "tune": "zerolatency", "crf": "24", "flags": "+global_header", "x264-params": _X264}


class FrameEncoder:
    """Encodes frames of one size, one packet each, as they come.

    Pictures wider than 640 px are reduced. A frame is shown for as long as it took until the next one came, but for no
    longer than a second (or two frames, where the rate is that low); where the time does not advance, for 1/fps.

    Args:
        image: (H, W, 3), a picture of the size that is to come.
        fps: frames per second the camera is meant to deliver; at more, packets take more than their 3 Mbit/s, by as much.
    """

    def __init__(self, image: np.ndarray, fps: float) -> None:
        height, width = image.shape[:2]
        reach = min(1.0, LARGEST_WIDTH_PX / width)
        self.settings = H264Settings(even(width * reach), even(height * reach), fps, _OPTIONS, Fraction(1, TICKS_PER_S))
        self._fps = fps
        self._longest_step_s = max(LONGEST_STEP_S, 2 / fps)
        self._av = pyav("event clips")
        self._codec: Any = self._av.CodecContext.create("libx264", "w")
        self.settings.apply(self._codec)
        self._key_every = round(KEYFRAME_EVERY_S * TICKS_PER_S)
        self._next_key = 0
        self._pts = 0
        self._time_s: float | None = None

    def encode(self, frame: Frame) -> EncodedFrame:
        """The next frame.

        Raises:
            SinkError: the encoder failed; make a new one.
        """
        self._advance(frame.time_s)
        is_key = self._pts >= self._next_key
        try:
            picture = video_frame(self._av, self._reduced(frame.image))
            picture.pts, picture.time_base = self._pts, self.settings.time_base
            if is_key:
                picture.pict_type = self._av.video.frame.PictureType.I
            data = b"".join(bytes(packet) for packet in self._codec.encode(picture))
        except (OSError, self._av.FFmpegError) as error:
            raise SinkError(
                f"event clips: expected libx264 to encode a picture of {self.settings.width}x{self.settings.height}, got '{error}'. "
                "If it happens again, reinstall PyAV: pip install --force-reinstall 'edge-runtime[video]'"
            ) from error
        if is_key:
            self._next_key = self._pts + self._key_every
        return EncodedFrame(frame.index, self._pts, is_key, data)

    def _advance(self, time_s: float) -> None:
        if self._time_s is not None:
            step_s = min(time_s - self._time_s, self._longest_step_s)
            self._pts += max(1, round((step_s if step_s > 0 else 1 / self._fps) * TICKS_PER_S))
        self._time_s = time_s

    def _reduced(self, image: np.ndarray) -> np.ndarray:
        size = (self.settings.width, self.settings.height)
        return image if size == (image.shape[1], image.shape[0]) else opencv().resize(image, size, interpolation=opencv().INTER_AREA)


class PacketRing:
    """The newest packets of one encoder, and before them what a decoder needs to begin.

    Args:
        pre_s: seconds that are kept before the frame that was scored last, ≥ 0.
    """

    def __init__(self, pre_s: float) -> None:
        self._pre = math.floor(pre_s * TICKS_PER_S)
        self._groups: deque[list[EncodedFrame]] = deque()  # each from a keyframe to before the next

    def append(self, frame: EncodedFrame) -> None:
        """Take the next frame in."""
        if frame.is_keyframe:
            self._groups.append([])
        self._groups[-1].append(frame)

    def forget(self, scored_pts: int | None) -> None:
        """Let go of what is too old, now that the frame of this time is scored."""
        while scored_pts is not None and len(self._groups) > 1 and self._groups[1][0].pts <= scored_pts - self._pre:
            self._groups.popleft()

    def pts_of(self, index: int) -> int | None:
        """When the frame of this index is shown; None where it is not here."""
        newest_first = (frame for group in reversed(self._groups) for frame in reversed(group))
        return next((frame.pts for frame in newest_first if frame.index == index), None)

    def __iter__(self) -> Iterator[EncodedFrame]:
        """All frames, the oldest first: a keyframe."""
        return chain.from_iterable(self._groups)

    def clear(self) -> None:
        """Let go of everything: what comes next is of another encoder."""
        self._groups.clear()
