"""Windows of normal footage to measure ranges on: spread over its time and over what is seen in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from calibration.clips import NormalClip, read_frames
from edge_runtime.bundle import Bundle
from edge_runtime.devices.host import HostDevice
from edge_runtime.errors import ConfigError
from edge_runtime.stream import Arrays

__all__ = ["ChosenWindows", "choose_windows", "read_windows"]

FEWEST = 8
CELLS = 8  # along each side of the picture, to tell what is seen


@dataclass(frozen=True)
class ChosenWindows:
    """Windows of clips, in the footage's order.

    Attributes:
        clips: those that a window was chosen from.
        frames: by clip, the last frame of each chosen window, rising.
        sha256: of all pixels in them.
        repeated: windows that show exactly what another one shows; none of them is chosen.
    """

    clips: tuple[NormalClip, ...]
    frames: dict[str, tuple[int, ...]]
    sha256: str
    repeated: int

    def __len__(self) -> int:
        return sum(map(len, self.frames.values()))


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is known of a window: its place, its pixels' digest, and a coarse picture (N,) of it and of the motion in it."""

    clip: int
    frame: int
    digest: bytes
    look: np.ndarray


def choose_windows(bundle: Bundle, clips: Sequence[NormalClip], count: int, seed: int) -> ChosenWindows:
    """Choose half of the windows evenly over the time, and the others where they look least like those chosen before.

    Raises:
        ConfigError: fewer than 8 windows, or fewer that differ.
    """
    if count < FEWEST:
        raise ConfigError(f"windows: expected at least {FEWEST}, got {count}. 256 is usual: CLIPS=256")
    found = list(_look_through(bundle, clips))
    distinct = list({seen.digest: seen for seen in reversed(found)}.values())[::-1]  # the first of equals
    if len(distinct) < FEWEST:
        raise ConfigError(
            f"int8: expected at least {FEWEST} different windows of {bundle.manifest.input.span} frames, got {len(distinct)} "
            f"(and {len(found) - len(distinct)} that repeat one of them). Take longer footage, in which something moves."
        )
    chosen = [distinct[i] for i in _spread(distinct, min(count, len(distinct)), np.random.default_rng(seed))]
    frames = {clip.name: tuple(seen.frame for seen in chosen if seen.clip == i) for i, clip in enumerate(clips)}
    taken = tuple(clip for clip in clips if frames[clip.name])
    digest = hashlib.sha256(b"".join(seen.digest for seen in chosen)).hexdigest()
    return ChosenWindows(taken, {clip.name: frames[clip.name] for clip in taken}, digest, len(found) - len(distinct))


def read_windows(bundle: Bundle, clip: NormalClip, frames: Sequence[int] | None = None) -> Iterator[tuple[int, Arrays]]:
    """The last frame of each window of a clip, with `clip` (1, T, C, h, w) and `target` (1, C, h, w), valid until the next one.

    Args:
        frames: the last frames to stop at, rising; None: every window.
    """
    wanted = None if frames is None else set(frames)
    stream = HostDevice().open_stream(bundle, clip.name, smoothing_frames=1)
    for frame in read_frames(clip, bundle.manifest.fps):
        if stream.push(frame).target is not None and (wanted is None or frame.index in wanted):
            yield frame.index, stream.ring.view(stream.window.start)
        if frames and frame.index >= frames[-1]:
            return


def _look_through(bundle: Bundle, clips: Sequence[NormalClip]) -> Iterator[_Seen]:
    for i, clip in enumerate(clips):
        for frame, window in read_windows(bundle, clip):
            digest = hashlib.sha256(window["clip"].tobytes())
            digest.update(window["target"].tobytes())
            motion = np.abs(window["target"][0] - window["clip"][0, 0])
            yield _Seen(i, frame, digest.digest(), np.concatenate([_coarse(window["target"][0]), _coarse(motion)]))


def _coarse(image: np.ndarray) -> np.ndarray:
    """(C, h, w) to the means of at most 8 x 8 cells, (N,)."""
    _, height, width = image.shape
    rows, columns = min(CELLS, height), min(CELLS, width)
    cut = image[:, : height // rows * rows, : width // columns * columns]
    return np.asarray(cut.reshape(-1, rows, height // rows, columns, width // columns).mean(axis=(0, 2, 4)).reshape(-1))


def _spread(seen: Sequence[_Seen], count: int, rng: np.random.Generator) -> list[int]:
    """Indices, rising: one of each stretch of time, then always the one that is furthest from all that are chosen."""
    edges = np.linspace(0, len(seen), count // 2 + 1).astype(int)
    chosen = [int(rng.integers(low, high)) for low, high in pairwise(edges)]
    looks = np.stack([one.look for one in seen])
    away = np.min([_distances(looks, looks[i]) for i in chosen], axis=0)
    while len(chosen) < count:
        away[chosen] = -1
        furthest = int(away.argmax())
        chosen.append(furthest)
        away = np.minimum(away, _distances(looks, looks[furthest]))
    return sorted(chosen)


def _distances(looks: np.ndarray, one: np.ndarray) -> np.ndarray:
    difference = looks - one
    return np.asarray(np.einsum("nd,nd->n", difference, difference))
