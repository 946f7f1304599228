"""How far two orders of the same things agree."""

from __future__ import annotations

import numpy as np

from edge_runtime.evaluation.auc import mid_ranks

__all__ = ["rank_correlation"]


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's, equal values sharing their mean rank; 0 where one has no order, None where neither has."""
    ranks = [mid_ranks(values) - (len(values) + 1) / 2 for values in (first, second)]
    lengths = [float(np.sqrt((rank**2).sum())) for rank in ranks]
    if not any(lengths):
        return None
    return float((ranks[0] * ranks[1]).sum() / (lengths[0] * lengths[1])) if all(lengths) else 0.0
