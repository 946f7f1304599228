"""The size of a video's pictures by its key frames."""

from __future__ import annotations

from typing import Any

from edge_runtime.optional.pyav import pyav

__all__ = ["KeyFrameSizes", "Size"]

# Their decoders read a picture's size, and skip the rest where they are told to.
TOLD_BY_HEADERS = ("mjpeg", "mpeg2video", "mpeg4")
# Of the others so many key frames are decoded a second, and a few more at once: one that comes early may do so for its size.
DECODED_PER_S = 2.5
MOST_AT_ONCE = 4.0

Size = tuple[int, int]


class KeyFrameSizes:
    """Looks at the packets of a video, in order.

    Args:
        decoder: the codec context of the packets' stream; nobody else uses it.
    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._decoder.thread_count = 1  # each thread would hold a picture back
        self._is_told_by_headers = decoder.name in TOLD_BY_HEADERS
        self._size: Size | None = None
        self._newest_s = 0.0
        self._credit = MOST_AT_ONCE

    def look(self, packet: Any, time_s: float) -> Size | None:
        """Width and height in pixels, as they are stored, of the packet's picture; None where no packet told any so far."""
        if self._is_told_by_headers:
            self._decode(packet, is_skipped=True)
            self._size = self._decoder.width, self._decoder.height
        elif packet.is_keyframe:
            is_due = self._is_due(time_s)
            # One that is skipped goes to the decoder, too: it may bring the parameters of those after it.
            if self._decode(packet, is_skipped=not is_due) and is_due:
                self._size = self._decoder.width, self._decoder.height
        return self._size

    def _is_due(self, time_s: float) -> bool:
        self._credit = min(self._credit + DECODED_PER_S * abs(time_s - self._newest_s), MOST_AT_ONCE)
        self._newest_s = time_s
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def _decode(self, packet: Any, *, is_skipped: bool) -> bool:
        """Whether the packet could be decoded. Nothing of it is left in the decoder but its parameters."""
        self._decoder.skip_frame = "ALL" if is_skipped else "DEFAULT"
        try:
            packet.decode()
            self._decoder.decode(None)
        except pyav("sizes of a video", encodes=False).FFmpegError:
            return False
        finally:
            self._decoder.flush_buffers()
        return True
