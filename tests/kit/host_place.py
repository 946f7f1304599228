"""A GPU's device over the host's memory: addresses are real, and the CPU can read there. Not asynchronous, and no kernels.

The memory step and the preprocessing are the host's; only the graphs meet addresses. What really runs on a GPU is another device.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.host import HostDevice
from edge_runtime.stream import Arrays

__all__ = ["HostPlace", "HostPlaceDevice"]

ALIGNMENT = 256  # bytes, as on a GPU


class HostPlace:
    """Where graphs find their arrays.

    Attributes:
        allocations: how many were asked for.
    """

    def __init__(self, cuda_stream: int = 0) -> None:
        self.cuda_stream = cuda_stream
        self.allocations = 0
        self._buffers: list[np.ndarray] = []

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        buffer = np.empty(size + ALIGNMENT, np.uint8)
        self._buffers.append(buffer)
        self.allocations += 1
        there = DeviceArray(buffer.ctypes.data + -buffer.ctypes.data % ALIGNMENT, shape, np.dtype(dtype))
        self._view(there)[...] = np.nan
        return there

    def upload(self, array: np.ndarray) -> DeviceArray:
        there = self.allocate(array.shape, array.dtype)
        self._view(there)[...] = array
        return there

    def download(self, array: DeviceArray) -> np.ndarray:
        return self._view(array).copy()

    @staticmethod
    def _view(array: DeviceArray) -> np.ndarray:
        return np.frombuffer((ctypes.c_byte * array.nbytes).from_address(array.address), array.dtype).reshape(array.shape)


class HostPlaceDevice(HostDevice):
    """A whole device around it, for a detector.

    Attributes:
        is_closed: `close` was called.
    """

    name = "cuda"

    def __init__(self) -> None:
        super().__init__()
        self._place = HostPlace()
        self.cuda_stream = self._place.cuda_stream
        self.allocate = self._place.allocate
        self.is_closed = False

    def stack(self, rows: Sequence[Arrays]) -> Arrays:
        return {name: self._place.upload(array) for name, array in super().stack(rows).items()}

    def unstack(self, batch: Arrays) -> list[Arrays]:
        return super().unstack({name: self._place.download(array) for name, array in batch.items()})

    def close(self) -> None:
        self.is_closed = True
