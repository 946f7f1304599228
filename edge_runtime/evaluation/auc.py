"""Area under the ROC curve: how often an anomalous frame scores higher than a normal one."""

from __future__ import annotations

import numpy as np

from edge_runtime.errors import ConfigError, ShapeError

__all__ = ["mid_ranks", "roc_auc"]


def roc_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of (anomalous, normal) pairs of frames in which the anomalous one scores higher, in percent.

    A pair with equal scores counts half.

    Args:
        scores: (N,) larger is more anomalous.
        labels: (N,) bool, True where anomalous.

    Raises:
        ShapeError: the arrays are not (N,) and (N,) bool, or a score is NaN.
        ConfigError: all frames are of one class.
    """
    _check_scores(scores, labels)
    anomalous = int(labels.sum())
    normal = labels.size - anomalous
    if not anomalous or not normal:
        raise ConfigError(
            f"AUC: expected anomalous and normal frames, got {anomalous} anomalous and {normal} normal. "
            "Check the labels, or add clips of the other kind."
        )
    rank_sum = float(mid_ranks(scores)[labels].sum())
    pairs_won = rank_sum - anomalous * (anomalous + 1) / 2
    return 100.0 * pairs_won / (anomalous * normal)


def mid_ranks(values: np.ndarray) -> np.ndarray:
    """1-based ranks of (N,) values; equal ones share the mean of their ranks."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)  # (groups,)
    ranks: np.ndarray = (last_rank - (counts - 1) / 2)[group]
    return ranks


def _check_scores(scores: np.ndarray, labels: np.ndarray) -> None:
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ShapeError(
            f"AUC: expected scores (N,) and labels (N,), got {scores.shape} and {labels.shape}. Give one label per scored frame."
        )
    if labels.dtype != np.bool_:
        raise ShapeError(f"AUC, labels: expected bool, got {labels.dtype}. Compare first, for example: labels == 1")
    missing = np.flatnonzero(np.isnan(scores))
    if missing.size:
        raise ShapeError(
            f"AUC, scores: expected numbers, got NaN at {missing.size} of {scores.size} (first: {missing[0]}). "
            "Leave out frames without a score."
        )
