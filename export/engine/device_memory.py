"""Memory on the first GPU by the driver alone, so that engines are checked where pycuda was never compiled."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from types import TracebackType
from typing import Any

import numpy as np

from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.gpu import cuda_driver
from edge_runtime.errors import BackendError

__all__ = ["DeviceMemory"]


class DeviceMemory:
    """Arrays on the first GPU, in its primary context; they are freed when the block is left.

    Attributes:
        cuda_stream: the default one, in whose order everything here happens.

    Raises:
        BackendError: there is no GPU, or a call of its driver fails.
    """

    cuda_stream = 0

    def __init__(self) -> None:
        self._cuda = cuda_driver()
        self._device = c_int()
        self._pointers: list[c_uint64] = []
        self._uploads: dict[str, DeviceArray] = {}

    def __enter__(self) -> DeviceMemory:
        if self._cuda is None:
            raise BackendError("CUDA: expected NVIDIA's driver (libcuda.so.1), it is not here. Install it.")
        context = c_void_p()
        self._call(self._cuda.cuInit, 0)
        self._call(self._cuda.cuDeviceGet, byref(self._device), 0)
        self._call(self._cuda.cuDevicePrimaryCtxRetain, byref(context), self._device)
        self._call(self._cuda.cuCtxSetCurrent, context)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._cuda is not None
        for pointer in self._pointers:
            self._cuda.cuMemFree_v2(pointer)
        self._cuda.cuDevicePrimaryCtxRelease_v2(self._device)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """An array for as long as the block lasts; what is in it is not said."""
        assert self._cuda is not None
        pointer = c_uint64()
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._call(self._cuda.cuMemAlloc_v2, byref(pointer), c_size_t(size))
        self._pointers.append(pointer)
        return DeviceArray(pointer.value, shape, dtype)

    def upload(self, arrays: Mapping[str, np.ndarray]) -> dict[str, DeviceArray]:
        """Copies of arrays by name; the next upload of a name takes its place if it is shaped the same."""
        assert self._cuda is not None
        for name, array in arrays.items():
            there = self._uploads.get(name)
            if there is None or (there.shape, there.dtype) != (array.shape, array.dtype):
                there = self._uploads[name] = self.allocate(array.shape, array.dtype)
            source = np.ascontiguousarray(array)
            self._call(self._cuda.cuMemcpyHtoD_v2, c_uint64(there.address), source.ctypes.data_as(c_void_p), c_size_t(there.nbytes))
        return {name: self._uploads[name] for name in arrays}

    def download(self, arrays: Mapping[str, DeviceArray]) -> dict[str, np.ndarray]:
        """Wait for the GPU and bring arrays back."""
        assert self._cuda is not None
        self._call(self._cuda.cuCtxSynchronize)
        back = {name: np.empty(array.shape, array.dtype) for name, array in arrays.items()}
        for name, array in arrays.items():
            self._call(self._cuda.cuMemcpyDtoH_v2, back[name].ctypes.data_as(c_void_p), c_uint64(array.address), c_size_t(array.nbytes))
        return back

    def _call(self, function: Any, *arguments: Any) -> None:
        code = function(*arguments)
        if code:
            assert self._cuda is not None
            text = c_char_p()
            self._cuda.cuGetErrorString(code, byref(text))
            reason = text.value.decode() if text.value else "unknown"
            raise BackendError(f"CUDA: expected {function.__name__} to work, got error {code} ({reason}). Look at nvidia-smi or dmesg.")
