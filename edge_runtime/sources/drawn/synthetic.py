"""The built-in camera `synthetic:`: people on a walkway and, now and then, something that does not belong there.

It needs no footage, is the same on every machine for the same seed, and knows its own truth.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import numpy as np

from edge_runtime.errors import ConfigError
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.optional.opencv import opencv
from edge_runtime.sources.drawn.canvas import WIDTH, Canvas
from edge_runtime.sources.drawn.figures import ASPECTS, FARTHEST_Y, NEAREST_Y, Actor, draw_actor, person_height
from edge_runtime.sources.drawn.scene import background, draw_lamp

__all__ = ["SceneOptions", "SyntheticSource", "synthetic_clips"]

# Heights of a person per second; an average walker does 0.47.
SPEEDS = {
    "walker": (0.42, 0.52),
    "runner": (1.38, 1.52),
    "flailing": (1.4, 1.5),
    "cyclist": (1.6, 1.85),
    "cart": (1.5, 1.7),
}
ANOMALIES = ("cyclist", "cart", "runner", "flailing")
VISIBLE_SHARE = 1 / 3
MOST_WALKERS = 5
WARM_UP_S = 30.0  # longer than any walker needs to cross, so that the first frame is already populated
NOISE_LEVELS, NOISE_MARGIN_PX = 1.8, 64

UPPER = (
    (60, 60, 150),
    (150, 96, 52),
    (70, 120, 70),
    (190, 190, 186),
    (60, 58, 62),
    (70, 150, 196),
    (140, 90, 120),
    (168, 150, 96),
)
LOWER = ((96, 66, 44), (58, 56, 58), (92, 104, 116), (70, 60, 78), (110, 92, 66))
SKIN = ((148, 178, 214), (118, 150, 190), (78, 106, 148), (56, 76, 110))
HAIR = ((34, 36, 44), (48, 66, 92), (60, 100, 140), (140, 142, 146))


@dataclass(frozen=True)
class SceneOptions:
    """What a `synthetic:` URI may say.

    Attributes:
        seed: chooses the people and events; the place is always the same.
        frames: length of one round.
        anomalies: whether anything anomalous happens.
        width, height: of the picture in pixels.
        fps: frames per second; the scene takes the same time at any rate.
    """

    seed: int = 0
    frames: int = 400
    anomalies: bool = True
    width: int = 320
    height: int = 240
    fps: float = 15.0


class SyntheticSource:
    """A fixed camera over a walkway, drawn.

    Attributes:
        uri, fps, frame_count, is_live: as `Source` says.
    """

    is_live = False

    def __init__(self, uri: str, options: SceneOptions, *, loop: bool = False, stream: str | None = None) -> None:
        self.uri = uri
        self.fps = options.fps
        self.frame_count = None if loop else options.frames
        self._options = options
        self._loop = loop
        self.stream = stream or "synthetic"

    @classmethod
    def from_uri(cls, uri: str, *, fps: float | None = None, loop: bool = False, stream: str | None = None) -> SyntheticSource:
        """Open `synthetic:` or, for example, `synthetic:?seed=7&frames=400&anomalies=off`.

        Args:
            uri: the keys are the attributes of `SceneOptions`.
            fps: frames per second, instead of the URI's.
            loop: begin again after the last frame, with a gap between the rounds.
            stream: name of the stream, "synthetic" where None.

        Raises:
            ConfigError: an unknown key or a bad value.
        """
        options = _options(uri, _pairs(uri))
        if fps is not None:
            options = replace(options, fps=_value(uri, "fps", str(fps)))
        return cls(uri, options, loop=loop, stream=stream)

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        gap: Gap | None = Gap(GapKind.START, "start")
        while True:
            for image, truth in _play(self._options):
                yield Frame(image, index, index / self.fps, time.time(), self.stream, gap, truth)
                index += 1
                gap = None
            if not self._loop:
                return
            gap = Gap(GapKind.LOOP, "loop")

    def close(self) -> None:
        """Nothing to do: nothing is open."""


def synthetic_clips(uri: str) -> list[str]:
    """Expand `synthetic:?clips=16&seed=100` to sixteen URIs with the seeds 100 to 115; without `clips`, the URI itself.

    Raises:
        ConfigError: an unknown key or a bad value.
    """
    pairs = _pairs(uri)
    text = pairs.pop("clips", None)
    first = _options(uri, pairs).seed
    if text is None:
        return [uri]
    clips = _value(uri, "clips", text)
    return ["synthetic:?" + urlencode({**pairs, "seed": first + number}) for number in range(clips)]


def _pairs(uri: str) -> dict[str, str]:
    """The keys of a URI and what they are set to."""
    address, _, query = uri.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    if address != "synthetic:" or len(dict(pairs)) != len(pairs):
        raise ConfigError(f"{uri}: expected 'synthetic:?key=value&…' with each key once; {_VALID_KEYS}.")
    return dict(pairs)


def _options(uri: str, pairs: dict[str, str]) -> SceneOptions:
    for key in pairs:
        if key == "clips":
            raise ConfigError(f"{uri}: expected one clip, 'clips' names several. Open each by its seed; {_VALID_KEYS}.")
        if key not in _READERS:
            raise ConfigError(f"{uri}: unknown key '{key}'; {_VALID_KEYS}.")
    return SceneOptions(**{key: _value(uri, key, text) for key, text in pairs.items()})


def _value(uri: str, key: str, text: str) -> Any:
    expected, read = _READERS[key]
    try:
        return read(text)
    except (ValueError, KeyError):
        raise ConfigError(f"{uri}: {key}: expected {expected}, got '{text}'; {_VALID_KEYS}.") from None


def _whole(least: int, most: int) -> tuple[str, Callable[[str], int]]:
    def read(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError
        return value

    return f"a whole number from {least} to {most}", read


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "seed": _whole(0, 2**31),
    "frames": _whole(1, 10**9),
    "anomalies": ("on or off", {"on": True, "off": False}.__getitem__),
    "width": _whole(32, 4096),
    "height": _whole(32, 4096),
    "fps": ("a positive number", _rate),
    "clips": _whole(1, 10_000),
}
_VALID_KEYS = "valid keys: " + ", ".join(option.name for option in fields(SceneOptions))


def _play(options: SceneOptions) -> Iterator[tuple[np.ndarray, bool]]:
    """One round: images, (H, W, 3) uint8 BGR, and whether something anomalous is in view."""
    cv2 = opencv()
    place = background(options.width, options.height)
    noise = _noise(options.width, options.height)
    # One generator each, so that turning anomalies off leaves everything else as it is.
    walker_rng, event_rng, noise_rng = (np.random.default_rng([options.seed, part]) for part in range(3))
    casts = [_Cast(walkers(walker_rng))]
    if options.anomalies:
        casts.append(_Cast(events(event_rng)))
    light_phase = noise_rng.uniform(0, 2 * math.pi)
    for number in range(options.frames):
        time_s = number / options.fps
        actors = [actor for cast in casts for actor in cast.on_stage(time_s)]
        canvas = Canvas(place.copy())
        for actor in sorted(actors, key=lambda actor: actor.feet(time_s)[1]):
            draw_actor(canvas, actor, time_s)
        draw_lamp(canvas)
        soft = cv2.GaussianBlur(canvas.image, (3, 3), 0)
        row, column = noise_rng.integers(0, NOISE_MARGIN_PX, 2)
        grain = noise[row : row + options.height, column : column + options.width]
        light = 1 + 0.03 * math.sin(2 * math.pi * time_s / 45 + light_phase)
        yield (
            cv2.addWeighted(soft, light, grain, 1.0, -128.0),
            any(actor.is_anomalous and actor.visible_share(time_s) >= VISIBLE_SHARE for actor in actors),
        )


def _noise(width: int, height: int) -> np.ndarray:
    """Sensor noise around 128, larger than the picture: each frame takes it at another place; uint8."""
    rng = np.random.default_rng(0)
    shape = (height + NOISE_MARGIN_PX, width + NOISE_MARGIN_PX)
    brightness = rng.normal(128, NOISE_LEVELS, (*shape, 1))
    colour = rng.normal(0, NOISE_LEVELS / 3, (*shape, 3))
    return np.rint(brightness + colour).astype(np.uint8)


class _Cast:
    """Those of an endless row of actors who are on their way at a time; times may only grow."""

    def __init__(self, actors: Iterator[Actor]) -> None:
        self._actors = actors
        self._next = next(actors)
        self._present: list[Actor] = []

    def on_stage(self, time_s: float) -> list[Actor]:
        while self._next.start_s <= time_s:
            self._present.append(self._next)
            self._next = next(self._actors)
        self._present = [actor for actor in self._present if actor.end_s > time_s]
        return self._present


def walkers(rng: np.random.Generator) -> Iterator[Actor]:
    """Walkers without end, a few of them in view at any time, in the order in which they set out."""
    time_s = -WARM_UP_S
    ends_s: list[float] = []
    while True:
        time_s += rng.uniform(2.0, 4.0)
        ends_s = [end_s for end_s in ends_s if end_s > time_s]
        if len(ends_s) < MOST_WALKERS:
            actor = _actor(rng, "walker", time_s, FARTHEST_Y)
            ends_s.append(actor.end_s)
            yield actor


def events(rng: np.random.Generator) -> Iterator[Actor]:
    """Anomalous actors without end, one at a time, every kind once before one comes again."""
    time_s = rng.uniform(3.2, 5.5)
    while True:
        for kind in rng.permutation(ANOMALIES):
            actor = _actor(rng, str(kind), time_s, 172.0)  # near ones are fast enough to be gone within five seconds
            yield actor
            time_s = actor.end_s + rng.uniform(2.8, 6.0)


def _actor(rng: np.random.Generator, kind: str, start_s: float, farthest_y: float) -> Actor:
    """Someone who crosses the picture from one side to the other, straight or diagonally."""
    start_y, other_y = rng.uniform(farthest_y, NEAREST_Y - 4, 2)
    end_y = other_y if rng.random() < 0.35 else start_y
    height = person_height((start_y + end_y) / 2)
    margin = person_height(max(start_y, end_y)) * (0.6 * ASPECTS[kind] + 0.05)  # a bit more than half the box
    xs = (-margin, WIDTH + margin)
    start_x, end_x = xs if rng.random() < 0.5 else xs[::-1]
    speed = height * rng.uniform(*SPEEDS[kind])
    upper, lower, skin, hair = (colours[rng.integers(len(colours))] for colours in (UPPER, LOWER, SKIN, HAIR))
    return Actor(
        kind=kind,
        start_s=start_s,
        end_s=start_s + (WIDTH + 2 * margin) / speed,
        start=(start_x, start_y),
        end=(end_x, end_y),
        build=rng.uniform(0.95, 1.05),
        phase=rng.uniform(0, 2 * math.pi),
        upper=upper,
        lower=lower,
        skin=skin,
        hair=hair,
    )
