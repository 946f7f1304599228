"""Anomalies made from normal footage, to choose settings without looking at a test label.

For a few seconds a part of the picture plays several times too fast: whatever walks there runs. The rest stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.clips import split_at_gaps
from edge_runtime.frames import Frame

__all__ = ["PAUSE_S", "FastForward", "add_fast_forwards", "random_frames"]

EVENT_S = (2.0, 4.0)
PAUSE_S = (3.0, 5.0)
SPEEDS = (2, 3, 4, 5)
SIDE = (0.2, 0.4)
FEATHER = 0.15


@dataclass(frozen=True)
class FastForward:
    """From frame `start` to before `stop`, the box at (top, left) of height x width pixels plays `speed` times as fast."""

    start: int
    stop: int
    speed: int
    top: int
    left: int
    height: int
    width: int


def add_fast_forwards(frames: Sequence[Frame], fps: float, rng: np.random.Generator) -> list[Frame]:
    """A clip in which something happens now and then; its frames know the truth. Nothing reaches over a gap.

    Args:
        frames: a normal clip, all of one size.
        fps: its frame rate.
        rng: chooses when, where and how fast.

    Returns:
        As many frames, with `truth` set.
    """
    activity = _activity(frames)
    return [frame for stretch in split_at_gaps(frames) for frame in _change(stretch, activity, fps, rng)]


def random_frames(rng: np.random.Generator, bounds: tuple[float, float], fps: float) -> int:
    """How many frames make a time between two bounds in seconds; 1 or more."""
    return max(int(rng.uniform(*bounds) * fps), 1)


def _change(frames: Sequence[Frame], activity: np.ndarray, fps: float, rng: np.random.Generator) -> list[Frame]:
    changed = [replace(frame, truth=False) for frame in frames]
    at = random_frames(rng, PAUSE_S, fps)
    while at < len(frames):
        event = _choose(at, len(frames), activity, fps, rng)
        for i in range(event.start, event.stop):
            changed[i] = replace(frames[i], image=_paste(frames, i, event), truth=True)
        at = event.stop + random_frames(rng, PAUSE_S, fps)
    return changed


def _activity(frames: Sequence[Frame]) -> np.ndarray:
    """(H, W) how much each pixel changes over the clip, as a probability: events belong where something moves."""
    sample = np.stack([frame.image.mean(axis=2) for frame in frames[:: max(len(frames) // 32, 1)]])
    spread = sample.std(axis=0) + 1e-6
    return np.asarray(spread / spread.sum())


def _choose(start: int, count: int, activity: np.ndarray, fps: float, rng: np.random.Generator) -> FastForward:
    rows, columns = activity.shape
    height, width = (max(int(rng.uniform(*SIDE) * side), 8) for side in (rows, columns))
    row, column = divmod(int(rng.choice(activity.size, p=activity.ravel())), columns)
    return FastForward(
        start=start,
        stop=min(start + random_frames(rng, EVENT_S, fps), count),
        speed=int(rng.choice(SPEEDS)),
        top=int(np.clip(row - height // 2, 0, max(rows - height, 0))),
        left=int(np.clip(column - width // 2, 0, max(columns - width, 0))),
        height=min(height, rows),
        width=min(width, columns),
    )


def _paste(frames: Sequence[Frame], i: int, event: FastForward) -> np.ndarray:
    """Frame i with the box from a later frame, soft at its edge; the stretch plays back and forth where it ends."""
    ahead = event.start + (i - event.start) * event.speed
    turn = 2 * (len(frames) - 1)
    ahead = turn - ahead % turn if ahead % turn >= len(frames) else ahead % turn
    box = np.s_[event.top : event.top + event.height, event.left : event.left + event.width]
    image = frames[i].image.copy()
    mask = _soft_box(event.height, event.width)[..., None]
    image[box] = np.rint(mask * frames[ahead].image[box] + (1 - mask) * image[box]).astype(np.uint8)
    return image


def _soft_box(height: int, width: int) -> np.ndarray:
    """(height, width) float in [0, 1]: 1 inside, falling to 0 towards the edge."""
    ramps = []
    for side in (height, width):
        edge = np.minimum(np.arange(side), np.arange(side)[::-1]) / max(FEATHER * side, 1)
        ramps.append(np.clip(edge, 0, 1))
    return np.minimum.outer(*ramps)
