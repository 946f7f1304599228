"""The picture of the synthetic camera: a fixed place, and the people and vehicles that cross it.

Everything is described on a picture of 320 x 240 units, whatever its size in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import atan2, cos, pi, sin

import numpy as np

from edge_runtime.opencv import opencv

__all__ = [
    "ASPECTS",
    "FARTHEST_Y",
    "HEIGHT",
    "NEAREST_Y",
    "WIDTH",
    "Actor",
    "Canvas",
    "background",
    "draw_actor",
    "draw_lamp",
    "person_height",
]

Point = tuple[float, float]
Colour = tuple[int, int, int]  # BGR

WIDTH, HEIGHT = 320, 240
FARTHEST_Y, NEAREST_Y = 128.0, 218.0  # where feet may stand
PLACE_SEED = 20160  # one camera: the place is the same for all seeds
ASPECTS = {
    "walker": 0.5,
    "runner": 0.7,
    "flailing": 0.8,
    "cyclist": 1.2,
    "cart": 1.95,
}  # width of the box / person's height
RISES = {
    "walker": 1.0,
    "runner": 1.0,
    "flailing": 1.1,
    "cyclist": 1.22,
    "cart": 1.2,
}  # height of the box / person's height
SHIFT = 4  # OpenCV takes sixteenths of a pixel, so that slow walkers glide
ROUND_END = np.array([(cos(turn), sin(turn)) for turn in (-pi / 2, -pi / 4, 0, pi / 4, pi / 2)])  # of a limb to the right
DRIVER_SHIRT = (86, 82, 78)


def person_height(y: float) -> float:
    """Height in units of a person whose feet stand at y: 40 at the far edge of the walkway, 70 at the near one."""
    return 40 + 30 * (y - FARTHEST_Y) / (NEAREST_Y - FARTHEST_Y)


@dataclass(frozen=True)
class Actor:
    """Someone on the way through the picture; start and end lie outside of it.

    Attributes:
        kind: "walker", "runner", "flailing", "cyclist" or "cart".
        start_s, end_s: scene time at which it sets out and is gone.
        start, end: (x, y) of the feet.
        build: its height, relative to the average person.
        phase: where in its stride it sets out, in radians.
        upper, lower, skin, hair: colours; `upper` is also the cart's.
    """

    kind: str
    start_s: float
    end_s: float
    start: Point
    end: Point
    build: float
    phase: float
    upper: Colour
    lower: Colour
    skin: Colour
    hair: Colour

    @property
    def is_anomalous(self) -> bool:
        return self.kind != "walker"

    @property
    def facing(self) -> int:
        """1 to the right, -1 to the left."""
        return 1 if self.end[0] > self.start[0] else -1

    def feet(self, time_s: float) -> Point:
        """(x, y) where it stands."""
        part = (time_s - self.start_s) / (self.end_s - self.start_s)
        x, y = _between(self.start, self.end, part)
        if self.kind == "flailing":
            calm = sin(pi * min(max(part, 0.0), 1.0))  # 0 outside the picture, so that it does not dart in and out
            x += 22 * calm * sin(5.5 * time_s + self.phase)
            y += 9 * calm * sin(9.0 * time_s)
        return x, y

    def height(self, time_s: float) -> float:
        """Height of the person in units, without what it rides."""
        return self.build * person_height(self.feet(time_s)[1])

    def visible_share(self, time_s: float) -> float:
        """Part of its box that lies inside the picture, in [0, 1]."""
        x, y = self.feet(time_s)
        height = self.height(time_s)
        width, rise = ASPECTS[self.kind] * height, RISES[self.kind] * height
        inside_x = min(x + width / 2, WIDTH) - max(x - width / 2, 0)
        inside_y = min(y, HEIGHT) - max(y - rise, 0)
        return max(inside_x, 0) * max(inside_y, 0) / (width * rise)

    def stride(self, time_s: float) -> float:
        """Phase of the legs in radians; it follows the way walked, so that feet do not slide."""
        way = abs(self.end[0] - self.start[0]) * (time_s - self.start_s) / (self.end_s - self.start_s)
        step = {"walker": 0.78, "runner": 1.5, "flailing": 0.9, "cyclist": 1.9, "cart": 1.0}[self.kind]
        return self.phase + 2 * pi * way / (step * self.build * person_height(self.start[1]))


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


def draw_actor(canvas: Canvas, actor: Actor, time_s: float) -> None:
    """Draw an actor as it stands at a scene time."""
    feet, height = actor.feet(time_s), actor.height(time_s)
    canvas.shadow(feet, 0.46 * ASPECTS[actor.kind] * height)
    draw = {"cyclist": _draw_cyclist, "cart": _draw_cart}.get(actor.kind, _draw_person)
    draw(canvas, actor, feet, height, actor.stride(time_s))


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


def _draw_person(canvas: Canvas, actor: Actor, feet: Point, height: float, stride: float) -> None:
    is_fast = actor.kind != "walker"
    swing, lean = (0.75, 0.10) if is_fast else (0.38, 0.02)
    hop = height * (0.05 if is_fast else 0.012) * abs(cos(stride))
    hip = (feet[0], feet[1] - 0.48 * height - hop)
    shoulder = (hip[0] + actor.facing * lean * height, hip[1] - 0.32 * height)
    limbs = []  # far side first
    for side, shade in ((-1, 0.72), (1, 1.0)):
        angle = swing * side * sin(stride)
        bend = (1.5 if is_fast else 0.9) * swing * max(0.0, side * cos(stride)) + 0.05  # a leg bends on its way forward
        limbs.append((angle, bend, shade))
    _draw_arm(canvas, actor, shoulder, height, -limbs[0][0], 0.72)
    for angle, bend, shade in limbs:
        _draw_leg(canvas, actor, hip, height, angle, bend, shade)
    _draw_trunk(canvas, actor, hip, shoulder, height)
    _draw_arm(canvas, actor, shoulder, height, -limbs[1][0], 0.88)


def _draw_leg(canvas: Canvas, actor: Actor, hip: Point, height: float, angle: float, bend: float, shade: float) -> None:
    colour = _shaded(actor.lower, shade)
    knee = _along(hip, 0.24 * height, angle, actor.facing)
    ankle = _along(knee, 0.22 * height, angle - bend, actor.facing)
    toe = (ankle[0] + actor.facing * 0.07 * height, ankle[1] + 0.012 * height)
    canvas.limb(ankle, toe, 0.045 * height, _shaded((44, 42, 46), shade))
    canvas.limb(hip, knee, 0.115 * height, colour, 0.085 * height)
    canvas.limb(knee, ankle, 0.085 * height, colour, 0.055 * height)


def _draw_arm(canvas: Canvas, actor: Actor, shoulder: Point, height: float, angle: float, shade: float) -> None:
    bend = 1.3 if actor.kind == "runner" else 0.25
    if actor.kind == "flailing":
        angle, bend = 2.2 + 1.6 * angle, 0.5
    elbow = _along(shoulder, 0.16 * height, angle, actor.facing)
    hand = _along(elbow, 0.15 * height, angle + bend, actor.facing)
    canvas.limb(shoulder, elbow, 0.075 * height, _shaded(actor.upper, shade), 0.06 * height)
    canvas.limb(elbow, hand, 0.06 * height, _shaded(actor.upper, shade), 0.045 * height)
    canvas.disc(hand, 0.026 * height, _shaded(actor.skin, shade))


def _draw_trunk(canvas: Canvas, actor: Actor, hip: Point, shoulder: Point, height: float) -> None:
    """The torso with a lit side, the neck and the head."""
    waist, chest = _between(hip, shoulder, 0.08), _between(hip, shoulder, 0.86)
    canvas.limb(waist, chest, 0.145 * height, actor.upper, 0.175 * height)
    lit = -0.035 * height
    canvas.limb((waist[0] + lit, waist[1]), (chest[0] + lit, chest[1]), 0.05 * height, _shaded(actor.upper, 1.16))
    head = _between(hip, shoulder, 1.33)
    canvas.limb(shoulder, head, 0.06 * height, _shaded(actor.skin, 0.85))
    canvas.disc((head[0] - actor.facing * 0.008 * height, head[1] - 0.012 * height), 0.066 * height, actor.hair, flat=1.1)
    canvas.disc((head[0] + actor.facing * 0.018 * height, head[1] + 0.014 * height), 0.05 * height, actor.skin, flat=1.12)


def _draw_cyclist(canvas: Canvas, actor: Actor, feet: Point, height: float, stride: float) -> None:
    def at(forward: float, up: float) -> Point:
        return feet[0] + actor.facing * forward * height, feet[1] - up * height

    steel = _shaded(actor.lower, 0.5)
    hub, seat, bar, hip, shoulder = at(0, 0.25), at(-0.12, 0.56), at(0.24, 0.66), at(-0.12, 0.62), at(0.1, 0.95)
    pedals = [(hub[0] + 0.1 * height * cos(stride + turn), hub[1] + 0.1 * height * sin(stride + turn)) for turn in (pi, 0)]
    for wheel in (at(-0.36, 0.22), at(0.36, 0.22)):
        canvas.disc(wheel, 0.215 * height, (40, 40, 42), width=0.035 * height)
        for turn in (0, pi / 3, 2 * pi / 3):
            spoke = (0.2 * height * cos(1.9 * stride + turn), 0.2 * height * sin(1.9 * stride + turn))
            canvas.limb(
                (wheel[0] - spoke[0], wheel[1] - spoke[1]),
                (wheel[0] + spoke[0], wheel[1] + spoke[1]),
                0.5,
                (128, 130, 132),
            )
        canvas.limb(wheel, hub if wheel[0] * actor.facing < feet[0] * actor.facing else bar, 0.035 * height, steel)
    for a, b in ((hub, seat), (hub, at(0.26, 0.52)), (seat, at(0.26, 0.52)), (at(-0.36, 0.22), seat)):
        canvas.limb(a, b, 0.035 * height, steel)
    for pedal, shade in zip(pedals, (0.72, 1.0), strict=True):
        middle = _between(hip, pedal, 0.5)
        knee = (middle[0] + actor.facing * 0.13 * height, middle[1] - 0.03 * height)
        canvas.limb(hip, knee, 0.12 * height, _shaded(actor.lower, shade), 0.09 * height)
        canvas.limb(knee, pedal, 0.085 * height, _shaded(actor.lower, shade), 0.055 * height)
    _draw_trunk(canvas, actor, hip, shoulder, height)
    canvas.limb(_between(hip, shoulder, 0.85), bar, 0.07 * height, _shaded(actor.upper, 0.85), 0.05 * height)


def _draw_cart(canvas: Canvas, actor: Actor, feet: Point, height: float, stride: float) -> None:
    def at(forward: float, up: float) -> Point:
        return feet[0] + actor.facing * forward * height, feet[1] - up * height

    canvas.polygon([at(-0.95, 0.2), at(-0.95, 0.6), at(0.05, 0.6), at(0.05, 0.2)], actor.upper)
    canvas.polygon([at(0.0, 0.18), at(0.0, 0.34), at(0.5, 0.34), at(0.5, 0.18)], _shaded(actor.upper, 0.7))
    canvas.polygon([at(0.45, 0.18), at(0.5, 0.62), at(0.82, 0.5), at(0.95, 0.4), at(0.95, 0.18)], actor.upper)
    canvas.polygon([at(-0.9, 0.52), at(-0.9, 0.57), at(0.0, 0.57), at(0.0, 0.52)], _shaded(actor.upper, 1.2))
    hip, shoulder = at(0.08, 0.5), at(0.06, 0.86)
    canvas.limb(hip, at(0.36, 0.46), 0.12 * height, actor.lower)
    canvas.limb(at(0.36, 0.46), at(0.4, 0.24), 0.09 * height, actor.lower)
    _draw_trunk(canvas, replace(actor, upper=DRIVER_SHIRT), hip, _between(hip, shoulder, 0.85), height)
    canvas.limb(_between(hip, shoulder, 0.7), at(0.42, 0.6), 0.06 * height, _shaded(DRIVER_SHIRT, 0.8))
    for low, high in (((-0.1, 0.55), (-0.1, 1.12)), ((0.5, 0.6), (0.4, 1.12)), ((-0.9, 0.55), (-0.9, 1.12))):
        canvas.limb(at(*low), at(*high), 0.04 * height, (70, 70, 74))
    canvas.limb(at(-0.93, 1.14), at(0.46, 1.14), 0.08 * height, (198, 204, 206))
    canvas.disc(at(0.92, 0.4), 0.04 * height, (190, 226, 236))
    for wheel in (at(-0.6, 0.17), at(0.66, 0.17)):
        canvas.disc(wheel, 0.17 * height, (36, 36, 38))
        canvas.disc(wheel, 0.08 * height, (150, 152, 154))
        canvas.limb(
            wheel,
            (wheel[0] + 0.08 * height * cos(3 * stride), wheel[1] + 0.08 * height * sin(3 * stride)),
            1.0,
            (60, 60, 62),
        )


def _along(start: Point, length: float, angle: float, facing: int) -> Point:
    """The other end of a limb that hangs down at angle 0 and points forward at pi / 2."""
    return start[0] + facing * length * sin(angle), start[1] + length * cos(angle)


def _between(a: Point, b: Point, part: float) -> Point:
    return a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])


def _shaded(colour: Colour, factor: float) -> Colour:
    blue, green, red = (min(255, int(value * factor)) for value in colour)
    return blue, green, red
