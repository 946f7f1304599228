"""The place that the synthetic camera sees: fixed, and the same for all seeds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edge_runtime.optional.opencv import opencv
from edge_runtime.sources.drawn.canvas import HEIGHT, WIDTH, Canvas

__all__ = ["background", "draw_lamp"]

PLACE_SEED = 20160  # one camera: the place is the same for all seeds


def draw_lamp(canvas: Canvas) -> None:
    """Draw the lamp post in the foreground, which hides who passes behind it."""
    canvas.shadow((264, 233), 9)
    canvas.limb((264, 233), (264, 24), 4.4, (62, 66, 64), 3.0)
    canvas.limb((263, 232), (263, 24), 1.0, (104, 108, 106))
    canvas.limb((264, 24), (246, 19), 2.4, (62, 66, 64))
    canvas.limb((248, 20), (238, 19), 5.0, (150, 158, 160), 4.0)


def background(width: int, height: int) -> np.ndarray:
    """The empty place: building, hedge, lawn, walkway and a crossing path; (height, width, 3) uint8 BGR."""
    cv2 = opencv()
    return np.array(cv2.resize(_place(), (width, height), interpolation=cv2.INTER_AREA))


@lru_cache(maxsize=1)
def _place() -> np.ndarray:
    """The place at twice its units, (480, 640, 3) uint8."""
    cv2 = opencv()
    rng = np.random.default_rng(PLACE_SEED)
    canvas = Canvas(np.full((2 * HEIGHT, 2 * WIDTH, 3), (74, 116, 98), np.uint8))  # lawn
    _draw_ground(canvas)
    texture = _grain(rng, 2, 5.0) + _grain(rng, 9, 5.0) + _grain(rng, 60, 4.0)  # (480, 640, 1)
    canvas.image[:] = np.clip(canvas.image + texture, 0, 255)
    _draw_hedge(canvas, rng)
    _draw_building(canvas)
    for x in (22, 74, 126, 178, 290):  # bollards along the far kerb
        canvas.shadow((x, 115), 4)
        canvas.limb((x, 114), (x, 101), 3.4, (70, 72, 78))
        canvas.limb((x - 0.8, 113), (x - 0.8, 102), 1.0, (128, 130, 134))
    y, x = np.mgrid[-1:1:480j, -1:1:640j]
    light = 1.03 - 0.10 * (x**2 + y**2) + 0.05 * y + _grain(rng, 3, 0.012)[..., 0]  # (480, 640): darker corners
    shaded = np.clip(canvas.image * light[..., None], 0, 255).astype(np.uint8)
    return np.array(cv2.GaussianBlur(shaded, (3, 3), 0))


def _grain(rng: np.random.Generator, size: int, strength: float) -> np.ndarray:
    """Smooth noise with spots of about `size` pixels, (480, 640, 1) float64."""
    cv2 = opencv()
    coarse = rng.normal(0, strength, (480 // size + 2, 640 // size + 2))
    return np.array(cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC))[..., None]


def _draw_ground(canvas: Canvas) -> None:
    canvas.polygon([(204, 70), (236, 70), (228, 114), (184, 114)], (128, 146, 156))  # path to the door
    canvas.box(0, 112, 320, 224, (146, 152, 154))
    canvas.polygon([(184, 114), (228, 114), (130, 224), (40, 224)], (132, 146, 156))  # and across the walkway
    canvas.polygon([(40, 224), (130, 224), (112, 240), (14, 240)], (126, 140, 150))
    for row in range(8):  # joints of the paving, denser far away
        y = 112 + 112 * (row / 8) ** 1.35
        canvas.limb((0, y), (320, y), 0.9, (122, 128, 130))
    for column in range(-14, 32):
        x = 20.0 * column
        canvas.limb((160 + (x - 160) * 0.62, 112), (x, 224), 0.8, (126, 132, 134))
    canvas.box(0, 110, 320, 113, (176, 180, 180))  # kerbs
    canvas.box(0, 113, 320, 114.5, (98, 102, 104))
    canvas.box(0, 223, 320, 226, (172, 176, 176))
    canvas.box(0, 226, 320, 227.5, (84, 98, 90))


def _draw_hedge(canvas: Canvas, rng: np.random.Generator) -> None:
    canvas.box(0, 0, 200, 66, (46, 72, 58))
    for x, y, radius, tone in zip(
        rng.uniform(-5, 196, 420),
        np.sort(rng.uniform(-6, 74, 420)),
        rng.uniform(3, 9, 420),
        rng.uniform(0.7, 1.25, 420),
        strict=True,
    ):
        canvas.disc((x, y), radius, (int(48 * tone), int(80 * tone), int(62 * tone)), flat=0.8)
    canvas.limb((0, 82), (192, 82), 3.0, (44, 66, 56))


def _draw_building(canvas: Canvas) -> None:
    canvas.box(186, 0, 320, 72, (112, 132, 158))
    for row in range(0, 72, 4):
        canvas.limb((186, row), (320, row), 0.6, (104, 122, 146))
    canvas.box(186, 0, 190, 72, (134, 152, 174))
    for x in (246, 284):
        for y in (-14, 24):
            canvas.box(x - 1.5, y - 1.5, x + 25.5, y + 29.5, (168, 178, 184))
            canvas.box(x, y, x + 24, y + 28, (88, 80, 70))
            canvas.polygon([(x, y + 28), (x, y + 14), (x + 16, y), (x + 24, y)], (112, 102, 90))
            canvas.box(x + 11, y, x + 13, y + 28, (168, 178, 184))
    canvas.box(206, 26, 234, 72, (160, 170, 176))
    canvas.box(209, 29, 231, 72, (66, 62, 74))
    canvas.box(219.5, 29, 220.5, 72, (112, 110, 118))
    canvas.box(186, 68, 206, 73, (96, 104, 112))
    canvas.box(234, 68, 320, 73, (96, 104, 112))
