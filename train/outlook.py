"""What the log says of a training before hours have gone into it: how far ahead the model will look, and how long it will take."""

from __future__ import annotations

import logging

from train.config import TrainConfig

__all__ = ["PACE_STEPS", "tell_pace", "warn_of_another_horizon"]

log = logging.getLogger(__name__)

PACE_STEPS = 20
FAR = 1.5  # times


def warn_of_another_horizon(config: TrainConfig, fps: float) -> None:
    """Say that footage of another rate than the configuration's makes the model predict another time ahead than it was chosen for.

    Args:
        fps: of the footage. Nothing is said where the configuration has no `data.fps`, or where the model predicts no later frame.
    """
    spec, meant_fps = config.input, config.data.fps
    ahead = spec.target - spec.frames + 1
    if meant_fps is None or ahead < 1 or 1 / FAR <= fps / meant_fps <= FAR:
        return
    target = spec.frames - 1 + max(round(ahead / meant_fps * fps), 1)
    log.warning(
        "warning: the footage has %g frames per second, the configuration is for %g: the model learns to predict %.2g s ahead in place of "
        "%.2g s. Make footage of its rate (edge-record --fps %g, or ffmpeg -i IN -vf fps=%g OUT), or train with input.target = %d and "
        "data.fps = %g in a configuration of your own.",
        *(fps, meant_fps, ahead / fps, ahead / meant_fps, meant_fps, meant_fps, target, fps),
    )


def tell_pace(steps_s: float, steps: int, epochs: int) -> None:
    """Say how long an epoch takes, and all that are left, before the held-out loss of each.

    Args:
        steps_s: seconds that the first `PACE_STEPS` steps took.
        steps: of an epoch.
    """
    epoch_s = steps_s / PACE_STEPS * steps
    takes = (_rough(epoch_s), epochs, _rough(epochs * epoch_s))
    log.info("at the pace of the first %d steps an epoch takes about %s, the %d to come %s", PACE_STEPS, *takes)


def _rough(seconds: float) -> str:
    """A time as people say it: `50 s`, `12 min`, `1.9 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
