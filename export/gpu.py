"""The NVIDIA GPU of this machine, through the driver that every such machine has: no package is needed."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from edge_runtime.errors import BackendError

__all__ = ["DeviceMemory", "Gpu", "find_gpu"]

COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


@dataclass(frozen=True)
class Gpu:
    """The first GPU: its name, and its compute capability times ten."""

    name: str
    sm: int


def find_gpu() -> Gpu | None:
    """The first GPU; None where there is no driver, or it does not answer."""
    cuda = _driver()
    if cuda is None or cuda.cuInit(0):
        return None
    device, name = c_int(), ctypes.create_string_buffer(256)
    major, minor = c_int(), c_int()
    failed = (
        cuda.cuDeviceGet(byref(device), 0)
        or cuda.cuDeviceGetName(name, 256, device)
        or cuda.cuDeviceGetAttribute(byref(major), COMPUTE_CAPABILITY_MAJOR, device)
        or cuda.cuDeviceGetAttribute(byref(minor), COMPUTE_CAPABILITY_MINOR, device)
    )
    return None if failed else Gpu(name.value.decode(errors="replace"), 10 * major.value + minor.value)


class DeviceMemory:
    """Named buffers on the first GPU, in its primary context; they are freed when the block is left.

    Raises:
        BackendError: there is no GPU, or a call of its driver fails.
    """

    def __init__(self) -> None:
        self._cuda = _driver()
        self._device = c_int()
        self._buffers: dict[str, tuple[c_uint64, int]] = {}

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
        for pointer, _ in self._buffers.values():
            self._cuda.cuMemFree_v2(pointer)
        self._cuda.cuDevicePrimaryCtxRelease_v2(self._device)

    def allocate(self, name: str, size: int) -> int:
        """The address of a buffer of at least `size` bytes; the one of that name is used again where it is large enough."""
        assert self._cuda is not None
        pointer, capacity = self._buffers.get(name, (c_uint64(), 0))
        if capacity < size:
            if capacity:
                self._call(self._cuda.cuMemFree_v2, pointer)
            pointer = c_uint64()
            self._call(self._cuda.cuMemAlloc_v2, byref(pointer), c_size_t(size))
            self._buffers[name] = (pointer, size)
        return pointer.value

    def upload(self, name: str, array: np.ndarray) -> int:
        """Copy an array into the buffer of a name, and give its address."""
        assert self._cuda is not None
        array = np.ascontiguousarray(array)
        address = self.allocate(name, array.nbytes)
        self._call(self._cuda.cuMemcpyHtoD_v2, c_uint64(address), array.ctypes.data_as(c_void_p), c_size_t(array.nbytes))
        return address

    def download(self, name: str, array: np.ndarray) -> np.ndarray:
        """Wait for the GPU and fill an array from the buffer of a name."""
        assert self._cuda is not None
        self._call(self._cuda.cuCtxSynchronize)
        self._call(self._cuda.cuMemcpyDtoH_v2, array.ctypes.data_as(c_void_p), self._buffers[name][0], c_size_t(array.nbytes))
        return array

    def _call(self, function: Any, *arguments: Any) -> None:
        code = function(*arguments)
        if code:
            assert self._cuda is not None
            text = c_char_p()
            self._cuda.cuGetErrorString(code, byref(text))
            reason = text.value.decode() if text.value else "unknown"
            raise BackendError(f"CUDA: expected {function.__name__} to work, got error {code} ({reason}). Look at nvidia-smi or dmesg.")


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
