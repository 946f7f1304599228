from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.errors import ConfigError, ShapeError
from edge_runtime.evaluation import roc_auc
from tests.kit.wording import raises

LABELS = np.array([False, False, True, True])


def test_a_perfect_order_is_100_and_its_opposite_0() -> None:
    assert roc_auc(np.array([1.0, 2, 3, 4]), LABELS) == 100.0
    assert roc_auc(np.array([4.0, 3, 2, 1]), LABELS) == 0.0


def test_three_of_four_pairs_in_order_are_75() -> None:
    assert roc_auc(np.array([1.0, 3, 2, 4]), LABELS) == 75.0


def test_a_tie_counts_half() -> None:
    assert roc_auc(np.array([1.0, 2, 2, 3]), LABELS) == 87.5
    assert roc_auc(np.zeros(4), LABELS) == 50.0


def test_infinite_scores_have_a_rank() -> None:
    assert roc_auc(np.array([-np.inf, 0, 1, np.inf]), LABELS) == 100.0


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_sklearn_on_scores_with_ties(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    labels = rng.random(1000) < 0.3
    scores = np.round(rng.normal(size=1000) + labels, 1)
    assert roc_auc(scores, labels) == pytest.approx(100 * metrics.roc_auc_score(labels, scores), abs=1e-9)


def test_one_class_has_no_auc() -> None:
    with raises(ConfigError, "0 anomalous … 4 normal"):
        roc_auc(np.arange(4.0), np.zeros(4, bool))
    with raises(ConfigError, "4 anomalous … 0 normal"):
        roc_auc(np.arange(4.0), np.ones(4, bool))


def test_no_frames_have_no_auc() -> None:
    with raises(ConfigError, "0 anomalous … 0 normal"):
        roc_auc(np.empty(0), np.empty(0, bool))


def test_nan_scores_are_refused() -> None:
    with raises(ShapeError, "NaN … 1 of 4 … 2"):
        roc_auc(np.array([0, 1, np.nan, 2]), LABELS)


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    with raises(ShapeError, "(3,) … (4,)"):
        roc_auc(np.zeros(3), LABELS)
    with raises(ShapeError, f"bool … {np.arange(4).dtype}"):
        roc_auc(np.zeros(4), LABELS.astype(int))
