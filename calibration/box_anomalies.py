"""Anomalies made from normal footage, to choose settings without looking at a test label.

For a few seconds a part of the picture plays several times too fast: whatever walks there runs. The rest stays as it is. A model that
sees one frame at a time cannot tell that; for it, a part of the picture is too large: whatever walks there is a giant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.clips import split_at_gaps
from edge_runtime.frames import Frame
from edge_runtime.optional.opencv import opencv

__all__ = ["PAUSE_S", "FastForward", "Giant", "add_fast_forwards", "add_giants", "random_frames"]

EVENT_S = (2.0, 4.0)
PAUSE_S = (3.0, 5.0)
SPEEDS = (2, 3, 4, 5)
SIZES = (1.5, 3.0)
SIDE = (0.2, 0.4)
FEATHER = 0.15


@dataclass(frozen=True)
class Box:
    """height x width pixels at (top, left), from frame `start` to before `stop`."""

    start: int
    stop: int
    top: int
    left: int
    height: int
    width: int

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Where it lies in an image."""
        return np.s_[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class FastForward:
    """What is in the box plays `speed` times as fast."""

    box: Box
    speed: int

    def picture(self, frames: Sequence[Frame], i: int) -> np.ndarray:
        """The box of a later frame; the stretch plays back and forth where it ends."""
        ahead = self.box.start + (i - self.box.start) * self.speed
        turn = 2 * (len(frames) - 1)
        ahead = turn - ahead % turn if ahead % turn >= len(frames) else ahead % turn
        return frames[ahead].image[self.box.pixels]


@dataclass(frozen=True)
class Giant:
    """What is in the middle of the box fills it, `size` times as large."""

    box: Box
    size: float

    def picture(self, frames: Sequence[Frame], i: int) -> np.ndarray:
        """The middle of the box, enlarged."""
        box = frames[i].image[self.box.pixels]
        height, width = (max(round(side / self.size), 1) for side in box.shape[:2])
        top, left = (box.shape[0] - height) // 2, (box.shape[1] - width) // 2
        return np.asarray(opencv().resize(box[top : top + height, left : left + width], box.shape[1::-1]))


Change = FastForward | Giant


def add_fast_forwards(frames: Sequence[Frame], fps: float, rng: np.random.Generator) -> list[Frame]:
    """A clip in which something happens now and then; its frames know the truth. Nothing reaches over a gap.

    Args:
        frames: a normal clip, all of one size.
        fps: its frame rate.
        rng: chooses when, where and how fast.

    Returns:
        As many frames, with `truth` set.
    """
    return _with_changes(frames, lambda box: FastForward(box, int(rng.choice(SPEEDS))), fps, rng)


def add_giants(frames: Sequence[Frame], fps: float, rng: np.random.Generator) -> list[Frame]:
    """The same, with something that is too large: for models that see one frame at a time."""
    return _with_changes(frames, lambda box: Giant(box, float(rng.uniform(*SIZES))), fps, rng)


def random_frames(rng: np.random.Generator, bounds: tuple[float, float], fps: float) -> int:
    """How many frames make a time between two bounds in seconds; 1 or more."""
    return max(int(rng.uniform(*bounds) * fps), 1)


def _with_changes(frames: Sequence[Frame], make: Callable[[Box], Change], fps: float, rng: np.random.Generator) -> list[Frame]:
    activity = _activity(frames)
    return [frame for stretch in split_at_gaps(frames) for frame in _change(stretch, activity, make, fps, rng)]


def _change(
    frames: Sequence[Frame], activity: np.ndarray, make: Callable[[Box], Change], fps: float, rng: np.random.Generator
) -> list[Frame]:
    changed = [replace(frame, truth=False) for frame in frames]
    at = random_frames(rng, PAUSE_S, fps)
    while at < len(frames):
        change = make(_choose(at, len(frames), activity, fps, rng))
        for i in range(change.box.start, change.box.stop):
            changed[i] = replace(frames[i], image=_paste(frames[i].image, change.picture(frames, i), change.box), truth=True)
        at = change.box.stop + random_frames(rng, PAUSE_S, fps)
    return changed


def _activity(frames: Sequence[Frame]) -> np.ndarray:
    """(H, W) how much each pixel changes over the clip, as a probability: events belong where something moves."""
    sample = np.stack([frame.image.mean(axis=2) for frame in frames[:: max(len(frames) // 32, 1)]])
    spread = sample.std(axis=0) + 1e-6
    return np.asarray(spread / spread.sum())


def _choose(start: int, count: int, activity: np.ndarray, fps: float, rng: np.random.Generator) -> Box:
    rows, columns = activity.shape
    height, width = (max(int(rng.uniform(*SIDE) * side), 8) for side in (rows, columns))
    row, column = divmod(int(rng.choice(activity.size, p=activity.ravel())), columns)
    return Box(
        start=start,
        stop=min(start + random_frames(rng, EVENT_S, fps), count),
        top=int(np.clip(row - height // 2, 0, max(rows - height, 0))),
        left=int(np.clip(column - width // 2, 0, max(columns - width, 0))),
        height=min(height, rows),
        width=min(width, columns),
    )


def _paste(image: np.ndarray, picture: np.ndarray, box: Box) -> np.ndarray:
    """The image (H, W, 3) with a picture (height, width, 3) in the box, soft at its edge."""
    pasted = image.copy()
    mask = _soft_box(box.height, box.width)[..., None]
    pasted[box.pixels] = np.rint(mask * picture + (1 - mask) * pasted[box.pixels]).astype(np.uint8)
    return pasted


def _soft_box(height: int, width: int) -> np.ndarray:
    """(height, width) float in [0, 1]: 1 inside, falling to 0 towards the edge."""
    ramps = []
    for side in (height, width):
        edge = np.minimum(np.arange(side), np.arange(side)[::-1]) / max(FEATHER * side, 1)
        ramps.append(np.clip(edge, 0, 1))
    return np.minimum.outer(*ramps)
