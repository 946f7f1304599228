"""Which kernels read and update memory pools, on which threads, over which addresses. Data only: no driver is needed to make it.

A pool is read in one launch where its items are few, in three where they are many. Learning takes two launches a pool and one for
the whole bank, which decides; the gate, too, is decided on the device, and a frame that it stops costs three launches that return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from edge_runtime.bundle.manifest import GateSpec, PoolSpec, UpdateSpec
from edge_runtime.devices.cuda.launch import Launch

__all__ = ["LARGEST_PACK", "STATUS_SIZE", "BankMemory", "BankStep", "PoolMemory", "PoolStep", "pack"]

STATUS_SIZE = 4
"""float32 numbers of a bank's status: is_frozen, is_updated, drift, and one that is the kernels' own."""

LARGEST_PACK = 16

ALIGNMENT = 256  # bytes
THREADS = 256  # of a block; this and the next four as in kernels/
MOST_FEW = 64  # items that `read_few` takes
TILE = 64
WEIGHED = 8  # queries of a block of `weigh_many`
RULES = {"none": 0, "mnad": 1, "ema": 2}

ENOUGH_BLOCKS = 128  # about the multiprocessors of a large GPU
GATHERING_BLOCKS = 512  # several to a multiprocessor: most of them wait for memory


@dataclass(frozen=True)
class PoolMemory:
    """Where one pool lies on the device.

    Attributes:
        items, next_items, shipped: addresses of (M, D) float32.
        drifts: address of (M,) float32.
        scratch: address of `PoolStep.scratch_bytes`, zeroed once, when allocated.
    """

    items: int
    next_items: int
    shipped: int
    drifts: int
    scratch: int


@dataclass(frozen=True)
class BankMemory:
    """Where all pools of a bank lie on the device: each address is of one block that holds them one after the other.

    Attributes:
        items, next_items, shipped: `BankStep.items_bytes` each. Only `PoolMemory`'s places count; between them is padding.
        drifts: `BankStep.drifts_bytes`.
        scratch: `BankStep.scratch_bytes`, zeroed once, when allocated.
    """

    items: int
    next_items: int
    shipped: int
    drifts: int
    scratch: int


@dataclass(frozen=True)
class Scratch:
    """Where in a pool's scratch things lie, as offsets in bytes.

    Attributes:
        arrived: how many blocks have added to the distance; one uint32, 0 between launches.
        parts: their sums, (blocks,) float32.
        logits: (M, K) float32.
        nearest: (K,) int32.
        peaks, totals, kept: how queries weigh many items, (K,) float32 each.
        direction: (M, D) float32.
        claims: queries of each item, (M,) int32.
        end: length.
    """

    arrived: int
    parts: int
    logits: int
    nearest: int
    peaks: int
    totals: int
    kept: int
    direction: int
    claims: int
    end: int


@dataclass(frozen=True)
class PoolStep:
    """The memory step of one pool, for queries of one size.

    Attributes:
        count, size: M items of D numbers.
        queries: K.
        query_dtype: float32 or float16. Reads are float32.
        addressing, update: as the pool's spec has them.
        write_scale, rate: as the update's spec has them.
        limit: of the gate.
    """

    count: int
    size: int
    queries: int
    query_dtype: np.dtype
    addressing: str
    update: str
    write_scale: str
    rate: float
    limit: float

    @classmethod
    def of(
        cls, pool: PoolSpec, update: UpdateSpec, gate: GateSpec, *, items: tuple[int, int], queries: int, query_dtype: np.dtype
    ) -> PoolStep:
        """The step of a pool with (M, D) items and K queries a frame."""
        count, size = items
        return cls(count, size, queries, query_dtype, pool.addressing, pool.update, update.write_scale, update.rate, gate.limit)

    @property
    def items_bytes(self) -> int:
        """Length of the items, (M, D) float32, up to where the next pool's begin."""
        return _padded(4 * self.count * self.size)

    @property
    def scratch_bytes(self) -> int:
        """Length of the scratch."""
        return self._scratch.end

    def address(self, memory: PoolMemory, query: int) -> list[Launch]:
        """Logits and nearest items of a query (D, K): what `learn` goes by. `read` includes it."""
        return [self._read_few(memory, query, 0, 0)] if self._is_few else self._address_many(memory, query)

    def read(self, memory: PoolMemory, query: int, read: int | None, distance: int) -> list[Launch]:
        """Address, mix, measure.

        Args:
            query: address of (D, K), of `query_dtype`.
            read: address of (D, K) float32 to write; None for a pool that is only scored.
            distance: address of one float32 to write.
        """
        if self._is_few:
            return [self._read_few(memory, query, read or 0, distance)]
        return [*self._address_many(memory, query), self._mix_many(memory, query, read or 0, distance)]

    def learn(self, memory: PoolMemory, query: int, regular_score: int, status: int) -> list[Launch]:
        """The next items and their drifts, from the query that was addressed last; nothing if the gate is shut or the bank frozen.

        Args:
            query: address of (D, K), of `query_dtype`.
            regular_score: address of one float32.
            status: address of the bank's `STATUS_SIZE` float32.
        """
        turn = self._turn(memory, regular_score, status)
        return [turn] if self.update == "none" else [self._gather(memory, query, regular_score, status), turn]

    @property
    def _is_few(self) -> bool:
        return self.count <= MOST_FEW

    @property
    def _suffix(self) -> str:
        return "f16" if self.query_dtype == np.float16 else "f32"

    @property
    def _is_shrunk(self) -> np.int32:
        return np.int32(self.addressing == "hard_shrink")

    @property
    def _sizes(self) -> tuple[np.int32, np.int32, np.int32]:
        return np.int32(self.count), np.int32(self.size), np.int32(self.queries)

    @property
    def _columns(self) -> int:
        """Queries of a block of `read_few`: as many as leave enough blocks."""
        return next((columns for columns in (32, 16) if self.queries >= columns * ENOUGH_BLOCKS), 8)

    @property
    def _mixing_grid(self) -> tuple[int, int, int]:
        if self._is_few:
            return ceil(self.queries / self._columns), 1, 1
        return ceil(self.queries / TILE), ceil(self.size / TILE), 1

    @property
    def _scratch(self) -> Scratch:
        count, size, queries = self.count, self.size, self.queries
        blocks = self._mixing_grid[0] * self._mixing_grid[1]
        numbers = (1, blocks, count * queries, queries, queries, queries, queries, count * size, count)
        offsets = [0]
        for length in numbers:
            offsets.append(offsets[-1] + _padded(4 * length))
        return Scratch(*offsets)

    def _read_few(self, memory: PoolMemory, query: int, read: int, distance: int) -> Launch:
        at = self._scratch
        addresses = (memory.items, query, memory.scratch + at.logits, memory.scratch + at.nearest, read, distance)
        sums = (memory.scratch + at.parts, memory.scratch + at.arrived)
        block = (self._columns, THREADS // self._columns, 1)
        return Launch(f"read_few_{self._suffix}", self._mixing_grid, block, (*_addresses(*addresses, *sums), *self._sizes, self._is_shrunk))

    def _address_many(self, memory: PoolMemory, query: int) -> list[Launch]:
        at, count, queries = self._scratch, np.int32(self.count), np.int32(self.queries)
        logits = memory.scratch + at.logits
        grid = (ceil(self.queries / TILE), ceil(self.count / TILE), 1)
        multiply = Launch(f"multiply_many_{self._suffix}", grid, (THREADS, 1, 1), (*_addresses(memory.items, query, logits), *self._sizes))
        results = (memory.scratch + offset for offset in (at.nearest, at.peaks, at.totals, at.kept))
        grid, block = (ceil(self.queries / WEIGHED), 1, 1), (WEIGHED, THREADS // WEIGHED, 1)
        return [multiply, Launch("weigh_many", grid, block, (*_addresses(logits, *results), count, queries, self._is_shrunk))]

    def _mix_many(self, memory: PoolMemory, query: int, read: int, distance: int) -> Launch:
        at = self._scratch
        weighing = (memory.scratch + offset for offset in (at.logits, at.nearest, at.peaks, at.totals, at.kept))
        sums = (memory.scratch + at.parts, memory.scratch + at.arrived)
        addresses = _addresses(memory.items, query, *weighing, read, distance, *sums)
        return Launch(f"mix_many_{self._suffix}", self._mixing_grid, (THREADS, 1, 1), (*addresses, *self._sizes, self._is_shrunk))

    def _gather(self, memory: PoolMemory, query: int, regular_score: int, status: int) -> Launch:
        at = self._scratch
        rows = self._gathered_rows
        grid = (self.count, ceil(self.size / rows), 1)
        scratch = (memory.scratch + offset for offset in (at.logits, at.nearest, at.direction, at.claims))
        addresses = _addresses(query, *scratch, regular_score, status)
        sizes = (np.int32(self.size), np.int32(self.queries), np.int32(rows), np.int32(self.write_scale == "claimed"))
        return Launch(f"gather_claims_{self._suffix}", grid, (THREADS, 1, 1), (*addresses, np.float32(self.limit), *sizes))

    @property
    def _gathered_rows(self) -> int:
        """Rows of D that a block of `gather_claims` sums: few items are cut, so that there are enough blocks."""
        parts = max(1, min(GATHERING_BLOCKS // self.count, ceil(self.size / 32)))
        return 32 * ceil(self.size / parts / 32)

    def _turn(self, memory: PoolMemory, regular_score: int, status: int) -> Launch:
        direction, claims = memory.scratch + self._scratch.direction, memory.scratch + self._scratch.claims
        addresses = _addresses(memory.items, memory.shipped, direction, claims, memory.next_items, memory.drifts, regular_score, status)
        numbers = (np.float32(self.limit), np.float32(self.rate), np.int32(RULES[self.update]), np.int32(self.size))
        return Launch("turn_items", (self.count, 1, 1), (THREADS, 1, 1), (*addresses, *numbers))


@dataclass(frozen=True)
class BankStep:
    """The memory step of all pools of a stream.

    Attributes:
        pools: in the manifest's order.
        drift_limit: past which a step is discarded and the bank freezes.
    """

    pools: tuple[PoolStep, ...]
    drift_limit: float

    @property
    def items_bytes(self) -> int:
        """Length of all items."""
        return sum(pool.items_bytes for pool in self.pools)

    @property
    def drifts_bytes(self) -> int:
        """Length of all items' drifts."""
        return 4 * sum(pool.count for pool in self.pools)

    @property
    def scratch_bytes(self) -> int:
        """Length of all scratch."""
        return sum(pool.scratch_bytes for pool in self.pools)

    @property
    def is_learning(self) -> bool:
        """Whether any pool ever learns."""
        return any(pool.update != "none" for pool in self.pools)

    def parts(self, memory: BankMemory) -> list[PoolMemory]:
        """Each pool's part of the bank's memory."""
        items, drifts, scratch = 0, 0, 0
        parts = []
        for pool in self.pools:
            places = (memory.items + items, memory.next_items + items, memory.shipped + items)
            parts.append(PoolMemory(*places, memory.drifts + drifts, memory.scratch + scratch))
            items, drifts, scratch = items + pool.items_bytes, drifts + 4 * pool.count, scratch + pool.scratch_bytes
        return parts

    def update(self, memory: BankMemory, queries: Sequence[int], regular_score: int, status: int) -> list[Launch]:
        """Learn the queries that were addressed last; nothing to launch where no pool learns.

        Args:
            queries: address of each pool's, (D, K).
            regular_score: address of one float32.
            status: address of the bank's `STATUS_SIZE` float32.
        """
        if not self.is_learning:
            return []
        parts = zip(self.pools, self.parts(memory), queries, strict=True)
        learned = [launch for pool, part, query in parts for launch in pool.learn(part, query, regular_score, status)]
        return [*learned, self._settle(memory, status)]

    def _settle(self, memory: BankMemory, status: int) -> Launch:
        """Take the next items of all pools, or discard them and freeze; write the status."""
        fours = self.items_bytes // 16
        addresses = _addresses(memory.items, memory.next_items, memory.drifts, status)
        numbers = (np.float32(self.drift_limit), np.int32(fours), np.int32(self.drifts_bytes // 4))
        return Launch("settle_bank", (ceil(fours / THREADS), 1, 1), (THREADS, 1, 1), (*addresses, *numbers))


def pack(values: Sequence[int], packed: int) -> list[Launch]:
    """Copy single float32 numbers from anywhere to places side by side.

    Args:
        values: address of each.
        packed: address of (len(values),) float32, of the host's if it is mapped.
    """
    launches = []
    for first in range(0, len(values), LARGEST_PACK):
        some = values[first : first + LARGEST_PACK]
        addresses = _addresses(*some, *[0] * (LARGEST_PACK - len(some)))
        launches.append(Launch("pack", (1, 1, 1), (32, 1, 1), (np.uint64(packed + 4 * first), np.int32(len(some)), *addresses)))
    return launches


def _addresses(*addresses: int) -> tuple[np.uint64, ...]:
    return tuple(np.uint64(address) for address in addresses)


def _padded(length: int) -> int:
    return ceil(length / ALIGNMENT) * ALIGNMENT
