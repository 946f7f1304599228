"""One picture of a stream and when it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

__all__ = ["Frame", "Gap", "GapKind"]


class GapKind(Enum):
    """Why frames do not lead up to the next one."""

    START = "start"
    NEXT_CLIP = "next clip"
    LOOP = "loop"
    PAUSE = "pause"  # nothing was taken for a while
    NOT_TAKEN = "not taken"  # by whom the frames were meant for: those in between are lost
    SIZE = "size"
    RECONNECT = "reconnect"
    FROZEN = "frozen"
    ONE_COLOUR = "one colour"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Gap:
    """Something is missing between two frames: what kind of thing, and the words for it."""

    kind: GapKind
    text: str

    @classmethod
    def of_size(cls, width: int, height: int) -> Gap:
        """Pictures have this size, in pixels, from here on."""
        return cls(GapKind.SIZE, f"size changed to {width}x{height}")


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        index: 0-based position in the stream; it goes on through gaps.
        time_s: seconds; media time of a file, monotonic clock of a camera.
        wall_time_s: seconds since the epoch at which the frame was grabbed.
        stream: name of the camera.
        gap: why the frames before this one do not lead up to it; None where they do. A frame with a gap empties the window.
        truth: whether something anomalous is in view; None where the source does not know.
    """

    image: np.ndarray
    index: int
    time_s: float
    wall_time_s: float
    stream: str = "camera"
    gap: Gap | None = None
    truth: bool | None = None
