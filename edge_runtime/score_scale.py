"""From a raw quantity to a score with a meaning: −log10 of how rarely normal footage looks at least as odd.

After Doshi & Yilmaz (2020): the nominal statistics come from normal footage, the threshold from a false-alarm rate.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.errors import ConfigError

__all__ = ["MIXTURE", "QUANTITIES", "Mixture", "MovingAverage", "ScoreScale", "Threshold", "oddness", "smooth"]

QUANTITIES = ("local_error", "regular_score", "psnr_db", "query_distance")
MIXTURE = "mixture"
TAIL_PROBABILITY = 0.05
KNOTS = 65


Mixture = Mapping[str, float]
"""Factor by quantity: the mixture is the sum of the quantities, each turned so that odd is high, times its factor."""


@dataclass(frozen=True)
class ScoreScale:
    """The distribution of a smoothed raw quantity on held-out normal footage.

    Up to its 95th percentile the distribution is empirical; above, an exponential tail, so that the score never saturates.

    Attributes:
        quantity: `local_error`, `regular_score`, `psnr_db` (negated: a low PSNR is odd), `query_distance` (mean over the pools), or
            `mixture`.
        smoothing_frames: the quantity is averaged over this many scored frames, the newest included, ≥ 1.
        knots: the quantity at evenly spaced probabilities from 0 to 0.95, not falling.
        tail: how much the quantity grows while its tail probability falls by a factor e, > 0.
        mixture: of which quantities, and how much of each; None unless the quantity is `mixture`.
    """

    quantity: str
    smoothing_frames: int
    knots: tuple[float, ...]
    tail: float
    mixture: dict[str, float] | None = None

    def __post_init__(self) -> None:
        if self.quantity not in (*QUANTITIES, MIXTURE):
            raise ConfigError(f"score scale: expected a quantity of {', '.join((*QUANTITIES, MIXTURE))}, got '{self.quantity}'.")
        _check_mixture(self.quantity, self.mixture)
        if self.smoothing_frames < 1:
            raise ConfigError(f"score scale: expected smoothing over 1 frame or more, got {self.smoothing_frames}.")
        is_rising = len(self.knots) >= 2 and all(a <= b for a, b in zip(self.knots, self.knots[1:], strict=False))
        if not is_rising or not self.tail > 0 or not math.isfinite(self.knots[-1] + self.knots[0] + self.tail):
            raise ConfigError("score scale: expected at least 2 finite, rising knots and a tail above 0. Calibrate again.")

    @classmethod
    def fit(cls, values: np.ndarray, quantity: str, smoothing_frames: int, mixture: Mixture | None = None) -> ScoreScale:
        """Fit to smoothed values of normal footage, (N,) with N ≥ 40.

        Raises:
            ConfigError: too few values, not finite, or all equal: no tail can be seen in them.
        """
        if len(values) < 40:
            raise ConfigError(f"score scale: expected 40 scored frames or more, got {len(values)}. Hold out more footage.")
        if not np.isfinite(values).all():
            raise ConfigError("score scale: expected finite values, got NaN or infinity. Check the bundle's graphs at this precision.")
        knots = np.quantile(values, np.linspace(0, 1 - TAIL_PROBABILITY, KNOTS))
        excess = values[values > knots[-1]] - knots[-1]
        if not len(excess):
            raise ConfigError("score scale: all values of the held-out footage are equal. Is it one frozen picture?")
        return cls(quantity, smoothing_frames, tuple(map(float, knots)), float(excess.mean()), None if mixture is None else dict(mixture))

    def oddness(self, raw: Mapping[str, float]) -> float:
        """The quantity of a frame, odd is high; `raw` has every quantity by name that the model knows."""
        return oddness(self.quantity, raw, self.mixture)

    def score(self, value: float) -> float:
        """−log10 of the tail probability of a smoothed value, ≥ 0; rises with the value, without an upper end."""
        start = self.knots[-1]
        if value >= start:
            return -math.log10(TAIL_PROBABILITY) + (value - start) / self.tail / math.log(10)
        below = float(np.interp(value, self.knots, np.linspace(0, 1 - TAIL_PROBABILITY, len(self.knots))))
        return -math.log10(1 - below)


@dataclass(frozen=True)
class Threshold:
    """The score from which on a frame is anomalous.

    Attributes:
        score: the threshold.
        false_alarms_per_hour: the rate it was chosen for; one `alarm_start` is one alarm.
        is_extrapolated: the held-out footage is too short to have shown that rate; the tail's fit stands in for it.
        hold_s: an alarm ends when the score has been below the threshold for this long, in seconds.
    """

    score: float
    false_alarms_per_hour: float
    is_extrapolated: bool
    hold_s: float


class MovingAverage:
    """Mean of the last values; causal, and empty again after a gap."""

    def __init__(self, frames: int) -> None:
        self._values: deque[float] = deque(maxlen=frames)

    def push(self, value: float) -> float:
        """Add a value; the mean of those there are."""
        self._values.append(value)
        return math.fsum(self._values) / len(self._values)

    def clear(self) -> None:
        """Forget everything before a gap."""
        self._values.clear()


def oddness(quantity: str, raw: Mapping[str, float], mixture: Mixture | None = None) -> float:
    """The raw quantity, turned so that odd is high; of a mixture, the sum of its parts."""
    if mixture is not None:
        return math.fsum(factor * oddness(name, raw) for name, factor in mixture.items())
    return -raw[quantity] if quantity == "psnr_db" else raw[quantity]


def _check_mixture(quantity: str, mixture: Mixture | None) -> None:
    if (quantity == MIXTURE) is not bool(mixture):
        raise ConfigError(
            f"score scale: expected a mixture with the quantity '{MIXTURE}' and with no other, got {mixture} with '{quantity}'."
        )
    for name, factor in (mixture or {}).items():
        if name not in QUANTITIES or not 0 < factor < math.inf:
            raise ConfigError(f"score scale: expected a mixture of {', '.join(QUANTITIES)} with factors above 0, got {name}: {factor}.")


def smooth(values: Sequence[float], frames: int) -> list[float]:
    """A clip's values as the runtime's moving average gives them."""
    average = MovingAverage(frames)
    return [average.push(value) for value in values]
