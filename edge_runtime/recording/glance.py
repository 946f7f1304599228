"""A glance at footage while it is recorded: how bright it is, and whether anything moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_runtime.optional.opencv import opencv

__all__ = ["Glance", "GlanceMeter"]

WIDTH_PX = 160
LOOKS_PER_S = 10  # a walker moves visibly in a tenth of a second, and a faster camera need not cost more
WHITE, BLACK = 250, 5  # grey levels that hold nothing any more
# A pixel of the small picture moved where it changed by more than a codec's and a lamp's doing, and more than six times the
# noise: of 160 x 120 pixels that is not one in years.
LEAST_CHANGE, LEAST_CHANGE_IN_NOISE = 8.0, 6.0
FEWEST_MOVED = 4  # pixels; fewer are a leaf
FARTHEST_SHIFT_PX = 0.5  # of a quarter of the small picture; where nobody walks, a fixed camera stays far below
CLEAREST_SHIFT = 0.3  # phase correlation's response below which it saw no common shift


@dataclass(frozen=True)
class Glance:
    """What came of looking at a clip.

    Attributes:
        mean_luminance: grey level, 0 to 255.
        black_share, white_share: of the pixels, those too dark or too bright to show anything.
        moving_share: of the time, that in which something moved; `shaking_share`: in which the whole picture did.
        repeated_share: of the looks, those that saw the very picture of the look before.
    """

    mean_luminance: float
    black_share: float
    white_share: float
    moving_share: float
    shaking_share: float
    repeated_share: float


class GlanceMeter:
    """Looks at some of a clip's frames, ten a second at most.

    Args:
        fps: frames per second of the clip.
    """

    def __init__(self, fps: float) -> None:
        self._every = max(1, round(fps / LOOKS_PER_S))
        self._frames = 0
        self._before: np.ndarray | None = None
        self._looks = 0
        self._brightness = np.zeros(3)  # sums of what `_brightness` sees
        self._motion = np.zeros(3)  # pairs of looks that saw motion, shaking, repetition

    def look(self, image: np.ndarray) -> None:
        """The clip's next frame, (H, W, 3) uint8 BGR."""
        is_due = self._frames % self._every == 0
        self._frames += 1
        if not is_due:
            return
        step = max(1, image.shape[1] // WIDTH_PX)
        self._looks += 1
        self._brightness += _brightness(image[::step, ::step])
        small = _small_grey(image)
        if self._before is not None:
            self._compare(self._before, small)
        self._before = small

    def result(self) -> Glance:
        """What was seen so far; at least one frame must have been."""
        mean, black, white = (float(value) for value in self._brightness / self._looks)
        moving, shaking, repeated = (float(value) for value in self._motion / max(1, self._looks - 1))
        return Glance(mean, black, white, moving, shaking, repeated)

    def _compare(self, before: np.ndarray, now: np.ndarray) -> None:
        """Two looks in a row: (h, w) float32 grey each."""
        is_moving = _moves(before, now)
        self._motion += (is_moving, is_moving and _shakes(before, now), np.array_equal(before, now))


def _brightness(sample: np.ndarray) -> tuple[float, float, float]:
    """Mean grey level, share of black and share of white pixels of (h, w, 3) uint8; not averaged before: that would hide them."""
    grey = opencv().cvtColor(np.ascontiguousarray(sample), opencv().COLOR_BGR2GRAY)
    return float(grey.mean()), float((grey <= BLACK).mean()), float((grey >= WHITE).mean())


def _small_grey(image: np.ndarray) -> np.ndarray:
    """(h, w) float32, 160 px wide or the picture's own width, smoothed so that noise weighs little."""
    cv2 = opencv()
    width = min(WIDTH_PX, image.shape[1])
    height = max(2, round(image.shape[0] * width / image.shape[1]))
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.blur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32), (3, 3)))


def _moves(before: np.ndarray, now: np.ndarray) -> bool:
    difference = now - before
    difference -= np.median(difference)  # a lamp that flickers, a camera that adjusts, change all of it
    size = np.abs(difference)
    noise = 1.4826 * float(np.median(size))  # of a normal distribution; what moves is the smaller part and does not count
    return int((size > max(LEAST_CHANGE, LEAST_CHANGE_IN_NOISE * noise)).sum()) >= FEWEST_MOVED


def _shakes(before: np.ndarray, now: np.ndarray) -> bool:
    shifted = [_is_shifted(*pair) for pair in zip(_quarters(before), _quarters(now), strict=True)]
    return sum(shifted) >= 3


def _quarters(picture: np.ndarray) -> list[np.ndarray]:
    """Of (h, w): a walker shifts one or two of them, a camera that moves at least three."""
    rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
    return [picture[y : y + rows, x : x + columns] for y in (0, rows) for x in (0, columns)]


def _is_shifted(before: np.ndarray, now: np.ndarray) -> bool:
    cv2 = opencv()
    window = cv2.createHanningWindow(now.shape[::-1], cv2.CV_32F)
    (x, y), response = cv2.phaseCorrelate(before.copy(), now.copy(), window)  # OpenCV 5 multiplies its inputs in place
    return bool(response > CLEAREST_SHIFT and np.hypot(x, y) > FARTHEST_SHIFT_PX)
