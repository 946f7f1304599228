"""Launches run on the CPU, over NumPy arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edge_runtime.devices.cuda.launch import Launch

__all__ = ["ORDERS", "Block", "Emulator", "packed"]

GUARD = 256
ORDERS = ("ascending", "descending", "random", "threads")


class Emulator:
    """A library of kernels that were compiled for the CPU.

    Args:
        library: what `compile_for_cpu` made.
    """

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.emulated_error.restype = ctypes.c_char_p
        self._library.emulated_launch.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]

    def order(self, name: str, seed: int = 0) -> None:
        """How the threads of a block take turns from now on; of `ORDERS`."""
        self._library.emulated_order(ORDERS.index(name), seed)

    def skip(self, file: str, line: int) -> None:
        """Leave out the barrier on a line of a source file; line 0: none."""
        self._library.emulated_skip(file.encode(), line)

    def has(self, kernel: str) -> bool:
        """Whether there is such a kernel."""
        return bool(self._library.emulated_has(kernel.encode()))

    def run(self, launches: Iterable[Launch]) -> None:
        """Run launches one after the other.

        Raises:
            RuntimeError: one is not as its kernel wants it, or its threads wait for each other in vain.
        """
        for launch in launches:
            arguments = packed(launch)
            grid, block = ((ctypes.c_uint * 3)(*size) for size in (launch.grid, launch.block))
            if self._library.emulated_launch(launch.kernel.encode(), grid, block, arguments, len(arguments)) != 0:
                raise RuntimeError(self._library.emulated_error().decode())


def packed(launch: Launch) -> bytes:
    """A launch's arguments as C lays them out in a struct, without padding at the end."""
    content = b""
    for argument in launch.arguments:
        content += bytes(-len(content) % argument.dtype.itemsize) + argument.tobytes()
    return content


class Block:
    """Memory at an address as a device would give it, a multiple of 256, with a guard behind it.

    Attributes:
        bytes: (nbytes,) uint8, filled so that a float32 is not a number, or with zeros.
    """

    def __init__(self, nbytes: int, *, is_zeroed: bool = False) -> None:
        raw = np.full(nbytes + 2 * GUARD, 0 if is_zeroed else 0xFF, np.uint8)
        raw = raw[-raw.ctypes.data % GUARD :]
        self.bytes, self._guard = raw[:nbytes], raw[nbytes : nbytes + GUARD]
        self._guard[:] = 0xA5

    @property
    def address(self) -> int:
        """Of the first byte."""
        return self.bytes.ctypes.data

    @property
    def is_intact(self) -> bool:
        """Whether nothing was written past the end."""
        return bool((self._guard == 0xA5).all())
