"""Whether a picture shows anything new: cameras and recorders fill their streams with black and with repetitions."""

from __future__ import annotations

import numpy as np

__all__ = ["PictureCheck"]

# Decoders turn a picture of one colour into one of at most a few levels; the noise of a real sensor in the dark is more.
LARGEST_SPREAD = 4
STEP_PX = 8


class PictureCheck:
    """Compares each picture with the one before."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None

    def look(self, image: np.ndarray) -> str | None:
        """What is wrong with the next picture, (H, W, 3) uint8: `one colour`, `repeated`, or None if nothing is."""
        is_repeated = self._is_repeated(image)
        self._before = image
        if _is_one_colour(image):
            return "one colour"
        return "repeated" if is_repeated else None

    def forget(self) -> None:
        """The next picture follows none."""
        self._before = None

    def _is_repeated(self, image: np.ndarray) -> bool:
        before = self._before
        if before is None or before.shape != image.shape:
            return False
        # A look at a few pixels settles nearly all pictures.
        return np.array_equal(before[::STEP_PX, ::STEP_PX], image[::STEP_PX, ::STEP_PX]) and np.array_equal(before, image)


def _is_one_colour(image: np.ndarray) -> bool:
    sample = image[::STEP_PX, ::STEP_PX].reshape(-1, image.shape[2])
    spread = sample.max(axis=0).astype(int) - sample.min(axis=0)
    if spread.max() > LARGEST_SPREAD:
        return False
    pixels = image.reshape(-1, image.shape[2])
    return bool((pixels.max(axis=0).astype(int) - pixels.min(axis=0)).max() <= LARGEST_SPREAD)
