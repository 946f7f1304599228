"""What one camera has for itself: its window, its memory bank, the smoothing of its score; and the device and the graphs that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.frames import Frame
from edge_runtime.score import Step
from edge_runtime.score_scale import MovingAverage
from edge_runtime.window import Window

__all__ = ["Arrays", "Bank", "Device", "Fetched", "FrameRing", "Graph", "Mark", "Stream"]

Arrays = Mapping[str, Any]
"""Named arrays on the device. The first axis is the batch: one row a stream."""


class Graph(Protocol):
    """One half of the model, loaded in an engine."""

    def run(self, inputs: Arrays) -> Arrays:
        """Outputs by name for inputs by name; the batch axis is first."""


class FrameRing(Protocol):
    """Preprocessed frames of one stream on the device, (slots, C, h, w) float32."""

    def write(self, slot: int, image: np.ndarray) -> None:
        """Preprocess (H, W, 3) uint8 BGR into a slot and its twin."""

    def view(self, start: int) -> Arrays:
        """`clip` (1, T, C, h, w) and `target` (1, C, h, w) of the window that begins at a slot."""


class Bank(Protocol):
    """All memory pools of one stream. Reads are pure; updates are decided on the device, one call per frame."""

    def read(self, queries: Arrays) -> Arrays:
        """Mix items for every query.

        Args:
            queries: by the encoder's output name, (1, D, *grid) float32.

        Returns:
            Each read under its decoder input's name, shaped like its query; `distance/<pool>` (1,): mean squared difference
            of the queries to their nearest items.
        """

    def update(self, queries: Arrays, scores: Arrays) -> Arrays:
        """Learn the frame that was read last, if the gate lets it pass; the effect begins with the next read.

        Args:
            queries: the ones that were read.
            scores: `score/regular_score` (1,).

        Returns:
            `is_updated` and `is_frozen` (1,), true or not 0; `drift` (1,) of the items from their shipped selves.
        """

    @property
    def is_frozen(self) -> bool:
        """Nothing is learned until `unfreeze`. On a GPU this waits for all that was submitted."""

    def freeze(self) -> None:
        """Stop learning."""

    def unfreeze(self) -> None:
        """Go on learning."""

    def reset(self) -> None:
        """Back to the shipped items; frozen or not stays as it is."""

    def snapshot(self) -> dict[str, np.ndarray]:
        """A copy of the items on the host, pool to (M, D) float32."""

    def restore(self, items: Mapping[str, np.ndarray]) -> None:
        """Take over a snapshot's items.

        Raises:
            BundleError: they do not fit the pools.
        """


@dataclass(frozen=True)
class Stream:
    """One camera on one device."""

    name: str
    window: Window
    ring: FrameRing
    bank: Bank
    smoothing: MovingAverage

    def push(self, frame: Frame) -> Step:
        """Take a frame into the ring and the window; the step is yet to be scored.

        Raises:
            ShapeError: the frame is not (H, W, 3) uint8; the window is as it was.
        """
        self.ring.write(self.window.next_slot, frame.image)
        return self.window.push(frame)


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
