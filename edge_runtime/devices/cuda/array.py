"""An array on the GPU, as an address: what engines, kernels and copies pass to each other."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

__all__ = ["DeviceArray"]


@dataclass(frozen=True)
class DeviceArray:
    """C-contiguous values in device memory; whoever allocated them keeps them alive.

    Attributes:
        address: of the first value, in the device's address space.
        shape: the batch first.
        dtype: of one value.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def row(self, i: int) -> DeviceArray:
        """Row i of the batch, (1, …): a view."""
        return DeviceArray(self.address + i * self.nbytes // self.shape[0], (1, *self.shape[1:]), self.dtype)
