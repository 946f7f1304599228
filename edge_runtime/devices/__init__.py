"""Where arrays live and the memory step runs. `host` is the oracle that every other device is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # `gpu` below is asked where nothing is installed
    import numpy as np

    from edge_runtime.bundle import Bundle
    from edge_runtime.stream import Arrays, Stream

__all__ = ["Device", "Fetched", "Mark"]

Mark = Any
"""A point in a device's work, as its `mark` gives it."""


class Fetched(Protocol):
    """Rows on their way to the host."""

    def wait(self) -> Sequence[Mapping[str, np.ndarray]]:
        """The rows, the caller's own: the one synchronisation of a step. Called once."""


class Device(Protocol):
    """Where arrays live and the memory step runs. What it is asked to do, it does in that order; only `wait` waits for it."""

    @property
    def name(self) -> str: ...

    def open_stream(self, bundle: Bundle, stream: str, *, smoothing_frames: int) -> Stream:
        """A new stream: window and bank on this device."""

    def stack(self, rows: Sequence[Arrays]) -> Arrays:
        """Streams to a batch."""

    def unstack(self, batch: Arrays) -> list[Arrays]:
        """A batch to streams."""

    def fetch(self, rows: Sequence[Arrays]) -> Fetched:
        """Begin to bring rows to the host. Any number may be on their way."""

    def close(self) -> None:
        """Wait for all work and free everything, in the thread that opened it. A second time it does nothing."""

    def mark(self) -> Mark:
        """This point in the work, for `ms_between`."""

    def ms_between(self, first: Mark, second: Mark) -> float:
        """Milliseconds of work between two marks of a step that has been waited for."""
