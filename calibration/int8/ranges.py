"""The range of a tensor from what it was on some windows, kept as a histogram of its magnitudes.

Symmetric int8 has 127 steps on each side of zero, so a range is one number: the magnitude that becomes 127; what is larger is cut.

| method | range |
|---|---|
| `minmax` | the largest magnitude |
| `percentile` | the magnitude that a share of 0.9999 does not exceed |
| `entropy` | the cut after which 127 steps tell most of the distribution (least Kullback-Leibler divergence, as in TensorRT) |
"""

from __future__ import annotations

import numpy as np

from edge_runtime.errors import BackendError

__all__ = ["METHODS", "Magnitudes"]

METHODS = ("entropy", "percentile", "minmax")
STEPS = 127
BINS = 4096
SHARE = 0.9999
CUTS = 128  # that `entropy` chooses from
SAMPLED = 2**16  # elements of a tensor and window; the largest is sought among all


class Magnitudes:
    """Histogram of the magnitudes of one tensor. Zeros are left out: int8 has a zero.

    Its range doubles when a larger value comes, two bins becoming one: so no value has to be kept, or seen twice.

    Attributes:
        shape: of the tensor.
        largest: magnitude so far.
    """

    def __init__(self, name: str) -> None:
        self.shape: tuple[int, ...] = ()
        self.largest = 0.0
        self._name = name
        self._counts = np.zeros(BINS, np.int64)
        self._end = 0.0
        self._windows = 0

    def add(self, values: np.ndarray) -> None:
        """Count a tensor's values on one more window.

        Raises:
            BackendError: one is not finite.
        """
        largest = max(float(values.max()), -float(values.min()))
        if not np.isfinite(largest):
            raise BackendError(f"tensor '{self._name}': expected finite values in the float32 graph, got {largest}. Make the bundle again.")
        self.shape = values.shape
        self.largest = max(self.largest, largest)
        if largest > 0 and self._end == 0:
            self._end = largest
        while largest > self._end:
            self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self._end *= 2
        every = values.size // SAMPLED | 1  # odd, so that it does not stay in one column
        sample = np.abs(values.reshape(-1)[self._windows % every :: every])
        sample = sample[sample > 0]
        if sample.size:
            at = np.minimum((sample * np.float64(BINS / self._end)).astype(np.int64), BINS - 1)
            self._counts += np.bincount(at, minlength=BINS)
        self._windows += 1

    def range(self, method: str) -> float:
        """The magnitude to be 127 in int8; 0 for a tensor that is zero everywhere."""
        if not self._counts.any():
            return self.largest
        return {"minmax": lambda: self.largest, "percentile": self._percentile, "entropy": self._entropy}[method]()

    def _percentile(self) -> float:
        below = np.cumsum(self._counts)
        at = int(np.searchsorted(below, SHARE * below[-1]))
        return min((at + 1) * self._end / BINS, self.largest)

    def _entropy(self) -> float:
        used = int(np.flatnonzero(self._counts)[-1]) + 1
        if used <= STEPS:  # too few values to tell
            return self.largest
        cuts = np.unique(np.linspace(STEPS, used, CUTS).astype(int))
        losses = [_loss(self._counts, cut) for cut in cuts]
        return min(float(cuts[int(np.argmin(losses))]) * self._end / BINS, self.largest)


def _loss(counts: np.ndarray, cut: int) -> float:
    """Divergence of the first `cut` bins, with all beyond in the last one, from the same bins told in 127 steps."""
    kept = counts[:cut].astype(np.float64)
    wanted = kept.copy()
    wanted[-1] += counts[cut:].sum()
    starts = np.arange(STEPS) * cut // STEPS
    lengths = np.diff([*starts, cut])
    filled = np.add.reduceat((kept > 0).astype(np.float64), starts)
    told = np.repeat(np.add.reduceat(kept, starts) / np.maximum(filled, 1), lengths) * (kept > 0)
    wanted /= wanted.sum()
    told = np.where(told > 0, told, 1e-9)
    told /= told.sum()
    is_there = wanted > 0
    return float((wanted[is_there] * np.log(wanted[is_there] / told[is_there])).sum())
