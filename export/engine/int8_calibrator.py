"""Ranges for int8 that TensorRT 8.6 or 10 measures by itself, on clips. Names checked against the bindings, never run: it needs a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from export.engine.device_memory import DeviceMemory

__all__ = ["entropy_calibrator"]


@contextmanager
def entropy_calibrator(trt: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> Iterator[Any]:
    """A calibrator that shows the builder each batch once; it is valid inside the block.

    Args:
        batches: inputs by name, each with one stream.

    Raises:
        BackendError: there is no GPU.
    """
    with DeviceMemory() as memory:

        class Calibrator(trt.IInt8EntropyCalibrator2):
            def __init__(self) -> None:
                trt.IInt8EntropyCalibrator2.__init__(self)
                self._batches = iter(batches)

            def get_batch_size(self) -> int:
                return 1

            def get_batch(self, names: list[str]) -> list[int] | None:
                batch = next(self._batches, None)
                if batch is None:
                    return None
                there = memory.upload({name: batch[name] for name in names})
                return [there[name].address for name in names]

            def read_calibration_cache(self) -> None:
                """Every build measures anew: the clips may be others."""

            def write_calibration_cache(self, cache: Any) -> None:
                """Nothing is kept."""

        yield Calibrator()
