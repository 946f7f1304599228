"""The NVIDIA GPU of this machine, through the driver that every such machine has: no package is needed."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int
from dataclasses import dataclass

__all__ = ["FoundGpu", "cuda_driver", "find_gpu"]

COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


@dataclass(frozen=True)
class FoundGpu:
    """The first GPU: its name, and its compute capability times ten."""

    name: str
    sm: int


def find_gpu() -> FoundGpu | None:
    """The first GPU; None where there is no driver, or it does not answer."""
    cuda = cuda_driver()
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
    return None if failed else FoundGpu(name.value.decode(errors="replace"), 10 * major.value + minor.value)


def cuda_driver() -> ctypes.CDLL | None:
    """NVIDIA's driver library; None where it is not installed."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
