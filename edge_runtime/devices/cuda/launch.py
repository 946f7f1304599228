"""A kernel launch as data: what is to run on how many threads with which arguments. Who runs it is another's business."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Launch"]


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel without dynamic shared memory.

    Attributes:
        kernel: its name in kernels/.
        grid, block: blocks, and threads of a block, along x, y and z.
        arguments: in the kernel's order. An address is an np.uint64; numbers are np.int32 and np.float32.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[np.generic, ...]
