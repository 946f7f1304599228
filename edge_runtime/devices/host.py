"""The CPU device: windows and memory banks in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from threadpoolctl import threadpool_limits

from edge_runtime.bundle import Bundle
from edge_runtime.devices.host_memory import HostBank
from edge_runtime.preprocess import InputSpec, preprocess
from edge_runtime.score_scale import MovingAverage
from edge_runtime.stream import Arrays, Stream
from edge_runtime.window import Window

__all__ = ["HostDevice", "HostFetched", "HostRing"]


class HostDevice:
    """Arrays are NumPy arrays; moving them costs nothing.

    Making one holds the process's BLAS libraries to one thread: their threads go on spinning after a product, and take the cores
    from the graph that runs next.
    """

    name = "cpu"

    def __init__(self) -> None:
        threadpool_limits(limits=1, user_api="blas")

    def open_stream(self, bundle: Bundle, stream: str, *, smoothing_frames: int) -> Stream:
        """A new stream with the bundle's shipped memory and an empty window."""
        spec = bundle.manifest.input
        return Stream(
            name=stream,
            window=Window(spec.span, spec.target),
            ring=HostRing(spec),
            bank=HostBank(bundle.manifest, bundle.read_items()),
            smoothing=MovingAverage(smoothing_frames),
        )

    def stack(self, rows: Sequence[Arrays]) -> Arrays:
        """Streams to a batch; a single one passes as it is."""
        if len(rows) == 1:
            return rows[0]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def unstack(self, batch: Arrays) -> list[Arrays]:
        """A batch to one row a stream, each (1, …); views, not copies."""
        size = len(next(iter(batch.values())))
        if size == 1:
            return [batch]
        return [{name: array[i : i + 1] for name, array in batch.items()} for i in range(size)]

    def fetch(self, rows: Sequence[Arrays]) -> HostFetched:
        """To the host: they are there."""
        return HostFetched(rows)

    def close(self) -> None:
        """There is nothing to free."""

    def mark(self) -> float:
        """Now, in seconds."""
        return perf_counter()

    def ms_between(self, first: float, second: float) -> float:
        """Milliseconds from one mark to another."""
        return 1e3 * (second - first)


@dataclass(frozen=True)
class HostFetched:
    """Rows that need not be waited for."""

    rows: Sequence[Arrays]

    def wait(self) -> Sequence[Mapping[str, np.ndarray]]:
        """The rows."""
        return self.rows


class HostRing:
    """Preprocessed frames of one stream in host memory."""

    def __init__(self, spec: InputSpec) -> None:
        self._spec = spec
        self._slots = np.empty((2 * spec.span, spec.channels, spec.height, spec.width), np.float32)

    def write(self, slot: int, image: np.ndarray) -> None:
        """Preprocess (H, W, 3) uint8 BGR into a slot and its twin."""
        preprocess(image, self._spec, out=self._slots[slot])
        self._slots[slot + self._spec.span] = self._slots[slot]

    def view(self, start: int) -> Arrays:
        """`clip` (1, T, C, h, w) and `target` (1, C, h, w); valid until the next write."""
        target = start + self._spec.target
        return {"clip": self._slots[None, start : start + self._spec.frames], "target": self._slots[target : target + 1]}
