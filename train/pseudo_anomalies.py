"""Windows of normal footage made too fast, so that a model does not learn to go along with what is too fast.

The past of a window, or of a box in it, plays several times too fast and ends with the frame it always ended with. The target stays what
followed at normal speed, so the loss is the usual one, and bounded. What is fast is then predicted as if it were not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from train.config import PseudoAnomalyConfig

__all__ = ["quicken", "quicken_some"]

SIDE = (0.2, 0.5)
FEATHER = 0.15


def quicken_some(
    windows: Tensor, clips: Sequence[Tensor], starts: np.ndarray, frames: int, config: PseudoAnomalyConfig, rng: np.random.Generator
) -> Tensor:
    """Make a share of the windows too fast, in place. One that lies too close to its clip's beginning stays as it is.

    Args:
        windows: (B, span, C, h, w) uint8; its first `frames` are the model's input, the others stay as they are.
        clips: what the windows were cut from, each (N, C, h, w) uint8.
        starts: (B, 2) clip and first frame of each window.
        frames: T, 2 or more.
        rng: chooses which, how fast and where.

    Returns:
        (B,) bool, the windows that are too fast now.
    """
    is_fast = torch.zeros(len(windows), dtype=torch.bool, device=windows.device)
    for at, (window, (clip, start)) in enumerate(zip(windows, starts.tolist(), strict=True)):
        if rng.random() >= config.share:
            continue
        last, steps = start + frames - 1, frames - 1
        speeds = [speed for speed in config.speeds if speed * steps <= last]
        if not speeds:
            continue
        speed = int(rng.choice(speeds))
        past = clips[clip][last - speed * steps : last + 1 : speed]
        mask = _draw_box(window[:frames], rng) if rng.random() < config.box_share else np.ones(window.shape[-2:])
        window[:frames] = quicken(window[:frames], past, torch.from_numpy(mask).to(window.device))
        is_fast[at] = True
    return is_fast


def quicken(window: Tensor, past: Tensor, mask: Tensor) -> Tensor:
    """Blend a fast past into a window.

    Args:
        window, past: (T, C, h, w) uint8.
        mask: (h, w) in [0, 1]: how much of the past there is.

    Returns:
        (T, C, h, w) uint8.
    """
    return (mask * past + (1 - mask) * window).round().to(torch.uint8)


def _draw_box(window: Tensor, rng: np.random.Generator) -> np.ndarray:
    """(h, w) float: 1 inside a box around something that moves, 0 outside, soft between."""
    height, width = window.shape[-2:]
    change = ((window[-1].double() - window[0]).sum(dim=0) ** 2 + 1).cpu().numpy()
    row, column = divmod(int(rng.choice(change.size, p=(change / change.sum()).ravel())), width)
    return np.outer(_soft_span(row, height, rng), _soft_span(column, width, rng))


def _soft_span(centre: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """(length,) float: 1 around the centre, falling to 0 at either side."""
    size = rng.uniform(*SIDE) * length
    distance = np.abs(np.arange(length) - centre)
    return np.clip((size / 2 - distance) / (FEATHER * size) + 1, 0, 1)
