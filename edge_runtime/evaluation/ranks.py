"""The order that values have, and how far two orders agree."""

from __future__ import annotations

import numpy as np

__all__ = ["mid_ranks", "rank_correlation"]


def mid_ranks(values: np.ndarray) -> np.ndarray:
    """1-based ranks of (N,) values; equal ones share the mean of their ranks."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)  # (groups,)
    ranks: np.ndarray = (last_rank - (counts - 1) / 2)[group]
    return ranks


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's, equal values sharing their mean rank; 0 where one has no order, None where neither has."""
    ranks = [mid_ranks(values) - (len(values) + 1) / 2 for values in (first, second)]
    lengths = [float(np.sqrt((rank**2).sum())) for rank in ranks]
    if not any(lengths):
        return None
    return float((ranks[0] * ranks[1]).sum() / (lengths[0] * lengths[1])) if all(lengths) else 0.0
