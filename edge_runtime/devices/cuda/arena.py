"""Device memory in a few large pieces, handed out in small ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from math import prod

import numpy as np

from edge_runtime.devices.cuda.array import DeviceArray

__all__ = ["Arena", "Holding"]

ALIGNMENT = 256  # bytes: what an allocation of its own would have
CHUNK_BYTES = 16 << 20


class Arena:
    """Hands out memory that stays where it is.

    What is given back goes to the next who asks for just as much: cameras that come and go with the same bundle find their place again.

    Args:
        allocate: nbytes to the address of new memory.
    """

    def __init__(self, allocate: Callable[[int], int]) -> None:
        self._allocate = allocate
        self._next = self._end = 0
        self._spare: defaultdict[int, list[int]] = defaultdict(list)

    def take(self, nbytes: int) -> int:
        """The address of `nbytes`, at a multiple of 256.

        Raises:
            BackendError: the device's memory is full.
        """
        size = _rounded(nbytes)
        if self._spare[size]:
            return self._spare[size].pop()
        if size > CHUNK_BYTES // 4:  # a chunk's rest would be lost
            return self._allocate(size)
        if self._next + size > self._end:
            self._next = self._allocate(CHUNK_BYTES)
            self._end = self._next + CHUNK_BYTES
        address, self._next = self._next, self._next + size
        return address

    def give_back(self, address: int, nbytes: int) -> None:
        """Memory that was taken; only work that is queued already may still use it."""
        self._spare[_rounded(nbytes)].append(address)


class Holding:
    """What one owner has taken, to be given back as a whole."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._taken: list[tuple[int, int]] = []

    def take(self, nbytes: int) -> int:
        """The address of `nbytes`, as `Arena.take`."""
        address = self._arena.take(nbytes)
        self._taken.append((address, nbytes))
        return address

    def take_array(self, shape: tuple[int, ...]) -> DeviceArray:
        """Room for float32."""
        return DeviceArray(self.take(4 * prod(shape)), shape, np.dtype(np.float32))

    def give_back(self) -> None:
        """All of it; see `Arena.give_back`."""
        while self._taken:
            self._arena.give_back(*self._taken.pop())


def _rounded(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT
