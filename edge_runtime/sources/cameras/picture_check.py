"""Whether a picture shows anything new: cameras and recorders fill their streams with black, with repetitions and with stills."""

from __future__ import annotations

from enum import Enum

import numpy as np

from edge_runtime.optional.opencv import opencv

__all__ = ["Filler", "FreezeWatch", "PictureCheck"]

# Decoders turn a picture of one colour into one of at most a few levels; the noise of a real sensor in the dark is more.
LARGEST_SPREAD = 4
STEP_PX = 8

# A still picture sent as H.264 changes with every key frame and settles until the next one: by 10 levels as measured at a good rate,
# at a poor one by more.
LARGEST_PUMP = 24
# Settled, a picture differs from the one before by so little: no pixel by more, and on average. A sensor's noise always does more.
SETTLED_LEVELS, SETTLED_MEAN = 4, 0.02
SETTLED_SHARE = 0.25


class Filler(Enum):
    """Pictures that show nothing new."""

    ONE_COLOUR = "one colour"
    REPEATED = "repeated"
    FROZEN = "frozen"


class PictureCheck:
    """Compares each picture with the one before."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None

    def look(self, image: np.ndarray) -> Filler | None:
        """What is wrong with the next picture, (H, W, 3) uint8: it is of one colour, or repeated; None if nothing is."""
        is_repeated = self._is_repeated(image)
        self._before = image
        if _is_one_colour(image):
            return Filler.ONE_COLOUR
        return Filler.REPEATED if is_repeated else None

    def forget(self) -> None:
        """The next picture follows none."""
        self._before = None

    def _is_repeated(self, image: np.ndarray) -> bool:
        before = self._before
        if before is None or before.shape != image.shape:
            return False
        # A look at a few pixels settles nearly all pictures.
        return np.array_equal(before[::STEP_PX, ::STEP_PX], image[::STEP_PX, ::STEP_PX]) and np.array_equal(before, image)


class FreezeWatch:
    """Tells a camera that shows one picture over and over, however it is encoded, from one that looks at a scene.

    Frozen is: for `after_s` no pixel went further than a codec's own unrest from where it was, and at least a quarter of the
    pictures hardly differed from the one before. A scene seen by a sensor fails the second, because noise differs from picture to
    picture, unless camera and codec remove all of it; then a scene in which nothing moves is called frozen as well. Of the two
    errors this is the lesser: it costs an event that somebody can look at, and the frames of one window when something moves
    again. A dead picture that is taken for a quiet scene costs every alarm from then on, and nobody knows.

    A picture that is frozen below a clock that runs is not found.

    Args:
        after_s: seconds without anything new.

    Attributes:
        since_s: when the picture was last new.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._is_frozen = False
        self.forget()

    def forget(self) -> None:
        """The next picture follows none."""
        self._first: np.ndarray | None = None
        self._before: np.ndarray | None = None
        self._begin(0.0)

    def look(self, image: np.ndarray, time_s: float) -> bool:
        """Whether the camera is frozen, with the next picture, (H, W, 3) uint8, that arrived at `time_s`."""
        first, before = self._first, self._before
        self._before = image
        if first is None or before is None or not _is_within(first, image, LARGEST_PUMP):
            self._first = image
            self._begin(time_s)
            return False
        self._pictures += 1
        self._settled += _is_settled(before, image)
        is_long = time_s - self.since_s >= self._after_s
        if is_long and self._settled >= SETTLED_SHARE * self._pictures:
            self._is_frozen = True
        return self._is_frozen

    def _begin(self, time_s: float) -> None:
        """The picture is new at this time."""
        self.since_s = time_s
        self._pictures = self._settled = 0
        self._is_frozen = False


def _is_within(one: np.ndarray, other: np.ndarray, levels: int) -> bool:
    if one.shape != other.shape:
        return False
    sampled, also = (np.ascontiguousarray(image[::STEP_PX, ::STEP_PX]) for image in (one, other))
    return _largest_difference(sampled, also) <= levels and _largest_difference(one, other) <= levels


def _is_settled(before: np.ndarray, image: np.ndarray) -> bool:
    cv2 = opencv()
    return _is_within(before, image, SETTLED_LEVELS) and cv2.norm(before, image, cv2.NORM_L1) <= SETTLED_MEAN * image.size


def _largest_difference(one: np.ndarray, other: np.ndarray) -> float:
    cv2 = opencv()
    return float(cv2.norm(one, other, cv2.NORM_INF))


def _is_one_colour(image: np.ndarray) -> bool:
    sample = image[::STEP_PX, ::STEP_PX].reshape(-1, image.shape[2])
    spread = sample.max(axis=0).astype(int) - sample.min(axis=0)
    if spread.max() > LARGEST_SPREAD:
        return False
    pixels = image.reshape(-1, image.shape[2])
    return bool((pixels.max(axis=0).astype(int) - pixels.min(axis=0)).max() <= LARGEST_SPREAD)
