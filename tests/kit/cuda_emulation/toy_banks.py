"""Small memories for the kernels, with queries to read them by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime.bundle.manifest import GateSpec, PoolSpec, UpdateSpec
from tests.kit.cuda_emulation.bank import BankManifest, EmulatedBank, scores_of
from tests.kit.cuda_emulation.runner import Emulator

__all__ = ["Shape", "ToyBank", "four_pools", "manifest_of", "memory_of", "outcome_of", "pool_of", "three_pools"]

Shape = tuple[int, int, tuple[int, ...]]
"""M items of D numbers, and the queries' grid."""


@dataclass(frozen=True)
class ToyBank:
    """What a bank is made from.

    Attributes:
        shipped: pool to items (M, D) float32.
        queries: a frame's, (1, D, *grid) by name.
    """

    manifest: BankManifest
    shipped: Mapping[str, np.ndarray]
    queries: Mapping[str, np.ndarray]


def pool_of(
    name: str = "memory", query: str = "query", read: str | None = "read", addressing: str = "softmax", update: str = "ema"
) -> PoolSpec:
    """A pool, with a single one's names."""
    return PoolSpec(name, query, read, addressing, update)


def manifest_of(*pools: PoolSpec, rate: float = 0.1, write_scale: str = "all", gate: float = 0.5, drift_limit: float = 2.0) -> BankManifest:
    """A manifest of pools."""
    return BankManifest(pools, UpdateSpec(rate, write_scale, drift_limit), GateSpec(gate))


def memory_of(shape: Shape, dtype: str = "float32", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Items (M, D) of length 1, and queries (1, D, *grid) of about that."""
    rng = np.random.default_rng(seed)
    count, size, grid = shape
    length = int(np.prod(grid))
    query = _unit_rows(rng.normal(size=(length, size))) * rng.uniform(0.5, 2, size=(length, 1))
    return _unit_rows(rng.normal(size=(count, size))), query.T.reshape(1, size, *grid).astype(dtype, order="C")


def four_pools(dtype: str = "float32", **parameters: Any) -> ToyBank:
    """Two pools on one query, one that never learns, one of many items on that one's query."""
    pools = (
        pool_of("a", "wide", "read_a", update="mnad"),
        pool_of("b", "wide", None, update="ema"),
        pool_of("fixed", "small", "read_fixed", "hard_shrink", "none"),
        pool_of("many", "small", "read_many", update="ema"),
    )
    shapes: dict[str, Shape] = {"a": (3, 7, (40,)), "b": (21, 7, (40,)), "fixed": (5, 9, (3, 3)), "many": (75, 9, (3, 3))}
    return _bank(pools, shapes, dtype, parameters)


def three_pools(dtype: str = "float32", **parameters: Any) -> ToyBank:
    """All that kernels do between barriers: items in groups, claims that fill the list, many items with shrunk weights."""
    pools = (
        pool_of("grouped", "narrow", "read_grouped", update="mnad"),
        pool_of("claimed", "long", "read_claimed", update="ema"),
        pool_of("many", "narrow", "read_many", "hard_shrink", update="ema"),
    )
    shapes: dict[str, Shape] = {"grouped": (35, 37, (9, 8)), "claimed": (1, 5, (2500,)), "many": (70, 37, (9, 8))}
    return _bank(pools, shapes, dtype, parameters)


def outcome_of(emulator: Emulator, bank: ToyBank, frames: int = 2) -> list[bytes]:
    """All that frames leave in a bank, bit by bit."""
    cuda = EmulatedBank(emulator, bank.manifest, bank.shipped, bank.queries)
    results: list[bytes] = []
    for _ in range(frames):
        results += [array.tobytes() for array in cuda.read(bank.queries).values()]
        results += [array.tobytes() for array in cuda.update(bank.queries, scores_of(0.0)).values()]
    return [*results, *(cuda.items(name).tobytes() for name in bank.shipped)]


def _bank(pools: tuple[PoolSpec, ...], shapes: Mapping[str, Shape], dtype: str, parameters: Mapping[str, Any]) -> ToyBank:
    memories = {name: memory_of(shape, dtype, seed) for seed, (name, shape) in enumerate(shapes.items())}
    queries = {pool.query: memories[pool.name][1] for pool in reversed(pools)}
    return ToyBank(manifest_of(*pools, **parameters), {name: items for name, (items, _) in memories.items()}, queries)


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
