"""The memory of one stream on the GPU: read, distance, gate and update, without the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_runtime.bundle import check_items
from edge_runtime.devices.cuda.arena import Holding
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.cuda.driver import Gpu, PreparedLaunch
from edge_runtime.devices.cuda.launch import Launch
from edge_runtime.devices.cuda.memory_step import PoolMemory, PoolStep, settle
from edge_runtime.devices.host_memory import largest_drift
from edge_runtime.manifest import Manifest, PoolSpec
from edge_runtime.stream import Arrays

__all__ = ["CudaBank"]

KEPT_PLANS = 16  # engines use the same few buffers over and over


@dataclass(frozen=True)
class Pool:
    """One pool at work.

    Attributes:
        distance: (1,), of the frame that was read last.
        read: shaped like the query; None for a pool that is only scored.
    """

    spec: PoolSpec
    step: PoolStep
    memory: PoolMemory
    distance: DeviceArray
    read: DeviceArray | None


@dataclass(frozen=True)
class Plan:
    """What to launch for arrays at certain addresses, and what comes out."""

    launches: list[PreparedLaunch]
    results: Arrays


class CudaBank:
    """All pools of one stream in device memory.

    Args:
        gpu: with the kernels loaded.
        manifest: pools, gate and update parameters.
        shipped: pool to items (M, D) float32, as the bundle has them.
        holding: where its memory comes from.
    """

    def __init__(self, gpu: Gpu, manifest: Manifest, shipped: Mapping[str, np.ndarray], holding: Holding) -> None:
        self._gpu = gpu
        self._manifest = manifest
        self._holding = holding
        self._shipped_items = {name: items.copy() for name, items in shipped.items()}
        self._shipped, self._items, self._next = ({name: holding.take_array(items.shape) for name, items in shipped.items()} for _ in range(3))
        status = holding.take_array((4,))
        self._is_frozen_array, self._is_updated, self._drift, _ = (
            DeviceArray(status.address + 4 * i, (1,), status.dtype) for i in range(4)
        )
        self._status = status
        self._pools: list[Pool] = []  # made when the first query shows its number type
        self._reads: dict[tuple[int, ...], Plan] = {}
        self._updates: dict[tuple[int, ...], Plan] = {}
        self._addressed: tuple[int, ...] | None = None
        self._is_frozen = False
        self._orders = 0
        gpu.fill(status.address, 0, 4)
        for name, items in shipped.items():
            gpu.upload(self._shipped[name].address, items)
        self.reset()

    def read(self, queries: Arrays) -> Arrays:
        """Reads by decoder input, float32 and shaped like their queries; `distance/<pool>` (1,). They last until the next read."""
        addresses = self._addresses(queries)
        plan = self._reads.get(addresses)
        if plan is None:
            plan = _keep(self._reads, addresses, self._plan_read(queries))
        self._gpu.launch(plan.launches)
        self._addressed = addresses
        return plan.results

    def update(self, queries: Arrays, scores: Arrays) -> Arrays:
        """Learn the frame that was read last, if its regular score is below the gate's limit: decided on the device."""
        addresses = self._addresses(queries)
        regular_score: DeviceArray = scores["score/regular_score"]
        if addresses != self._addressed:
            self._gpu.launch(self._gpu.prepare(self._plan_address(queries)))
            self._addressed = addresses
        key = (*addresses, regular_score.address)
        plan = self._updates.get(key)
        if plan is None:
            plan = _keep(self._updates, key, self._plan_update(queries, regular_score))
        self._gpu.launch(plan.launches)
        return plan.results

    @property
    def is_frozen(self) -> bool:
        """Nothing is learned until `unfreeze`; as of the last frame that was collected."""
        return self._is_frozen

    @property
    def orders(self) -> int:
        """How often `freeze` and `unfreeze` were called: what a frame says that was submitted before the last call is old."""
        return self._orders

    def note_frozen(self, is_frozen: bool, orders: int) -> None:
        """What a collected frame says, that was submitted after so many orders."""
        if orders == self._orders:
            self._is_frozen = is_frozen

    def freeze(self) -> None:
        """Stop learning, from the next frame that is submitted."""
        self._order(is_frozen=True)

    def unfreeze(self) -> None:
        """Go on learning, from the next frame that is submitted."""
        self._order(is_frozen=False)

    def reset(self) -> None:
        """Back to the shipped items; frozen or not stays as it is."""
        for name, items in self._items.items():
            self._gpu.copy(items.address, self._shipped[name].address, items.nbytes)
        self._begin_anew(self._shipped_items)

    def snapshot(self) -> dict[str, np.ndarray]:
        """A copy of the items on the host, pool to (M, D) float32. This waits for the GPU."""
        copies = {name: np.empty(items.shape, np.float32) for name, items in self._items.items()}
        for name, copy in copies.items():
            self._gpu.download(self._items[name].address, copy)
        return copies

    def restore(self, items: Mapping[str, np.ndarray]) -> None:
        """Take over a snapshot's items. This waits for the GPU.

        Raises:
            BundleError: they do not fit the pools.
        """
        check_items(items, self._manifest, "memory to restore")
        for name, array in items.items():
            self._gpu.upload(self._items[name].address, array)
        self._begin_anew(items)

    def _begin_anew(self, items: Mapping[str, np.ndarray]) -> None:
        self._gpu.fill(self._drift.address, largest_drift(items, self._shipped_items), 1)
        self._addressed = None

    def _order(self, *, is_frozen: bool) -> None:
        self._gpu.fill(self._is_frozen_array.address, float(is_frozen), 1)
        self._is_frozen = is_frozen
        self._orders += 1

    def _addresses(self, queries: Arrays) -> tuple[int, ...]:
        return tuple([queries[pool.query].address for pool in self._manifest.pools])

    def _plan_read(self, queries: Arrays) -> Plan:
        launches: list[Launch] = []
        results: dict[str, DeviceArray] = {}
        for pool in self._pools_for(queries):
            query, read = queries[pool.spec.query].address, pool.read
            launches += pool.step.read(pool.memory, query, None if read is None else read.address, pool.distance.address)
            if pool.spec.read is not None and read is not None:
                results[pool.spec.read] = read
            results[f"distance/{pool.spec.name}"] = pool.distance
        return Plan(self._gpu.prepare(launches), results)

    def _plan_address(self, queries: Arrays) -> list[Launch]:
        pools = self._pools_for(queries)
        return [launch for pool in pools for launch in pool.step.address(pool.memory, queries[pool.spec.query].address)]

    def _plan_update(self, queries: Arrays, regular_score: DeviceArray) -> Plan:
        learning = [pool for pool in self._pools_for(queries) if pool.spec.update != "none"]
        launches: list[Launch] = []
        for pool in learning:
            launches += pool.step.learn(pool.memory, queries[pool.spec.query].address, regular_score.address, self._status.address)
        if learning:
            launches += settle([(pool.step, pool.memory) for pool in learning], self._manifest.update, self._status.address)
        for pool in learning:
            launches += pool.step.commit(pool.memory, self._status.address)
        results = {"is_updated": self._is_updated, "is_frozen": self._is_frozen_array, "drift": self._drift}
        return Plan(self._gpu.prepare(launches), results)

    def _pools_for(self, queries: Arrays) -> list[Pool]:
        if not self._pools:
            self._pools = [self._open(spec, queries[spec.query]) for spec in self._manifest.pools]
        return self._pools

    def _open(self, spec: PoolSpec, query: DeviceArray) -> Pool:
        step = PoolStep(spec, self._manifest.update, self._manifest.gate, self._items[spec.name].shape, query.shape, query.dtype)
        memory = PoolMemory(
            items=self._items[spec.name].address,
            next_items=self._next[spec.name].address,
            shipped=self._shipped[spec.name].address,
            scratch=self._holding.take(step.scratch_bytes),
        )
        read = None if spec.read is None else self._holding.take_array(query.shape)
        return Pool(spec, step, memory, self._holding.take_array((1,)), read)


def _keep(plans: dict[tuple[int, ...], Plan], key: tuple[int, ...], plan: Plan) -> Plan:
    if len(plans) >= KEPT_PLANS:
        plans.clear()
    plans[key] = plan
    return plan
