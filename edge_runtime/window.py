"""The consecutive frames of a stream that the model looks at; a gap empties it."""

from __future__ import annotations

from collections import deque

from edge_runtime.frames import Frame

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
        self._size: tuple[int, ...] | None = None
        self._next_slot = 0

    def gap_before(self, frame: Frame) -> str | None:
        """Why the frames in view do not lead up to this one; None where they do, or where there are none."""
        if not self._frames:
            return None
        if frame.gap is not None:
            return frame.gap
        return f"size changed to {frame.image.shape[1]}x{frame.image.shape[0]}" if frame.image.shape != self._size else None

    def push(self, frame: Frame) -> None:
        """Take a frame in, the oldest out; its pixels are in `next_slot` by now."""
        self._frames.append(frame)
        self._size = frame.image.shape
        self._next_slot = (self._next_slot + 1) % self._span

    def clear(self) -> None:
        """Forget all frames: the next score needs a whole window again."""
        self._frames.clear()

    @property
    def is_full(self) -> bool:
        """There are enough consecutive frames for a score."""
        return len(self._frames) == self._span

    @property
    def next_slot(self) -> int:
        """The slot for the next frame's pixels, in [0, span); they belong into `next_slot + span`, too."""
        return self._next_slot

    @property
    def start(self) -> int:
        """First slot of the window, once it is full."""
        return self._next_slot

    @property
    def target(self) -> Frame:
        """The target frame of a full window."""
        return self._frames[self._target]
