"""One picture of a stream and when it was taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Frame"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        index: 0-based position in the stream; it goes on through gaps.
        time_s: seconds; media time of a file, monotonic clock of a camera.
        wall_time_s: seconds since the epoch at which the frame was grabbed.
        stream: name of the camera.
        gap: why the frames before this one do not lead up to it ("start", "next clip 02", …); None where they do.
            A frame with a gap empties the window.
        truth: whether something anomalous is in view; None where the source does not know.
    """

    image: np.ndarray
    index: int
    time_s: float
    wall_time_s: float
    stream: str = "camera"
    gap: str | None = None
    truth: bool | None = None
