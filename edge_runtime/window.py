"""The consecutive frames of a stream that the model looks at; a gap empties it."""

from __future__ import annotations

from collections import deque

from edge_runtime.frames import Frame, Gap
from edge_runtime.score import Step

__all__ = ["Window"]


class Window:
    """Which frames are in view, and in which slot of a device's ring each of them lies.

    The pixels are the device's. Its ring has twice as many slots as the window has frames, and every frame lies in two of
    them, `slot` and `slot + span`: so the window is always one contiguous run that begins at `start`.

    Args:
        span: consecutive frames needed for one score, ≥ 1.
        target: position of the target frame among them.
    """

    def __init__(self, span: int, target: int) -> None:
        self._span = span
        self._target = target
        self._frames: deque[Frame] = deque(maxlen=span)
        self._next_slot = 0

    def push(self, frame: Frame) -> Step:
        """Take a frame in, whose pixels are in `next_slot` by now; the oldest goes, at a gap all do. The step is yet to be scored."""
        gap = self._gap_before(frame) if self._frames else None
        if gap is not None:
            self._frames.clear()
        self._frames.append(frame)
        self._next_slot = (self._next_slot + 1) % self._span
        return Step(frame, gap, self._frames[self._target] if len(self._frames) == self._span else None)

    def _gap_before(self, frame: Frame) -> Gap | None:
        if frame.gap is not None or frame.image.shape == self._frames[-1].image.shape:
            return frame.gap
        return Gap.of_size(frame.image.shape[1], frame.image.shape[0])

    @property
    def next_slot(self) -> int:
        """The slot for the next frame's pixels, in [0, span); they belong into `next_slot + span`, too."""
        return self._next_slot

    @property
    def start(self) -> int:
        """First slot of the window, once it is full."""
        return self._next_slot
