"""Pictures of a camera that hangs upside down, or on its side."""

from __future__ import annotations

import numpy as np

from edge_runtime.optional.opencv import opencv

__all__ = ["flipped"]


def flipped(image: np.ndarray, flip: str) -> np.ndarray:
    """A picture, (H, W, 3), turned as one of `address.FLIPS` says; itself for `none`."""
    cv2 = opencv()
    if flip in ("clockwise", "counterclockwise"):
        return np.asarray(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE if flip == "clockwise" else cv2.ROTATE_90_COUNTERCLOCKWISE))
    if flip != "none":
        return np.asarray(cv2.flip(image, {"horizontal": 1, "vertical": 0, "rotate-180": -1}[flip]))
    return image
