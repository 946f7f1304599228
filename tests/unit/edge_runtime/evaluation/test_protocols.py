from __future__ import annotations

from dataclasses import asdict

import numpy as np

from edge_runtime.errors import ConfigError, ShapeError
from edge_runtime.evaluation import ClipScores, evaluate
from tests.kit.wording import raises

NORMAL_NORMAL_ANOMALOUS_ANOMALOUS = np.array([False, False, True, True])


def test_every_protocol_ranks_its_own_quantity() -> None:
    clip = _clip(
        psnr_db=[40, 30, 35, 20],  # 3 of 4 pairs in order
        query_distance=[0, 0, 0, 0],
        local_error=[4, 3, 2, 1],  # none
        score=[1, 2, 3, 4],  # all
    )
    result = evaluate([clip], {"01": NORMAL_NORMAL_ANOMALOUS_ANOMALOUS}, paper_weight=1.0)
    assert (result.paper, result.pooled_psnr, result.pooled_local, result.causal) == (75.0, 75.0, 0.0, 100.0)


def test_the_paper_normalises_per_clip_and_the_pooled_psnr_does_not() -> None:
    bright = _clip(name="bright", psnr_db=[50, 40])
    dark = _clip(name="dark", psnr_db=[30, 20])
    labels = {"bright": np.array([False, True]), "dark": np.array([False, True])}
    result = evaluate([bright, dark], labels, paper_weight=0.6)
    assert result.paper == 100.0
    assert result.pooled_psnr == 75.0  # the dark normal frame looks odder than the bright anomalous one


def test_the_paper_weighs_psnr_against_query_distance() -> None:
    clip = _clip(psnr_db=[20, 40], query_distance=[0.0, 0.5])  # they contradict each other
    labels = {"01": np.array([False, True])}
    assert evaluate([clip], labels, paper_weight=0.6).paper == 0.0
    assert evaluate([clip], labels, paper_weight=0.5).paper == 50.0
    assert evaluate([clip], labels, paper_weight=0.4).paper == 100.0


def test_the_paper_score_is_the_weighted_sum_of_both_parts() -> None:
    # 0.6·(1 − g(psnr)) + 0.4·g(distance) = 0.4, 0.3, 0.6, 0.5
    clip = _clip(psnr_db=[40, 30, 20, 30], query_distance=[1.0, 0.0, 0.0, 0.5])
    labels = NORMAL_NORMAL_ANOMALOUS_ANOMALOUS
    assert evaluate([clip], {"01": labels}, paper_weight=0.6).paper == 100.0
    assert evaluate([clip], {"01": labels}, paper_weight=0.5).paper == 75.0  # 0.5, 0.25, 0.5, 0.5


def test_a_model_without_memory_has_only_the_psnr_part() -> None:
    clip = _clip(psnr_db=[40, 20], query_distance=None)
    assert evaluate([clip], {"01": np.array([False, True])}, paper_weight=0.0).paper == 100.0


def test_a_constant_series_says_nothing() -> None:
    clip = _clip(psnr_db=[30, 30], query_distance=[0.2, 0.2])
    assert evaluate([clip], {"01": np.array([False, True])}, paper_weight=0.6).paper == 50.0


def test_frames_before_the_first_scored_one_do_not_count() -> None:
    clip = _clip(frames=[2, 3], psnr_db=[40, 20])
    result = evaluate([clip], {"01": np.array([True, True, False, True])}, paper_weight=0.6)
    assert (result.frames, result.anomalous, result.paper) == (2, 1, 100.0)


def test_frames_after_the_last_scored_one_do_not_count() -> None:
    result = evaluate([_clip(psnr_db=[40, 20])], {"01": np.array([False, True, True])}, paper_weight=0.6)
    assert (result.frames, result.anomalous) == (2, 1)


def test_a_label_belongs_to_its_frame_also_after_a_gap() -> None:
    # The window fills again in frames 4 and 5, which are anomalous, too.
    clip = _clip(frames=[2, 3, 6, 7], psnr_db=[40, 40, 20, 40], score=[1, 1, 9, 1], memory_updated=[True, True, True, False])
    labels = {"01": np.array([0, 0, 0, 0, 1, 1, 1, 0], bool)}
    result = evaluate([clip], labels, paper_weight=0.6)
    assert (result.causal, result.pooled_psnr, result.paper) == (100.0, 100.0, 100.0)
    assert (result.frames, result.anomalous, result.updates, result.updates_anomalous) == (4, 1, 3, 1)


def test_updates_are_counted_by_class() -> None:
    clip = _clip(psnr_db=[40, 30, 20, 10], memory_updated=[True, True, True, False])
    result = evaluate([clip], {"01": NORMAL_NORMAL_ANOMALOUS_ANOMALOUS}, paper_weight=0.6)
    assert (result.updates, result.updates_anomalous) == (3, 1)


def test_the_result_has_the_names_and_types_of_the_report() -> None:
    result = asdict(evaluate([_clip(psnr_db=[40, 20])], {"01": np.array([False, True])}, paper_weight=0.6))
    assert [(name, type(value)) for name, value in result.items()] == [
        ("paper", float),
        ("pooled_psnr", float),
        ("pooled_local", float),
        ("causal", float),
        ("frames", int),
        ("anomalous", int),
        ("updates", int),
        ("updates_anomalous", int),
    ]


def test_labels_that_do_not_match_the_frames_are_refused() -> None:
    clip = _clip(frames=[4, 5], psnr_db=[40, 20])
    with raises(ConfigError, "clip 01 … 6 … 5"):
        evaluate([clip], {"01": np.zeros(5, bool)}, paper_weight=0.6)
    with raises(ConfigError, "clip 01 … 6 … 0"):
        evaluate([clip], {}, paper_weight=0.6)
    with raises(ConfigError, "clip 01 … 10 … 6"):
        evaluate([_clip(frames=[4, 9], psnr_db=[40, 20])], {"01": np.zeros(6, bool)}, paper_weight=0.6)


def test_wrong_settings_are_refused() -> None:
    with raises(ConfigError, "scored clips"):
        evaluate([], {}, paper_weight=0.6)
    with raises(ConfigError, "paper_weight … [0, 1] … 60"):
        evaluate([_clip(psnr_db=[40, 20])], {"01": np.array([False, True])}, paper_weight=60)


def test_scores_of_different_lengths_are_refused() -> None:
    with raises(ShapeError, "clip 01 … score … (2,) … psnr_db … (3,)"):
        _clip(psnr_db=[40, 20], score=[1, 2, 3])

    with raises(ShapeError, "clip 01 … frames … (2,) … psnr_db … (1,)"):
        _clip(psnr_db=[40, 20], frames=[0])


def test_a_score_that_is_not_finite_is_named_with_its_frame() -> None:
    with raises(ShapeError, "clip 01 … local_error … nan … frame 9"):
        _clip(frames=[4, 9], psnr_db=[40, 20], local_error=[0, float("nan")])


def _clip(
    psnr_db: list[float],
    name: str = "01",
    frames: list[int] | None = None,
    query_distance: list[float] | None = None,
    local_error: list[float] | None = None,
    score: list[float] | None = None,
    memory_updated: list[bool] | None = None,
) -> ClipScores:
    """A clip that is zero where nothing is said, its frames counted from 0."""
    zeros = [0.0] * len(psnr_db)
    return ClipScores(
        name=name,
        frames=np.arange(len(psnr_db)) if frames is None else np.array(frames),
        psnr_db=np.array(psnr_db, np.float64),
        query_distance=None if query_distance is None else np.array(query_distance, np.float64),
        regular_score=np.array(zeros),
        local_error=np.array(zeros if local_error is None else local_error, np.float64),
        score=np.array(zeros if score is None else score, np.float64),
        memory_updated=np.array([False] * len(psnr_db) if memory_updated is None else memory_updated),
    )
