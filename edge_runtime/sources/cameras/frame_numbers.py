"""Pictures that are missing from an H.264 stream, by the numbers that its pictures carry.

A decoder makes up for a reference picture that was lost as a whole, and marks nothing. Times do not tell it either: many cameras
leave out pictures themselves. In the numbers (`frame_num`) a picture that was never encoded leaves no hole.
"""

from __future__ import annotations

import re

__all__ = ["FrameNumbers"]

START_CODE = re.compile(b"\0\0\1")
SLICE, KEY_SLICE, PARAMETERS = 1, 5, 7  # kinds of unit
# Profiles whose parameters begin with those of colour and depth.
HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
CHROMA_444 = 3
LONGEST_HEAD = 64  # bytes that are looked at


class FrameNumbers:
    """Looks at packets, each with one picture, in order.

    Numbers are believed once they were without a hole from one key frame to the next: then a camera that counts in a way of its
    own is not, and after a hole another key frame can be expected.

    Args:
        extradata: what the stream says before its first packet; empty if nothing.
    """

    def __init__(self, extradata: bytes) -> None:
        self._bits: int | None = None  # of a number
        self._before: int | None = None
        self._is_unbroken = self._is_believed = False
        self._is_readable = extradata[:1] != b"\1"  # with lengths instead of start codes
        if self._is_readable:
            self._number_in(extradata)

    def follows_hole(self, packet: bytes) -> bool:
        """Whether pictures are missing between the packet before and this one."""
        found = self._number_in(packet) if self._is_readable else None
        if found is None or self._bits is None:
            return False
        number, is_key = found
        before, self._before = self._before, number
        if is_key:
            self._is_believed |= self._is_unbroken
            self._is_unbroken = True
            return False
        is_hole = before is not None and (number - before) % (1 << self._bits) > 1
        self._is_unbroken &= not is_hole
        return is_hole and self._is_believed

    def _number_in(self, data: bytes) -> tuple[int, bool] | None:
        """The number of the picture and whether it is a key frame, None where there is none; takes note of parameters."""
        for match in START_CODE.finditer(data):
            unit = data[match.end() : match.end() + LONGEST_HEAD]
            kind = unit[0] & 31 if unit else 0
            try:
                if kind == PARAMETERS:
                    self._bits = _bits_of_number(_Bits(unit[1:]))
                elif kind in (SLICE, KEY_SLICE) and self._bits is not None:
                    return _number(_Bits(unit[1:]), self._bits), kind == KEY_SLICE
            except ValueError:  # it ends too soon
                return None
        return None


class _Bits:
    """Reads a unit's payload bit by bit; ValueError after its end."""

    def __init__(self, payload: bytes) -> None:
        plain = payload.replace(b"\0\0\3", b"\0\0")  # without what keeps start codes out of it
        self._text = "".join(f"{byte:08b}" for byte in plain)
        self._at = 0

    def take(self, count: int) -> int:
        self._at += count
        return int(self._text[self._at - count : self._at] if self._at <= len(self._text) else "", 2)

    def exp_golomb(self) -> int:
        """A number that says its own length by the zeros before it."""
        zeros = self._text.index("1", self._at) - self._at
        self._at += zeros
        return self.take(zeros + 1) - 1


def _bits_of_number(bits: _Bits) -> int | None:
    """How long numbers are, by a sequence's parameters; None where they are in a rare form or may have holes."""
    profile = bits.take(8)
    bits.take(16)
    bits.exp_golomb()
    if profile in HIGH_PROFILES:
        chroma = bits.exp_golomb()
        bits.exp_golomb()
        bits.exp_golomb()
        bits.take(1)
        has_scaling = bits.take(1)
        if chroma == CHROMA_444 or has_scaling:
            return None
    length = bits.exp_golomb() + 4
    order = bits.exp_golomb()
    if order == 0:
        bits.exp_golomb()
    elif order == 1:
        return None
    bits.exp_golomb()
    may_have_holes = bits.take(1)
    return None if may_have_holes else length


def _number(bits: _Bits, length: int) -> int:
    """Of a picture, by the head of its first slice."""
    for _ in range(3):
        bits.exp_golomb()
    return bits.take(length)
