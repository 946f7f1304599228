"""The people and vehicles that cross the synthetic scene."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, pi, sin

from edge_runtime.sources.drawn.canvas import HEIGHT, WIDTH, Canvas, Colour, Point

__all__ = ["ASPECTS", "FARTHEST_Y", "NEAREST_Y", "Actor", "draw_actor", "person_height"]

FARTHEST_Y, NEAREST_Y = 128.0, 218.0  # where feet may stand
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


def draw_actor(canvas: Canvas, actor: Actor, time_s: float) -> None:
    """Draw an actor as it stands at a scene time."""
    feet, height = actor.feet(time_s), actor.height(time_s)
    canvas.shadow(feet, 0.46 * ASPECTS[actor.kind] * height)
    draw = {"cyclist": _draw_cyclist, "cart": _draw_cart}.get(actor.kind, _draw_person)
    draw(canvas, actor, feet, height, actor.stride(time_s))


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
