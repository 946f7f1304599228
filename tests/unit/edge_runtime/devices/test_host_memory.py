from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.bundle.manifest import FileSpec, GateSpec, GraphSpec, Manifest, ModelSpec, PoolSpec, Precision, TensorSpec, UpdateSpec
from edge_runtime.devices.host_memory import HostBank
from edge_runtime.errors import BundleError
from edge_runtime.preprocess import InputSpec
from edge_runtime.score_scale import ScoreScale, Threshold
from tests.kit.wording import raises

AXES = [[1, 0], [0, 1]]
SLANTED = [[1, 0], [0.8, 0.6]]


def pool_of(name: str = "memory", read: str | None = "read", addressing: str = "softmax", update: str = "mnad") -> PoolSpec:
    return PoolSpec(name, "query", read, addressing, update)


def bank_of(
    *pools: tuple[PoolSpec, list[list[float]]], rate: float = 0.5, write_scale: str = "all", gate: float = 0.25, drift_limit: float = 2.0
) -> HostBank:
    items = {pool.name: np.array(rows, np.float32) for pool, rows in pools}
    size = len(next(iter(items.values()))[0]) if items else 2
    encoder = GraphSpec("encoder.onnx", "", (), (TensorSpec("query", "float32", ("batch", size, 1, 1)),))
    decoder = GraphSpec("decoder.onnx", "", (), ())
    scale = ScoreScale("local_error", 1, (0.0, 1.0), 1.0)
    manifest = Manifest(
        schema=1,
        name="by hand",
        model=ModelSpec("none", {}),
        input=InputSpec(1, 0, 1, 8, 8),
        fps=10.0,
        pools=tuple(pool for pool, _ in pools),
        memory=FileSpec("memory.safetensors", ""),
        gate=GateSpec(gate),
        update=UpdateSpec(rate, write_scale, drift_limit),
        paper_weight=0.6,
        precisions={"fp32": Precision(encoder, decoder, scale, Threshold(3.0, 1.0, True, 2.0), {}, "")},
        provenance={},
    )
    return HostBank(manifest, items)


def queries_of(*vectors: list[float]) -> dict[str, np.ndarray]:
    """Vectors of D numbers as a query map (1, D, 1, K)."""
    return {"query": np.array(vectors, np.float32).T[None, :, None, :].copy()}


def learn(bank: HostBank, queries: dict[str, np.ndarray], regular_score: float = 0.0) -> tuple[bool, float]:
    """One frame through a bank: what `update` says of it."""
    bank.read(queries)
    result = bank.update(queries, {"score/regular_score": np.array([regular_score], np.float32)})
    return bool(result["is_updated"][0]), float(result["drift"][0])


def items_of(bank: HostBank, name: str = "memory") -> np.ndarray:
    return bank.snapshot()[name]


def normalised(*vector: float) -> list[float]:
    return [value / math.hypot(*vector) for value in vector]


# read


def test_a_read_is_the_softmax_mixture_of_the_items() -> None:
    read = bank_of((pool_of(), AXES)).read(queries_of([1, 0], [0, 0]))["read"]
    assert read.shape == (1, 2, 1, 2)
    assert read[0, :, 0, 0] == pytest.approx([math.e / (math.e + 1), 1 / (math.e + 1)])
    assert read[0, :, 0, 1] == pytest.approx([0.5, 0.5])


def test_the_distance_is_to_the_nearest_item_over_all_elements() -> None:
    # (0.6, 0.8) is (0.6, −0.2) from the second item: 0.4. (1, 0) is the first item: 0. Over 4 elements.
    results = bank_of((pool_of(), AXES)).read(queries_of([0.6, 0.8], [1, 0]))
    assert results["distance/memory"] == pytest.approx([0.1])


def test_the_nearest_item_is_the_one_with_the_largest_product_not_the_smallest_distance() -> None:
    # The long item wins the product, 2 against 1, though the short one is the query itself.
    bank = bank_of((pool_of(update="none"), [[1, 0], [2, 0]]))
    assert bank.read(queries_of([1, 0]))["distance/memory"] == pytest.approx([0.5])


def test_a_large_logit_does_not_overflow() -> None:
    read = bank_of((pool_of(), AXES)).read(queries_of([1000, 0]))["read"]
    assert read[0, :, 0, 0].tolist() == [1, 0]


def test_a_query_on_a_volume_reads_the_same_as_on_a_plane() -> None:
    bank = bank_of((pool_of(), SLANTED))
    flat = np.arange(16, dtype=np.float32).reshape(1, 2, 2, 4) / 16
    volume = flat.reshape(1, 2, 2, 2, 2)
    assert np.array_equal(bank.read({"query": volume})["read"], bank.read({"query": flat})["read"].reshape(volume.shape))


def test_hard_shrink_reads_only_items_above_an_even_share() -> None:
    bank = bank_of((pool_of(addressing="hard_shrink", update="none"), np.eye(4).tolist()))
    read = bank.read(queries_of([3, 0, 0, 0], [3, 3, 0, 0]))["read"]
    assert read[0, :, 0, 0] == pytest.approx([1, 0, 0, 0])
    assert read[0, :, 0, 1] == pytest.approx([0.5, 0.5, 0, 0])


def test_a_query_that_is_cut_everywhere_reads_zero() -> None:
    bank = bank_of((pool_of(addressing="hard_shrink", update="none"), np.eye(4).tolist()))
    assert bank.read(queries_of([0, 0, 0, 0]))["read"].tolist() == np.zeros((1, 4, 1, 1)).tolist()


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 30))
@settings(max_examples=50, deadline=None)
def test_hard_shrink_weights_sum_to_one(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(count, 4))
    items[:, 3] = 1  # so that the read's last element is the sum of the weights
    read = bank_of((pool_of(addressing="hard_shrink", update="none"), items.tolist())).read(queries_of(*rng.normal(size=(9, 4))))["read"]
    assert read[0, 3, 0] == pytest.approx(np.ones(9), abs=1e-5)


# write: (1, 0) claims the first slanted item; (0, 1) the second, to which (1, 0) is nearer than its own query


def test_release_scale_takes_the_largest_weight_over_all_queries() -> None:
    bank = bank_of((pool_of(), SLANTED), write_scale="all")
    assert learn(bank, queries_of([1, 0], [0, 1])) == (True, pytest.approx(1 - np.dot([0.8, 0.6], normalised(0.8, 0.6 + math.exp(-0.2)))))
    assert items_of(bank)[0] == pytest.approx([1, 0])
    assert items_of(bank)[1] == pytest.approx(normalised(0.8, 0.6 + math.exp(0.6 - 0.8)))


def test_paper_scale_takes_the_largest_weight_over_the_claiming_queries() -> None:
    bank = bank_of((pool_of(), SLANTED), write_scale="claimed")
    assert learn(bank, queries_of([1, 0], [0, 1]))[0]
    assert items_of(bank)[1] == pytest.approx(normalised(0.8, 0.6 + 1))


def test_claiming_queries_weigh_by_their_match() -> None:
    bank = bank_of((pool_of(), [[1, 0]]), write_scale="all")
    learn(bank, queries_of([1, 0], [0, 1], [0.6, 0.8]))
    second, third = math.exp(-1), math.exp(0.6 - 1)
    assert items_of(bank)[0] == pytest.approx(normalised(1 + 1 + 0.6 * third, second + 0.8 * third))


@pytest.mark.parametrize("write_scale", ["all", "claimed"])
def test_a_bounded_step_has_the_rate_as_its_length_whatever_the_scale(write_scale: str) -> None:
    bank = bank_of((pool_of(update="ema"), SLANTED), write_scale=write_scale, rate=0.5)
    learn(bank, queries_of([1, 0], [0, 1]))
    assert items_of(bank)[1] == pytest.approx(normalised(0.8, 0.6 + 0.5))


@pytest.mark.parametrize("write_scale", ["all", "claimed"])
@pytest.mark.parametrize("update", ["mnad", "ema"])
def test_an_unclaimed_item_stays_bit_for_bit(update: str, write_scale: str) -> None:
    rows = [[1, 0], [0.6005, 0.8]]  # not quite of length 1, so that normalising it again would show
    bank = bank_of((pool_of(update=update), rows), write_scale=write_scale)
    assert learn(bank, queries_of([1, 0], [0.96, -0.28]))[0]
    assert items_of(bank)[1].tolist() == np.array(rows, np.float32)[1].tolist()
    assert items_of(bank)[0].tolist() != [1, 0]


def test_a_long_query_of_another_item_does_not_overflow_into_this_one() -> None:
    bank = bank_of((pool_of(), SLANTED), write_scale="claimed")
    assert learn(bank, queries_of([1000, 0], [0, 1]))[0]
    assert items_of(bank) == pytest.approx(np.array([[1, 0], normalised(0.8, 1.6)]))


@given(seed=st.integers(0, 2**32 - 1), rate=st.floats(0.001, 0.9), write_scale=st.sampled_from(["all", "claimed"]))
@settings(max_examples=100, deadline=None)
def test_a_bounded_step_never_turns_an_item_by_more_than_the_arcsine_of_the_rate(seed: int, rate: float, write_scale: str) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(3, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    bank = bank_of((pool_of(update="ema"), rows.tolist()), rate=rate, write_scale=write_scale)
    before = items_of(bank).astype(float)
    learn(bank, queries_of(*rng.normal(size=(20, 4)) * rng.choice([0.01, 1, 30])))
    turns = 2 * np.arcsin(np.clip(np.linalg.norm(items_of(bank) - before, axis=1) / 2, 0, 1))
    assert turns.max() <= math.asin(rate) + 1e-5
    assert np.linalg.norm(items_of(bank), axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_the_arcsine_is_reached_by_a_query_that_pulls_at_a_right_angle_to_the_result() -> None:
    bank = bank_of((pool_of(update="ema"), [[1, 0]]), rate=0.6)
    learn(bank, queries_of([-0.6, 0.8]))
    assert items_of(bank)[0] == pytest.approx([0.8, 0.6])


# gate


@pytest.mark.parametrize(("regular_score", "is_learned"), [(0.24, True), (0.25, False), (0.26, False), (math.nan, False)])
def test_only_a_score_below_the_limit_is_learned(regular_score: float, is_learned: bool) -> None:
    bank = bank_of((pool_of(), AXES), gate=0.25)
    assert learn(bank, queries_of([0.8, 0.6]), regular_score)[0] is is_learned
    assert (items_of(bank).tolist() != AXES) is is_learned


def test_a_limit_that_is_not_a_number_lets_nothing_pass() -> None:
    assert not learn(bank_of((pool_of(), AXES), gate=math.nan), queries_of([0.8, 0.6]))[0]


def test_an_update_takes_effect_at_the_next_read() -> None:
    bank, queries = bank_of((pool_of(), [[1, 0]])), queries_of([0, 1])
    first = bank.read(queries)["read"]
    assert bank.update(queries, {"score/regular_score": np.zeros(1, np.float32)})["is_updated"].tolist() == [True]
    assert first[0, :, 0, 0].tolist() == [1, 0]
    assert bank.read(queries)["read"][0, :, 0, 0] == pytest.approx(normalised(1, 1))


def test_an_update_with_other_queries_than_were_read_learns_those() -> None:
    bank = bank_of((pool_of(), [[1, 0]]))
    bank.read(queries_of([1, 0]))
    bank.update(queries_of([0, 1]), {"score/regular_score": np.zeros(1, np.float32)})
    assert items_of(bank)[0] == pytest.approx(normalised(1, 1))


# the bank as a whole


def test_a_frozen_bank_reads_and_does_not_learn_until_it_is_unfrozen() -> None:
    bank, queries = bank_of((pool_of(), [[1, 0]])), queries_of([0, 1])
    bank.freeze()
    assert bank.is_frozen
    assert learn(bank, queries) == (False, 0.0)
    assert items_of(bank).tolist() == [[1, 0]]
    bank.unfreeze()
    assert not bank.is_frozen
    assert learn(bank, queries)[0]


def test_reset_goes_back_to_the_shipped_items_and_stays_frozen() -> None:
    bank = bank_of((pool_of(), [[1, 0]]))
    learn(bank, queries_of([0, 1]))
    bank.freeze()
    bank.reset()
    assert items_of(bank).tolist() == [[1, 0]]
    assert learn(bank, queries_of([0, 1])) == (False, 0.0)


def test_a_snapshot_is_a_copy_both_ways() -> None:
    bank = bank_of((pool_of(), [[1, 0]]))
    taken = bank.snapshot()
    learn(bank, queries_of([0, 1]))
    assert taken["memory"].tolist() == [[1, 0]]
    bank.restore(taken)
    taken["memory"][0] = 7
    bank.snapshot()["memory"][0] = 7
    assert items_of(bank).tolist() == [[1, 0]]


def test_a_restored_bank_goes_on_as_the_one_that_was_saved() -> None:
    one, two = bank_of((pool_of(), SLANTED)), bank_of((pool_of(), SLANTED))
    learn(one, queries_of([0, 1], [1, 0]))
    two.restore(one.snapshot())
    assert learn(two, queries_of([0.6, 0.8])) == learn(one, queries_of([0.6, 0.8]))
    assert np.array_equal(items_of(one), items_of(two))


def test_a_restore_between_read_and_update_learns_from_the_restored_items() -> None:
    bank, queries = bank_of((pool_of(), AXES)), queries_of([0.6, 0.8])
    bank.read(queries)
    bank.restore({"memory": np.array([[0, 1], [1, 0]], np.float32)})  # now the first item is the nearest
    bank.update(queries, {"score/regular_score": np.zeros(1, np.float32)})
    assert items_of(bank) == pytest.approx(np.array([normalised(0.6, 1.8), [1, 0]]))


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ({}, "['memory'] … []"),
        ({"memory": np.zeros((1, 3), np.float32)}, "'memory' … (M, 2) float32 … (1, 3)"),
        ({"memory": np.full((1, 2), np.nan, np.float32)}, "'memory' … NaN"),
        ({"memory": np.full((1, 2), 0.1, np.float32)}, "'memory' … length 1 … 'mnad'"),
    ],
)
def test_items_that_do_not_fit_are_refused_and_change_nothing(items: dict[str, np.ndarray], names: str) -> None:
    bank = bank_of((pool_of(), [[1, 0]]))
    with raises(BundleError, names):
        bank.restore(items)
    assert items_of(bank).tolist() == [[1, 0]]


def test_drift_is_one_less_the_smallest_cosine_to_the_shipped_items() -> None:
    bank = bank_of((pool_of(), AXES))
    is_updated, drift = learn(bank, queries_of([0.8, 0.6]))  # the first item becomes (1.8, 0.6) normalised
    assert is_updated and drift == pytest.approx(1 - 1.8 / math.hypot(1.8, 0.6))


def test_numbers_past_the_end_of_float32_give_a_distance_that_is_none_and_are_not_learned() -> None:
    bank = bank_of((pool_of(), AXES))
    queries = queries_of([3e38, 3e38])
    assert bank.read(queries)["distance/memory"][0] == math.inf
    bank.update(queries, {"score/regular_score": np.zeros(1, np.float32)})
    assert np.isfinite(items_of(bank)).all()


def test_past_the_drift_limit_the_step_is_discarded_and_the_bank_freezes() -> None:
    bank = bank_of((pool_of(), [[1, 0]]), drift_limit=0.1)
    assert learn(bank, queries_of([0.6, 0.8])) == (False, 0.0)  # it would drift by 1 − 2 / √5 = 0.106
    assert bank.is_frozen
    assert items_of(bank).tolist() == [[1, 0]]


def test_up_to_the_drift_limit_it_learns() -> None:
    bank = bank_of((pool_of(), [[1, 0]]), drift_limit=0.11)
    assert learn(bank, queries_of([0.6, 0.8])) == (True, pytest.approx(1 - 2 / math.sqrt(5)))
    assert not bank.is_frozen


def test_a_step_to_what_is_no_number_is_discarded_in_whichever_pool() -> None:
    pools = [(pool_of("a", "read_a", update="none"), [[1, 0]]), (pool_of("b", "read_b"), [[1, 0]])]
    for first, second in (pools, pools[::-1]):
        bank = bank_of(first, second)
        assert learn(bank, queries_of([math.nan, 1])) == (False, 0.0)
        assert bank.is_frozen
        assert items_of(bank, "b").tolist() == [[1, 0]]


def test_two_pools_on_one_query_read_and_learn_each_for_itself() -> None:
    bank = bank_of((pool_of("a", "read_a"), [[1, 0]]), (pool_of("b", "read_b", update="ema"), [[0, 1]]), rate=0.5)
    queries = queries_of([1, 0])
    results = bank.read(queries)
    assert set(results) == {"read_a", "read_b", "distance/a", "distance/b"}
    assert (results["read_a"][0, :, 0, 0].tolist(), results["read_b"][0, :, 0, 0].tolist()) == ([1, 0], [0, 1])
    assert (results["distance/a"].tolist(), results["distance/b"].tolist()) == ([0], [1])
    is_updated, drift = learn(bank, queries)
    assert items_of(bank, "a")[0] == pytest.approx([1, 0])
    assert items_of(bank, "b")[0] == pytest.approx(normalised(0.5, 1))
    assert is_updated and drift == pytest.approx(1 - 1 / math.hypot(0.5, 1))


def test_a_pool_that_is_only_scored_gives_no_read() -> None:
    assert set(bank_of((pool_of(read=None), AXES)).read(queries_of([1, 0]))) == {"distance/memory"}


def test_a_pool_without_update_stays_while_another_learns() -> None:
    bank = bank_of((pool_of("a", "read_a", update="none"), [[1, 0]]), (pool_of("b", "read_b"), [[1, 0]]))
    assert learn(bank, queries_of([0, 1]))[0]
    assert items_of(bank, "a").tolist() == [[1, 0]]
    assert items_of(bank, "b")[0] == pytest.approx(normalised(1, 1))


def test_a_model_without_memory_gives_nothing_and_learns_nothing() -> None:
    bank = bank_of()
    assert bank.read({}) == {}
    assert learn(bank, {}) == (False, 0.0)
    assert bank.snapshot() == {}


def test_a_memory_without_an_update_rule_says_that_nothing_was_learned() -> None:
    bank = bank_of((pool_of(update="none"), [[1, 0]]))
    assert learn(bank, queries_of([0, 1])) == (False, 0.0)
    assert not bank.is_frozen
