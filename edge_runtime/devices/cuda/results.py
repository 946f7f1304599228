"""A step's few numbers on their way back, and the one wait for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.cuda.driver import CudaEvent, Gpu, Pinned, PreparedLaunch
from edge_runtime.devices.cuda.memory_step import pack

__all__ = ["CudaFetched", "Results"]

KEPT_LAUNCHES = 256

Rows = Sequence[Mapping[str, DeviceArray]]


@dataclass
class Slot:
    """Pinned memory for one group's results.

    Attributes:
        has_arrived: the results are there.
    """

    has_arrived: CudaEvent
    scalars: Pinned | None = None
    maps: Pinned | None = None


class CudaFetched:
    """Rows on their way to the host. Their slot is free for others once they were waited for, or are forgotten."""

    def __init__(self, gpu: Gpu, slot: Slot, free: list[Slot], rows: Rows) -> None:
        self._gpu = gpu
        self._slot: Slot | None = slot
        self._free = free
        self._rows = rows
        self._values: list[Mapping[str, np.ndarray]] = []

    def wait(self) -> Sequence[Mapping[str, np.ndarray]]:
        """The rows, the caller's own: float32 by name. Called again, it gives the same.

        Raises:
            BackendError: work of this step or before it failed.
        """
        if self._slot is not None:
            self._gpu.wait(self._slot.has_arrived)
            self._values = _taken(self._rows, self._slot)
            self._release()
        return self._values

    def __del__(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._slot is not None:
            self._free.append(self._slot)
            self._slot = None


class Results:
    """Brings scalars down by one kernel that writes into the host's memory, and larger arrays by copies.

    There are as many slots as results were ever on their way at once.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._free: list[Slot] = []
        self._launches: dict[tuple[int, ...], list[PreparedLaunch]] = {}  # by the addresses to and from

    def fetch(self, rows: Rows) -> CudaFetched:
        """Begin to bring rows of float32 arrays to the host."""
        slot = self._free.pop() if self._free else Slot(self._gpu.event())
        fetched = CudaFetched(self._gpu, slot, self._free, rows)
        arrays = [array for row in rows for array in row.values()]
        self._bring_scalars(slot, [array.address for array in arrays if array.nbytes == 4])
        self._bring_maps(slot, [array for array in arrays if array.nbytes != 4])
        self._gpu.record(slot.has_arrived, self._gpu.compute)
        return fetched

    def _bring_scalars(self, slot: Slot, sources: list[int]) -> None:
        slot.scalars = self._with_room(slot.scalars, 4 * len(sources))
        addresses = (slot.scalars.address, *sources)
        launches = self._launches.get(addresses)
        if launches is None:
            if len(self._launches) >= KEPT_LAUNCHES:
                self._launches.clear()
            launches = self._launches[addresses] = self._gpu.prepare(pack(sources, slot.scalars.address))
        self._gpu.launch(launches)

    def _bring_maps(self, slot: Slot, arrays: list[DeviceArray]) -> None:
        if not arrays:
            return
        slot.maps = self._with_room(slot.maps, sum(array.nbytes for array in arrays))
        at = 0
        for array in arrays:
            self._gpu.copy_down(slot.maps.host[at : at + array.nbytes], array.address)
            at += array.nbytes

    def _with_room(self, pinned: Pinned | None, nbytes: int) -> Pinned:
        if pinned is not None and pinned.host.nbytes >= nbytes:
            return pinned
        larger = self._gpu.allocate_pinned(max(nbytes, 256))  # if it fails, the slot keeps what it has
        if pinned is not None:
            self._gpu.free_pinned(pinned)
        return larger


def _taken(rows: Rows, slot: Slot) -> list[Mapping[str, np.ndarray]]:
    """Copies of what has arrived, in the order in which it was asked for."""
    taken = {True: 0, False: 0}  # bytes, of scalars and of maps

    def take(array: DeviceArray) -> np.ndarray:
        is_scalar = array.nbytes == 4
        pinned, first = slot.scalars if is_scalar else slot.maps, taken[is_scalar]
        assert pinned is not None
        taken[is_scalar] += array.nbytes
        return pinned.host[first : taken[is_scalar]].copy().view(np.float32).reshape(array.shape)

    return [{name: take(array) for name, array in row.items()} for row in rows]
