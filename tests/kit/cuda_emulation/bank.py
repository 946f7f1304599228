"""A memory bank whose launches run on the CPU, over NumPy arrays; with the same face as the host's, which is the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime.bundle.manifest import GateSpec, PoolSpec, UpdateSpec
from edge_runtime.devices.cuda.memory_step import STATUS_SIZE, BankMemory, BankStep, PoolStep, pack
from tests.kit.cuda_emulation.runner import Block, Emulator

__all__ = ["BankManifest", "EmulatedBank", "scores_of"]


@dataclass(frozen=True)
class BankManifest:
    """What a bank asks of a manifest."""

    pools: tuple[PoolSpec, ...]
    update: UpdateSpec
    gate: GateSpec


class EmulatedBank:
    """All pools of one stream, read and updated by the kernels.

    Args:
        shipped: pool to items (M, D) float32.
        queries: a frame's, for their sizes and types: (1, D, *grid) by name.
    """

    def __init__(
        self, emulator: Emulator, manifest: BankManifest, shipped: Mapping[str, np.ndarray], queries: Mapping[str, np.ndarray]
    ) -> None:
        self._emulator = emulator
        self._pools = manifest.pools
        steps = [self._step(manifest, pool, shipped[pool.name], queries[pool.query]) for pool in manifest.pools]
        self._bank = BankStep(tuple(steps), manifest.update.drift_limit)
        lengths = (*[self._bank.items_bytes] * 3, self._bank.drifts_bytes)
        self._blocks = [*map(Block, lengths), Block(self._bank.scratch_bytes, is_zeroed=True)]
        self._memory = BankMemory(*(block.address for block in self._blocks))
        self.status = np.zeros(STATUS_SIZE, np.float32)
        for pool, items in shipped.items():
            self.items(pool)[:] = items
        self._blocks[2].bytes[:] = self._blocks[0].bytes

    @staticmethod
    def _step(manifest: BankManifest, pool: PoolSpec, items: np.ndarray, query: np.ndarray) -> PoolStep:
        sizes: dict[str, Any] = {"items": items.shape, "queries": query[0, 0].size, "query_dtype": query.dtype}
        return PoolStep.of(pool, manifest.update, manifest.gate, **sizes)

    def items(self, name: str) -> np.ndarray:
        """A pool's items, (M, D); not a copy."""
        names = [pool.name for pool in self._pools]
        position = names.index(name)
        step, start = self._bank.pools[position], self._bank.parts(self._memory)[position].items - self._memory.items
        length = 4 * step.count * step.size
        return self._blocks[0].bytes[start : start + length].view(np.float32).reshape(step.count, step.size)

    @property
    def is_intact(self) -> bool:
        """Whether no kernel wrote past the end of what it was given."""
        return all(block.is_intact for block in self._blocks)

    def read(self, queries: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Reads by decoder input, shaped like their queries; `distance/<pool>` (1,)."""
        results: dict[str, np.ndarray] = {}
        for pool, step, part in zip(self._pools, self._bank.pools, self._bank.parts(self._memory), strict=True):
            query, distance = queries[pool.query], np.full(1, np.nan, np.float32)
            read = Block(4 * query.size)
            address = None if pool.read is None else read.address
            self._emulator.run(step.read(part, query.ctypes.data, address, distance.ctypes.data))
            self._blocks.append(read)
            results[f"distance/{pool.name}"] = distance
            if pool.read is not None:
                results[pool.read] = read.bytes.view(np.float32).reshape(query.shape)
        return results

    def address(self, queries: Mapping[str, np.ndarray]) -> None:
        """Only what learning goes by."""
        for pool, step, part in zip(self._pools, self._bank.pools, self._bank.parts(self._memory), strict=True):
            self._emulator.run(step.address(part, queries[pool.query].ctypes.data))

    def update(self, queries: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Learn the frame that was read last."""
        addresses = [queries[pool.query].ctypes.data for pool in self._pools]
        self._emulator.run(self._bank.update(self._memory, addresses, scores["score/regular_score"].ctypes.data, self.status.ctypes.data))
        packed = np.full(3, np.nan, np.float32)
        self._emulator.run(pack([self.status.ctypes.data + 4 * place for place in range(3)], packed.ctypes.data))
        return {"is_frozen": packed[:1] != 0, "is_updated": packed[1:2] != 0, "drift": packed[2:]}


def scores_of(regular_score: float) -> dict[str, np.ndarray]:
    """A frame's scores, as far as an update asks for them."""
    return {"score/regular_score": np.array([regular_score], np.float32)}
