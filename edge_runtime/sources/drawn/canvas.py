"""Anti-aliased drawing on a picture of 320 x 240 units, whatever its size in pixels."""

from __future__ import annotations

from math import atan2, cos, pi, sin

import numpy as np

from edge_runtime.optional.opencv import opencv

__all__ = ["HEIGHT", "WIDTH", "Canvas", "Colour", "Point"]

Point = tuple[float, float]
Colour = tuple[int, int, int]  # BGR

WIDTH, HEIGHT = 320, 240
SHIFT = 4  # OpenCV takes sixteenths of a pixel, so that slow walkers glide
ROUND_END = np.array([(cos(turn), sin(turn)) for turn in (-pi / 2, -pi / 4, 0, pi / 4, pi / 2)])  # of a limb to the right


class Canvas:
    """Draws in units, anti-aliased, on an image of any size.

    Attributes:
        image: (H, W, 3) uint8 BGR, drawn on in place.
    """

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self._cv2 = opencv()
        self._scale = (image.shape[1] / WIDTH, image.shape[0] / HEIGHT)
        self._fixed_scale = np.array(self._scale) * 2**SHIFT

    def polygon(self, points: list[Point], colour: Colour) -> None:
        """Fill a convex polygon."""
        self._fill(np.array(points), colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def disc(self, centre: Point, radius: float, colour: Colour, *, flat: float = 1.0, width: float | None = None) -> None:
        """Draw an upright ellipse, `flat` times as high as wide; only its outline where a width is given."""
        thickness = -1 if width is None else max(1, round(width * self._scale[0]))
        axes = self._fixed((radius, radius * flat))
        self._cv2.ellipse(self.image, self._fixed(centre), axes, 0, 0, 360, colour, thickness, self._cv2.LINE_AA, SHIFT)

    def limb(self, a: Point, b: Point, width: float, colour: Colour, end_width: float | None = None) -> None:
        """Fill a rounded bar from a to b, `width` wide at a and `end_width` at b."""
        angle = atan2(b[1] - a[1], b[0] - a[0])
        cosine, sine = cos(angle), sin(angle)
        turned = ROUND_END @ np.array(((cosine, sine), (-sine, cosine)))  # (5, 2)
        self._fill(np.vstack((a - turned * (width / 2), b + turned * ((end_width or width) / 2))), colour)

    def shadow(self, centre: Point, radius: float) -> None:
        """Darken the ground in a flat ellipse."""
        (x, y), (right, down) = ((int(v / 2**SHIFT) for v in self._fixed(p)) for p in (centre, (radius, radius * 0.2)))
        rows = slice(max(y - down - 2, 0), max(y + down + 3, 0))
        columns = slice(max(x - right - 2, 0), max(x + right + 3, 0))
        ground = self.image[rows, columns].copy()
        if ground.size:
            self.disc(centre, radius, (38, 36, 34), flat=0.2)
            self.image[rows, columns] = self._cv2.addWeighted(ground, 0.6, self.image[rows, columns], 0.4, 0)

    def _fill(self, points: np.ndarray, colour: Colour) -> None:
        """Fill a convex polygon given as (N, 2) float64."""
        corners = np.rint(points * self._fixed_scale).astype(np.int32)
        self._cv2.fillConvexPoly(self.image, corners, colour, self._cv2.LINE_AA, SHIFT)

    def _fixed(self, point: Point) -> tuple[int, int]:
        return round(point[0] * self._scale[0] * 2**SHIFT), round(point[1] * self._scale[1] * 2**SHIFT)
