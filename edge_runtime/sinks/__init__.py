"""Where results go. A pipeline hands every frame, score and event to each of its sinks, in order."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edge_runtime.frames import Frame
from edge_runtime.score import Event, Score

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes results of one or several streams.

    A call must not wait for anything slow; what is written is whole after every call or after `close`.
    """

    def write_frame(self, frame: Frame, score: Score | None, error_map: np.ndarray | None) -> None:
        """A frame went through the detector.

        Args:
            frame: the target frame of the score; where there is no score, the frame that just came.
            score: None while the window fills.
            error_map: (h, w) float32, squared error on [0, 1] images averaged over the channels; None with the score.
        """

    def write_event(self, event: Event) -> None:
        """Something other than a score happened."""

    def close(self) -> None:
        """Finish the files. Called once, also after an error or an interruption."""
