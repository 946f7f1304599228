from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import ConfigError
from edge_runtime.score_scale import MovingAverage, ScoreScale, oddness, smooth
from tests.kit.wording import raises

# 0 … 0.95 evenly over 0 … 19; above, one factor e for each 2
SCALE = ScoreScale("local_error", 1, tuple(map(float, range(20))), tail=2.0)


def test_the_score_is_the_tail_probability_that_the_knots_say() -> None:
    assert SCALE.score(0) == 0
    assert SCALE.score(10) == pytest.approx(-math.log10(0.5))
    assert SCALE.score(17.5) == pytest.approx(-math.log10(1 - 0.875))


def test_below_all_that_was_seen_the_score_is_zero() -> None:
    assert SCALE.score(-5) == 0


def test_above_the_last_knot_the_tail_is_exponential_without_an_end() -> None:
    assert SCALE.score(19 + 2 * math.log(10)) == pytest.approx(-math.log10(0.05) + 1)
    assert SCALE.score(19 + 2000 * math.log(10)) == pytest.approx(-math.log10(0.05) + 1000)


def test_both_parts_meet_at_the_95th_percentile() -> None:
    assert SCALE.score(19) == pytest.approx(-math.log10(0.05))
    assert SCALE.score(math.nextafter(19, 0)) == pytest.approx(-math.log10(0.05))


@given(values=st.lists(st.floats(-10, 100), min_size=2, max_size=20))
@settings(max_examples=100, deadline=None)
def test_a_larger_value_never_has_a_smaller_score(values: list[float]) -> None:
    scores = [SCALE.score(value) for value in sorted(values)]
    assert all(a <= b + 1e-12 for a, b in pairwise(scores))
    assert scores[0] >= 0


def test_on_an_exponential_sample_the_score_is_the_value_in_decades() -> None:
    values = -np.log(1 - (np.arange(20_000) + 0.5) / 20_000)  # its quantiles: the tail probability of x is exp(−x)
    scale = ScoreScale.fit(values, "local_error", 3)
    for value in (0.5, 1.0, 2.0, 4.0, 8.0):
        assert scale.score(value) == pytest.approx(value / math.log(10), rel=0.02)
    assert scale.score(20) == pytest.approx(20 / math.log(10), rel=0.02)  # no frame was ever this odd
    assert (scale.quantity, scale.smoothing_frames) == ("local_error", 3)


def test_fitting_does_not_depend_on_the_order_of_the_frames() -> None:
    values = np.random.default_rng(5).exponential(size=100)
    assert ScoreScale.fit(values, "psnr_db", 1) == ScoreScale.fit(values[::-1], "psnr_db", 1)


def test_the_tail_is_the_mean_excess_over_the_95th_percentile() -> None:
    scale = ScoreScale.fit(np.arange(101.0), "local_error", 1)
    assert scale.knots[-1] == pytest.approx(95)
    assert scale.tail == pytest.approx(3)  # 96 … 100


def test_too_little_footage_is_refused() -> None:
    with raises(ConfigError, "40 … 39"):
        ScoreScale.fit(np.arange(39.0), "local_error", 1)


def test_a_frozen_picture_is_refused() -> None:
    with raises(ConfigError, "equal"):
        ScoreScale.fit(np.full(100, 0.3), "local_error", 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_cannot_be_fitted(value: float) -> None:
    values = np.arange(100.0)
    values[-10:] = value
    with raises(ConfigError, "NaN or infinity"):
        ScoreScale.fit(values, "local_error", 1)


@pytest.mark.parametrize(
    ("quantity", "frames", "knots", "tail", "what"),
    [
        ("colour", 1, (0.0, 1.0), 1.0, "quantity … local_error, regular_score, psnr_db, query_distance, mixture … 'colour'"),
        ("local_error", 0, (0.0, 1.0), 1.0, "1 frame … 0"),
        ("local_error", 1, (0.0,), 1.0, "2 … knots"),
        ("local_error", 1, (0.0, 2.0, 1.0), 1.0, "knots"),
        ("local_error", 1, (0.0, math.nan, 1.0), 1.0, "finite … knots"),
        ("local_error", 1, (-math.inf, 1.0), 1.0, "finite … knots"),
        ("local_error", 1, (0.0, 1.0), 0.0, "tail … 0"),
        ("local_error", 1, (0.0, 1.0), math.nan, "tail … 0"),
        ("local_error", 1, (0.0, 1.0), math.inf, "tail … 0"),
    ],
)
def test_a_scale_that_cannot_be_is_refused(quantity: str, frames: int, knots: tuple[float, ...], tail: float, what: str) -> None:
    with raises(ConfigError, what):
        ScoreScale(quantity, frames, knots, tail)


def test_knots_may_repeat() -> None:
    scale = ScoreScale("local_error", 1, (0.0, 0.0, 1.0), 1.0)
    assert scale.score(1.0) == pytest.approx(-math.log10(0.05))


def test_a_low_psnr_is_odd_and_a_high_error_is() -> None:
    raw = {"psnr_db": 30.0, "local_error": 0.01, "regular_score": 0.02}
    assert [oddness(quantity, raw) for quantity in ("psnr_db", "local_error", "regular_score")] == [-30.0, 0.01, 0.02]


def test_a_mixture_sums_its_parts_turned_so_that_odd_is_high() -> None:
    scale = ScoreScale("mixture", 1, (0.0, 1.0), 1.0, {"psnr_db": 0.1, "query_distance": 2.0})
    assert scale.oddness({"psnr_db": 30.0, "query_distance": 0.5, "local_error": 9.0}) == pytest.approx(-3.0 + 1.0)


def test_a_scale_of_one_quantity_says_what_that_quantity_says() -> None:
    scale = ScoreScale("query_distance", 1, (0.0, 1.0), 1.0)
    assert scale.oddness({"psnr_db": 30.0, "query_distance": 0.5}) == 0.5


@pytest.mark.parametrize(
    ("quantity", "mixture"),
    [
        ("mixture", None),
        ("mixture", {}),
        ("local_error", {"local_error": 1.0}),
        ("mixture", {"colour": 1.0}),
        ("mixture", {"local_error": 0.0}),
        ("mixture", {"local_error": math.nan}),
        ("mixture", {"mixture": 1.0}),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(quantity: str, mixture: dict[str, float] | None) -> None:
    with pytest.raises(ConfigError, match="mixture"):
        ScoreScale(quantity, 1, (0.0, 1.0), 1.0, mixture)


def test_smoothing_is_the_mean_of_the_newest_values_and_of_those_there_are() -> None:
    assert smooth([3.0, 6.0, 9.0, 0.0], 3) == [3.0, 4.5, 6.0, 5.0]
    assert smooth([3.0, 6.0], 1) == [3.0, 6.0]


def test_after_a_gap_the_average_begins_again() -> None:
    average = MovingAverage(3)
    average.push(90.0)
    average.clear()
    assert average.push(1.0) == 1.0
