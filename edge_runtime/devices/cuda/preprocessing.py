"""The kernel that turns a camera's picture into the network's input, as `edge_runtime.preprocess` does on the host."""

from __future__ import annotations

from math import ceil

import numpy as np

from edge_runtime.devices.cuda.launch import Launch
from edge_runtime.preprocess import InputSpec

__all__ = ["preprocess"]

BLOCK = (32, 8, 1)


def preprocess(image: int, height: int, width: int, spec: InputSpec, slot: int, twin: int) -> Launch:
    """Grey where the model wants it, area resize, x / 127.5 − 1; into a slot of the ring and its twin.

    Args:
        image: address of (height, width, 3) uint8, BGR, contiguous.
        spec: gives (C, h, w).
        slot, twin: addresses of (C, h, w) float32.
    """
    grid = (ceil(spec.width / BLOCK[0]), ceil(spec.height / BLOCK[1]), 1)
    sizes = (height, width, spec.channels, spec.height, spec.width)
    return Launch("preprocess", grid, BLOCK, (np.uint64(image), np.uint64(slot), np.uint64(twin), *map(np.int32, sizes)))
