"""What one camera has for itself: its window, its memory bank, the smoothing of its score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edge_runtime.frames import Frame
from edge_runtime.score import Step
from edge_runtime.score_scale import MovingAverage
from edge_runtime.window import Window

__all__ = ["Arrays", "Bank", "FrameRing", "Stream"]

Arrays = Mapping[str, Any]
"""Named arrays on the device. The first axis is the batch: one row a stream."""


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
