"""Where results go. A pipeline hands every step and event to each of its sinks, in order."""

from __future__ import annotations

from typing import Protocol

from edge_runtime.score import Event, Step

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes results of one or several streams.

    A call must not wait for anything slow; what is written is whole after every call or after `close`.
    """

    def write_step(self, step: Step) -> None:
        """A frame went through the detector, and that frame or one before it was scored, or none.

        Every frame comes once, and every score once. A frame can be scored until a later one is, or there is a gap.
        """

    def write_event(self, event: Event) -> None:
        """Something other than a score happened; a gap, and what it ends, is told before the step that begins with it."""

    def close(self) -> None:
        """Finish the files. Called once, also after an error or an interruption."""
