"""The memory step's kernels, run on the CPU with the launches that a GPU gets, against the NumPy device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.bundle.manifest import GateSpec, UpdateSpec
from edge_runtime.devices.cuda.memory_step import LARGEST_PACK, BankMemory, BankStep, PoolStep, pack
from edge_runtime.devices.host_memory import HostBank
from tests.kit.cuda_emulation.bank import BankManifest, EmulatedBank, scores_of
from tests.kit.cuda_emulation.compilation import emulated_kernels
from tests.kit.cuda_emulation.runner import Emulator
from tests.kit.cuda_emulation.toy_banks import Shape, four_pools, manifest_of, memory_of, pool_of

pytestmark = pytest.mark.cxx

FULL_SIZE = (10, 512, (32, 32))
WIDE = (10, 128, (128, 128))
MANY = (2000, 256, (32, 64))
SHAPES = [(1, 1, (1,)), (3, 2, (5,)), (17, 5, (3, 11)), (64, 12, (9, 8)), (65, 3, (7,)), (100, 70, (13, 11)), (130, 64, (2, 8, 8))]

NEAR = 1e-5
NEAR_DISTANCE = 5e-5  # the host sums all elements in one float32
AFTER_LEARNING = 1e-4


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator(emulated_kernels())


class Pair:
    """A bank of each device, with the same items."""

    def __init__(
        self, emulator: Emulator, manifest: BankManifest, shipped: Mapping[str, np.ndarray], queries: Mapping[str, np.ndarray]
    ) -> None:
        self.host = HostBank(cast(Any, manifest), shipped)
        self.cuda = EmulatedBank(emulator, manifest, shipped, queries)
        self.pools = manifest.pools

    def read(self, queries: Mapping[str, np.ndarray]) -> None:
        """Read on both, expect the same."""
        expected, got = self.host.read(as_float32(queries)), self.cuda.read(queries)
        assert got.keys() == expected.keys()
        for pool in self.pools:
            distance = f"distance/{pool.name}"
            assert got[distance] == pytest.approx(expected[distance], rel=NEAR_DISTANCE, nan_ok=True)
            if pool.read is not None:
                assert got[pool.read].shape == expected[pool.read].shape
                is_clear = is_clearly_cut(self.cuda.items(pool.name), queries[pool.query]) if pool.addressing == "hard_shrink" else True
                np.testing.assert_allclose(got[pool.read], np.where(is_clear, expected[pool.read], got[pool.read]), rtol=NEAR, atol=NEAR)

    def update(self, queries: Mapping[str, np.ndarray], regular_score: float = 0.0) -> bool:
        """Update both, expect the same; whether they learned."""
        expected = self.host.update(as_float32(queries), scores_of(regular_score))
        got = self.cuda.update(queries, scores_of(regular_score))
        assert got["is_updated"].tolist() == expected["is_updated"].tolist()
        assert bool(got["is_frozen"][0]) is self.host.is_frozen
        assert got["drift"] == pytest.approx(expected["drift"], abs=1e-6)
        for pool in self.pools:
            np.testing.assert_allclose(self.cuda.items(pool.name), self.host.snapshot()[pool.name], atol=AFTER_LEARNING, err_msg=pool.name)
        return bool(got["is_updated"][0])


def is_clearly_cut(items: np.ndarray, query: np.ndarray) -> np.ndarray:
    """(1, 1, *grid): no item's weight is so near 1/M that rounding decides whether it is cut. Nearly all queries are so."""
    logits = items.astype(float) @ query[0].reshape(items.shape[1], -1).astype(float)
    weights = np.exp(logits - logits.max(axis=0))
    past = np.abs(weights / weights.sum(axis=0) * len(items) - 1)
    is_clear = ((past == 0) | (past > 2e-6)).all(axis=0)
    assert is_clear.mean() > 0.9
    return np.asarray(is_clear.reshape(1, 1, *query.shape[2:]))


def as_float32(queries: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: query.astype(np.float32) for name, query in queries.items()}


def pair_of(emulator: Emulator, manifest: BankManifest, items: np.ndarray, query: np.ndarray) -> Pair:
    return Pair(emulator, manifest, {"memory": items}, {"query": query})


# read and update, all pools


@pytest.mark.parametrize(
    ("addressing", "update", "write_scale", "dtype"),
    [
        ("softmax", "mnad", "all", "float16"),
        ("softmax", "ema", "claimed", "float32"),
        ("hard_shrink", "mnad", "claimed", "float32"),
        ("hard_shrink", "ema", "all", "float16"),
    ],
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_odd_sizes_read_and_learn_as_the_host(
    emulator: Emulator, shape: Shape, addressing: str, update: str, write_scale: str, dtype: str
) -> None:
    items, query = memory_of(shape, dtype)
    pair = pair_of(emulator, manifest_of(pool_of(addressing=addressing, update=update), write_scale=write_scale), items, query)
    for seed in (1, 2):
        queries = {"query": memory_of(shape, dtype, seed)[1]}
        pair.read(queries)
        assert pair.update(queries)
    assert pair.cuda.is_intact


@pytest.mark.parametrize(
    ("shape", "addressing", "update", "dtype"),
    [
        (FULL_SIZE, "softmax", "ema", "float16"),
        (FULL_SIZE, "softmax", "mnad", "float32"),
        (WIDE, "softmax", "ema", "float32"),
        (MANY, "hard_shrink", "none", "float16"),
        (MANY, "softmax", "ema", "float32"),
    ],
    ids=str,
)
def test_full_sizes_read_and_learn_as_the_host(emulator: Emulator, shape: Shape, addressing: str, update: str, dtype: str) -> None:
    items, query = memory_of(shape, dtype)
    pair = pair_of(emulator, manifest_of(pool_of(addressing=addressing, update=update)), items, query)
    pair.read({"query": query})
    assert pair.update({"query": query}) is (update != "none")
    assert pair.cuda.is_intact


@given(
    count=st.integers(1, 140),
    size=st.integers(1, 70),
    queries=st.integers(1, 90),
    seed=st.integers(0, 2**32 - 1),
    addressing=st.sampled_from(["softmax", "hard_shrink"]),
    update=st.sampled_from(["mnad", "ema", "none"]),
    write_scale=st.sampled_from(["claimed", "all"]),
    dtype=st.sampled_from(["float32", "float16"]),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_size_reads_and_learns_as_the_host(
    emulator: Emulator, count: int, size: int, queries: int, seed: int, addressing: str, update: str, write_scale: str, dtype: str
) -> None:
    items, query = memory_of((count, size, (queries,)), dtype, seed)
    pair = pair_of(emulator, manifest_of(pool_of(addressing=addressing, update=update), write_scale=write_scale), items, query)
    pair.read({"query": query})
    pair.update({"query": query})


def test_more_claims_than_are_summed_at_once_are_summed(emulator: Emulator) -> None:
    items, query = memory_of((2, 3, (71, 73)))
    pair = pair_of(emulator, manifest_of(pool_of(update="mnad")), items, query)
    pair.read({"query": query})
    assert pair.update({"query": query})


@pytest.mark.parametrize("count", [5, 80])
def test_a_pool_that_is_only_scored_has_its_distance(emulator: Emulator, count: int) -> None:
    items, query = memory_of((count, 6, (4, 5)))
    pair = pair_of(emulator, manifest_of(pool_of(read=None)), items, query)
    pair.read({"query": query})
    assert pair.update({"query": query})


@pytest.mark.parametrize("count", [5, 80])
def test_addressing_alone_is_enough_to_learn(emulator: Emulator, count: int) -> None:
    items, query = memory_of((count, 6, (4, 5)))
    pair = pair_of(emulator, manifest_of(pool_of()), items, query)
    pair.cuda.address({"query": query})
    assert pair.update({"query": query})


# details of the rules


@pytest.mark.parametrize("count", [2, 70])
def test_of_equally_near_items_the_first_is_the_nearest(emulator: Emulator, count: int) -> None:
    items = np.repeat(np.array([[1, 0]], np.float32), count, axis=0)
    query = np.array([[0.75, 0.5], [0.5, 0.25]], np.float32).reshape(1, 2, 2)
    pair = pair_of(emulator, manifest_of(pool_of(update="mnad")), items, query)
    pair.read({"query": query})
    assert pair.update({"query": query})
    assert pair.cuda.items("memory")[0].tolist() != [1, 0]
    assert pair.cuda.items("memory")[1:].tolist() == items[1:].tolist()


@pytest.mark.parametrize("update", ["mnad", "ema"])
@pytest.mark.parametrize("count", [4, 70])
def test_an_unclaimed_item_stays_bit_for_bit(emulator: Emulator, count: int, update: str) -> None:
    items, query = memory_of((count, 5, (3,)))
    items *= np.float32(1.0004)  # not quite of length 1, so that normalising it again would show
    claimed = (items @ query.reshape(5, 3)).argmax(axis=0)
    pair = pair_of(emulator, manifest_of(pool_of(update=update)), items, query)
    pair.read({"query": query})
    assert pair.update({"query": query})
    has_changed = (pair.cuda.items("memory") != items).any(axis=1)
    assert set(np.flatnonzero(has_changed)) == set(claimed)


def test_a_direction_that_leaves_nothing_leaves_the_item(emulator: Emulator) -> None:
    items = np.array([[1, 0]], np.float32)
    query = -items.reshape(1, 2, 1)
    pair = pair_of(emulator, manifest_of(pool_of(update="mnad")), items, query)
    pair.read({"query": query})
    assert pair.update({"query": query})
    assert pair.cuda.items("memory").tolist() == [[1, 0]]


@pytest.mark.parametrize("count", [4, 70])
def test_a_query_that_is_cut_everywhere_reads_zero(emulator: Emulator, count: int) -> None:
    items, query = np.ones((count, 4), np.float32), np.zeros((1, 4, 3), np.float32)
    pair = pair_of(emulator, manifest_of(pool_of(addressing="hard_shrink", update="none")), items, query)
    pair.read({"query": query})
    assert not pair.cuda.read({"query": query})["read"].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("write_scale", ["all", "claimed"])
@pytest.mark.parametrize("count", [4, 70])
def test_queries_that_are_no_numbers_end_as_on_the_host(emulator: Emulator, count: int, write_scale: str, value: float) -> None:
    items, query = memory_of((count, 6, (4, 5)))
    query[0, 2:4, 1, 2] = value
    pair = pair_of(emulator, manifest_of(pool_of(), write_scale=write_scale), items, query)
    pair.read({"query": query})
    pair.update({"query": query})
    assert np.isfinite(pair.cuda.items("memory")).all()


def test_a_query_of_one_pool_that_is_no_number_freezes_the_bank(emulator: Emulator) -> None:
    pair, queries = pair_of_four(emulator, "float32")
    queries["small"][0, 3, 1, 1] = np.nan
    before = {pool.name: pair.cuda.items(pool.name).copy() for pool in pair.pools}
    pair.cuda.read(queries)
    assert pair.cuda.update(queries, scores_of(0.0))["is_frozen"].tolist() == [True]
    for name, items in before.items():
        assert pair.cuda.items(name).tolist() == items.tolist()


def test_a_query_that_is_no_number_freezes_the_bank(emulator: Emulator) -> None:
    items, query = memory_of((4, 6, (20,)))
    query[0, 3, 7] = np.nan
    pair = pair_of(emulator, manifest_of(pool_of()), items, query)
    pair.read({"query": query})
    assert not pair.update({"query": query})
    assert pair.cuda.status[0] == 1


# the gate and the bank


@pytest.mark.parametrize(("regular_score", "is_learned"), [(0.49, True), (0.5, False), (0.51, False), (np.nan, False), (-np.inf, True)])
def test_only_a_score_below_the_limit_is_learned(emulator: Emulator, regular_score: float, is_learned: bool) -> None:
    items, query = memory_of((5, 6, (7,)))
    pair = pair_of(emulator, manifest_of(pool_of(), gate=0.5), items, query)
    pair.read({"query": query})
    assert pair.update({"query": query}, regular_score) is is_learned
    assert (pair.cuda.items("memory").tolist() != items.tolist()) is is_learned


def test_a_shut_gate_keeps_the_drift(emulator: Emulator) -> None:
    items, query = memory_of((5, 6, (7,)))
    pair = pair_of(emulator, manifest_of(pool_of()), items, query)
    pair.read({"query": query})
    pair.update({"query": query})
    drift = pair.cuda.status[2]
    pair.read({"query": query})
    assert not pair.update({"query": query}, regular_score=1.0)
    assert pair.cuda.status[2] == drift > 0


def test_a_frozen_bank_learns_nothing_until_it_is_unfrozen(emulator: Emulator) -> None:
    items, query = memory_of((5, 6, (7,)))
    pair = pair_of(emulator, manifest_of(pool_of()), items, query)
    pair.host.freeze()
    pair.cuda.status[0] = 1
    pair.read({"query": query})
    assert not pair.update({"query": query})
    assert pair.cuda.items("memory").tolist() == items.tolist()
    pair.host.unfreeze()
    pair.cuda.status[0] = 0
    assert pair.update({"query": query})


@pytest.mark.parametrize("count", [3, 70])
def test_past_the_drift_limit_the_step_is_discarded_and_the_bank_freezes(emulator: Emulator, count: int) -> None:
    items, query = memory_of((count, 6, (7,)))
    pair = pair_of(emulator, manifest_of(pool_of(update="mnad"), drift_limit=1e-3), items, query)
    pair.read({"query": query})
    assert not pair.update({"query": query})
    assert pair.cuda.status[:3].tolist() == [1, 0, 0]
    assert pair.cuda.items("memory").tolist() == items.tolist()


def pair_of_four(emulator: Emulator, dtype: str, **parameters: Any) -> tuple[Pair, Mapping[str, np.ndarray]]:
    toy = four_pools(dtype, **parameters)
    return Pair(emulator, toy.manifest, toy.shipped, toy.queries), toy.queries


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pools_of_a_bank_learn_each_for_itself(emulator: Emulator, dtype: str) -> None:
    pair, queries = pair_of_four(emulator, dtype)
    fixed = pair.cuda.items("fixed").copy()
    for _ in range(3):
        pair.read(queries)
        assert pair.update(queries)
    assert pair.cuda.items("fixed").tolist() == fixed.tolist()


def test_one_pool_past_the_drift_limit_stops_all(emulator: Emulator) -> None:
    pair, queries = pair_of_four(emulator, "float32", drift_limit=0.02)  # `b` and `many` stay below it, `a` does not
    before = {pool.name: pair.cuda.items(pool.name).copy() for pool in pair.pools}
    pair.read(queries)
    assert not pair.update(queries)
    for name, items in before.items():
        assert pair.cuda.items(name).tolist() == items.tolist()


@pytest.mark.parametrize(("shape", "frames"), [((10, 32, (8, 8)), 250), ((70, 16, (6, 6)), 60)], ids=str)
@pytest.mark.parametrize(("update", "write_scale"), [("ema", "claimed"), ("mnad", "all")])
def test_a_long_trajectory_stays_with_the_hosts(emulator: Emulator, shape: Shape, frames: int, update: str, write_scale: str) -> None:
    items, query = memory_of(shape)
    manifest = manifest_of(pool_of(update=update), rate=0.05, write_scale=write_scale)
    pair = pair_of(emulator, manifest, items, query)
    rng = np.random.default_rng(5)
    learned = 0
    for _ in range(frames):  # a scene that changes slowly
        query = (0.95 * query + 0.1 * rng.normal(size=query.shape)).astype(np.float32)
        pair.read({"query": query})
        learned += pair.update({"query": query}, regular_score=rng.uniform())
    assert frames / 4 < learned < frames * 3 / 4
    assert pair.cuda.status[2] > 0.01


# launches


def test_a_full_size_frame_takes_four_launches_of_enough_blocks() -> None:
    step = PoolStep.of(
        pool_of(), UpdateSpec(0.1, "all", 0.5), GateSpec(0.5), items=(10, 512), queries=1024, query_dtype=np.dtype("float16")
    )
    bank, memory = BankStep((step,), 0.5), BankMemory(0, 0, 0, 0, 0)
    read, gather, turn, settle = [*step.read(bank.parts(memory)[0], 0, 0, 0), *bank.update(memory, [0], 0, 0)]
    assert [read.kernel, gather.kernel, turn.kernel, settle.kernel] == ["read_few_f16", "gather_claims_f16", "turn_items", "settle_bank"]
    assert min(np.prod(read.grid), np.prod(gather.grid)) >= 128


def test_a_bank_that_never_learns_launches_nothing_to_update() -> None:
    step = PoolStep.of(
        pool_of(update="none"), UpdateSpec(0.1, "all", 0.5), GateSpec(0.5), items=(3, 2), queries=1, query_dtype=np.dtype("float32")
    )
    assert BankStep((step,), 0.5).update(BankMemory(0, 0, 0, 0, 0), [0], 0, 0) == []


# numbers for the host


@pytest.mark.parametrize("count", [1, LARGEST_PACK, LARGEST_PACK + 1, 40])
def test_scattered_numbers_are_packed_in_order(emulator: Emulator, count: int) -> None:
    numbers = np.random.default_rng(0).normal(size=100).astype(np.float32)
    places = np.random.default_rng(1).permutation(100)[:count]
    packed = np.full(count + 1, 7, np.float32)
    emulator.run(pack([numbers.ctypes.data + 4 * int(place) for place in places], packed.ctypes.data))
    assert packed[:count].tolist() == numbers[places].tolist()
    assert packed[count] == 7
