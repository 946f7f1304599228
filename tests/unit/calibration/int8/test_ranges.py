from __future__ import annotations

import numpy as np
import pytest

from calibration.int8.ranges import METHODS, Magnitudes
from edge_runtime.errors import BackendError
from tests.kit.wording import raises


def counted(*windows: np.ndarray) -> Magnitudes:
    magnitudes = Magnitudes("t")
    for window in windows:
        magnitudes.add(np.asarray(window, np.float32))
    return magnitudes


def test_the_largest_magnitude_has_a_sign_of_its_own() -> None:
    assert counted([1.0, -3.0], [2.0]).range("minmax") == 3.0


def test_the_range_grows_with_what_comes_and_counts_all() -> None:
    values = np.linspace(0.001, 1, 1000)
    growing = counted(*(values * scale for scale in (0.1, 1, 10)))
    assert growing.largest == pytest.approx(10)
    assert growing.range("percentile") == pytest.approx(10, rel=1e-2)


def test_a_percentile_passes_over_a_single_outlier() -> None:
    values = np.concatenate([np.linspace(0.001, 1, 60_000), [100.0]])
    assert counted(values).range("percentile") == pytest.approx(1, rel=0.05)
    assert counted(values).range("minmax") == 100


def test_entropy_cuts_a_long_tail_and_keeps_what_is_spread_evenly() -> None:
    rng = np.random.default_rng(0)
    tail = counted(np.concatenate([rng.exponential(1, 50_000), [40.0]]))
    assert 5 < tail.range("entropy") < 20
    assert counted(rng.uniform(0, 1, 50_000)).range("entropy") == pytest.approx(1, rel=0.05)


def test_zeros_do_not_count() -> None:
    values = np.linspace(0.001, 1, 5000)
    for method in METHODS:
        assert counted(np.concatenate([values, np.zeros(5000)])).range(method) == pytest.approx(counted(values).range(method), rel=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_that_is_zero_has_no_range(method: str) -> None:
    assert counted(np.zeros(10)).range(method) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(value: float) -> None:
    with raises(BackendError, "'t'"):
        counted([1.0, value])
