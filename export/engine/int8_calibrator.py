"""Ranges for int8 that TensorRT 8.6 or 10 measures by itself, on clips. Names checked against the bindings, never run: it needs a GPU."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.files import write_atomically
from export.engine.device_memory import DeviceMemory

__all__ = ["cache_name", "calibrator"]


def cache_name(content: bytes, batches: Sequence[Mapping[str, np.ndarray]], method: str) -> str:
    """A file name that is another one for another graph, other footage or another method."""
    digest = hashlib.sha256(content)
    for batch in batches:
        for name in sorted(batch):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(batch[name]).tobytes())
    return f"{method}-{digest.hexdigest()[:16]}.calibration"


@contextmanager
def calibrator(trt: Any, batches: Sequence[Mapping[str, np.ndarray]], method: str, cache: Path) -> Iterator[Any]:
    """A calibrator that shows the builder each batch once; it is valid inside the block.

    Args:
        batches: inputs by name, each with one stream.
        method: `entropy` or `minmax`.
        cache: what an earlier build measured on the same; written where it is missing. See `cache_name`.

    Raises:
        BackendError: there is no GPU.
        SinkError: the cache cannot be written.
    """
    base: Any = trt.IInt8MinMaxCalibrator if method == "minmax" else trt.IInt8EntropyCalibrator2
    with DeviceMemory() as memory:

        class Calibrator(base):
            def __init__(self) -> None:
                super().__init__()
                self._batches = iter(batches)

            def get_batch_size(self) -> int:
                return 1

            def get_batch(self, names: list[str]) -> list[int] | None:
                batch = next(self._batches, None)
                if batch is None:
                    return None
                there = memory.upload({name: batch[name] for name in names})
                return [there[name].address for name in names]

            def read_calibration_cache(self) -> bytes | None:
                return cache.read_bytes() if cache.exists() else None

            def write_calibration_cache(self, measured: Any) -> None:
                cache.parent.mkdir(exist_ok=True)
                write_atomically(cache, bytes(measured))

        yield Calibrator()
