"""The memory of one stream on the GPU: read, distance, gate and update, without the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from edge_runtime.bundle import check_items
from edge_runtime.bundle.manifest import Manifest, PoolSpec
from edge_runtime.devices.cuda.arena import Holding
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.cuda.driver import Gpu, PreparedLaunch
from edge_runtime.devices.cuda.launch import Launch
from edge_runtime.devices.cuda.memory_step import STATUS_SIZE, BankMemory, BankStep, PoolMemory, PoolStep
from edge_runtime.devices.host_memory import largest_drift
from edge_runtime.stream import Arrays

__all__ = ["CudaBank"]

FACTS = ("is_frozen", "is_updated", "drift")  # the status, as the kernels order it
KEPT_CALLS = 16  # engines use the same few buffers over and over


@dataclass(frozen=True)
class PreparedCall:
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
        self._shipped = {name: items.copy() for name, items in shipped.items()}
        self._step = _bank_step(manifest, shipped)
        step = self._step
        self._memory = BankMemory(
            items=holding.take(step.items_bytes),
            next_items=holding.take(step.items_bytes),
            shipped=holding.take(step.items_bytes),
            drifts=holding.take(step.drifts_bytes),
            scratch=holding.take(step.scratch_bytes),
        )
        queries = _query_shapes(manifest)
        self._reads = {pool.read: holding.take_array(queries[pool.query]) for pool in manifest.pools if pool.read is not None}
        self._distances = {pool.name: holding.take_array((1,)) for pool in manifest.pools}
        self._status = holding.take_array((STATUS_SIZE,))
        self._prepared_reads: dict[tuple[int, ...], PreparedCall] = {}
        self._prepared_updates: dict[tuple[int, ...], PreparedCall] = {}
        self._addressed: tuple[int, ...] | None = None
        gpu.fill(self._status.address, 0, STATUS_SIZE)
        gpu.fill(self._memory.scratch, 0, step.scratch_bytes // 4)
        for part, items in zip(step.parts(self._memory), self._in_order(shipped), strict=True):
            gpu.upload(part.shipped, items)
        self.reset()

    def read(self, queries: Arrays) -> Arrays:
        """Reads by decoder input, float32 and shaped like their queries; `distance/<pool>` (1,). They last until the next read."""
        addresses = self._addresses(queries)
        call = self._prepared_reads.get(addresses)
        if call is None:
            call = _keep(self._prepared_reads, addresses, self._prepare_read(queries))
        self._gpu.launch(call.launches)
        self._addressed = addresses
        return call.results

    def update(self, queries: Arrays, scores: Arrays) -> Arrays:
        """Learn the frame that was read last, if its regular score is below the gate's limit: decided on the device."""
        addresses = self._addresses(queries)
        regular_score: DeviceArray = scores["score/regular_score"]
        if addresses != self._addressed:
            self._gpu.launch(self._gpu.prepare(self._address_launches(queries)))
            self._addressed = addresses
        key = (*addresses, regular_score.address)
        call = self._prepared_updates.get(key)
        if call is None:
            call = _keep(self._prepared_updates, key, self._prepare_update(queries, regular_score))
        self._gpu.launch(call.launches)
        return call.results

    @property
    def is_frozen(self) -> bool:
        """Nothing is learned until `unfreeze`. This waits for the GPU, which decides."""
        answer = np.empty(1, np.float32)
        self._gpu.download(self._fact("is_frozen").address, answer)
        return bool(answer[0])

    def freeze(self) -> None:
        """Stop learning, from the next frame that is submitted."""
        self._gpu.fill(self._fact("is_frozen").address, 1, 1)

    def unfreeze(self) -> None:
        """Go on learning, from the next frame that is submitted."""
        self._gpu.fill(self._fact("is_frozen").address, 0, 1)

    def reset(self) -> None:
        """Back to the shipped items; frozen or not stays as it is."""
        self._gpu.copy(self._memory.items, self._memory.shipped, self._step.items_bytes)
        self._begin_anew(self._shipped)

    def snapshot(self) -> dict[str, np.ndarray]:
        """A copy of the items on the host, pool to (M, D) float32. This waits for the GPU."""
        copies = {name: np.empty_like(items) for name, items in self._shipped.items()}
        for part, copy in zip(self._step.parts(self._memory), self._in_order(copies), strict=True):
            self._gpu.download(part.items, copy)
        return copies

    def restore(self, items: Mapping[str, np.ndarray]) -> None:
        """Take over a snapshot's items. This waits for the GPU.

        Raises:
            BundleError: they do not fit the pools.
        """
        check_items(items, self._manifest, "memory to restore")
        for part, array in zip(self._step.parts(self._memory), self._in_order(items), strict=True):
            self._gpu.upload(part.items, array)
        self._begin_anew(items)

    def _begin_anew(self, items: Mapping[str, np.ndarray]) -> None:
        self._gpu.fill(self._fact("drift").address, largest_drift(items, self._shipped), 1)
        self._addressed = None

    def _in_order(self, items: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [items[pool.name] for pool in self._manifest.pools]

    def _fact(self, name: str) -> DeviceArray:
        """(1,) of the status."""
        return DeviceArray(self._status.address + 4 * FACTS.index(name), (1,), self._status.dtype)

    def _addresses(self, queries: Arrays) -> tuple[int, ...]:
        return tuple([queries[pool.query].address for pool in self._manifest.pools])

    def _prepare_read(self, queries: Arrays) -> PreparedCall:
        launches: list[Launch] = []
        for pool, step, part in self._pools(queries):
            read = None if pool.read is None else self._reads[pool.read].address
            launches += step.read(part, queries[pool.query].address, read, self._distances[pool.name].address)
        distances = {f"distance/{name}": distance for name, distance in self._distances.items()}
        return PreparedCall(self._gpu.prepare(launches), {**self._reads, **distances})

    def _address_launches(self, queries: Arrays) -> list[Launch]:
        return [launch for pool, step, part in self._pools(queries) for launch in step.address(part, queries[pool.query].address)]

    def _prepare_update(self, queries: Arrays, regular_score: DeviceArray) -> PreparedCall:
        bank = replace(self._step, pools=tuple(step for _, step, _ in self._pools(queries)))
        launches = bank.update(self._memory, self._addresses(queries), regular_score.address, self._status.address)
        return PreparedCall(self._gpu.prepare(launches), {name: self._fact(name) for name in FACTS})

    def _pools(self, queries: Arrays) -> list[tuple[PoolSpec, PoolStep, PoolMemory]]:
        """Each pool with its step for the queries' number type, which is the precision's, and its memory."""
        pools = zip(self._manifest.pools, self._step.pools, self._step.parts(self._memory), strict=True)
        return [(pool, replace(step, query_dtype=queries[pool.query].dtype), part) for pool, step, part in pools]


def _keep(calls: dict[tuple[int, ...], PreparedCall], key: tuple[int, ...], call: PreparedCall) -> PreparedCall:
    if len(calls) >= KEPT_CALLS:
        calls.clear()
    calls[key] = call
    return call


def _bank_step(manifest: Manifest, items: Mapping[str, np.ndarray]) -> BankStep:
    shapes = _query_shapes(manifest)
    steps = [
        PoolStep.of(
            pool,
            manifest.update,
            manifest.gate,
            items=(len(items[pool.name]), items[pool.name].shape[1]),
            queries=prod(shapes[pool.query][2:]),
            query_dtype=np.dtype(np.float32),
        )
        for pool in manifest.pools
    ]
    return BankStep(tuple(steps), manifest.update.drift_limit)


def _query_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Of one frame: (1, D, *grid), the same in every precision."""
    outputs = next(iter(manifest.precisions.values())).encoder.outputs
    return {tensor.name: (1, *map(int, tensor.shape[1:])) for tensor in outputs}
