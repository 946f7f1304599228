"""The parameters that H.264 and HEVC pictures are decoded with, their size among them: few bytes, and the same for hours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["KINDS", "ParameterSets"]

START_CODE = b"\0\0\1"
KINDS = {"h264": (7, 8), "hevc": (32, 33, 34)}  # of units
# Where a configuration says how long the lengths are that stand before units; without one, start codes stand there.
LENGTH_AT = {"h264": 4, "hevc": 21}


class ParameterSets:
    """Looks at key frames, in order, none of which it decodes.

    Args:
        codec: `h264` or `hevc`.
        extradata: what the stream says before its first packet; empty if nothing.
    """

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._codec = codec
        self._length_bytes = (extradata[LENGTH_AT[codec]] & 3) + 1 if extradata[:1] == b"\1" else 0
        self._before = b""

    def differ(self, packet: Any) -> bool:
        """Whether a key frame comes with others than the one before, or may; those that come without keep what is there."""
        found = b"".join(unit for unit in self._units(bytes(packet)) if self._kind(unit) in KINDS[self._codec])
        if not found:
            return self._has_configuration(packet)
        before, self._before = self._before, found
        return found != before

    def _units(self, data: bytes) -> Iterator[bytes]:
        if not self._length_bytes:
            yield from data.split(START_CODE)[1:]
            return
        while data:
            end = self._length_bytes + int.from_bytes(data[: self._length_bytes], "big")
            yield data[self._length_bytes : end]
            data = data[end:]

    def _kind(self, unit: bytes) -> int:
        if not unit:
            return -1
        return unit[0] & 31 if self._codec == "h264" else unit[0] >> 1 & 63

    def _has_configuration(self, packet: Any) -> bool:
        """Whether a file with several descriptions of its pictures goes over to another one here; an old PyAV does not tell."""
        return not hasattr(packet, "has_sidedata") or bool(packet.has_sidedata("new_extradata"))
