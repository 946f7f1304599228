"""The consecutive frames of a stream that the model looks at; a gap empties it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edge_runtime.frames import Frame, Gap

__all__ = ["View", "Window"]


@dataclass(frozen=True, eq=False)
class View:
    """What a frame is to the window that took it in.

    Attributes:
        frame: the one that came.
        gap: why the frames in view did not lead up to it; None where they did, or where there were none.
        target: the target frame of the window, now that it is full; None while it fills.
    """

    frame: Frame
    gap: Gap | None
    target: Frame | None


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

    def push(self, frame: Frame) -> View:
        """Take a frame in, the oldest out; at a gap all go, and the next score needs a whole window again.

        The frame's pixels are in `next_slot` by now.
        """
        gap = self._gap_before(frame) if self._frames else None
        if gap is not None:
            self._frames.clear()
        self._frames.append(frame)
        self._next_slot = (self._next_slot + 1) % self._span
        return View(frame, gap, self._frames[self._target] if len(self._frames) == self._span else None)

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
