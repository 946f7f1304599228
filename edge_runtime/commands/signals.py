"""Ctrl-C and SIGTERM, for commands that finish what they are at."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["StopSignals", "Stoppable"]


class Stoppable(Protocol):
    """A run that can be asked to end.

    Attributes:
        is_closing: it ends already, and closes its files.
    """

    @property
    def is_closing(self) -> bool: ...

    def stop(self) -> None: ...


class StopSignals:
    """The first Ctrl-C or SIGTERM lets the frame at hand finish; a second one interrupts it, but never the closing of files.

    It is on guard before anything is loaded: an exception raised while a library begins could be lost there, a note cannot.
    """

    def __init__(self) -> None:
        self._run: Stoppable | None = None
        self._received = 0
        self._interrupts = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def guard(self, run: Stoppable) -> None:
        """From now on it is this run that is stopped; at once, if a signal has come."""
        self._run = run
        if self._received:
            run.stop()

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within, the first signal interrupts: nothing is at hand that could be finished, as while a camera is waited for."""
        if self._received:
            raise KeyboardInterrupt
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def _receive(self, *_: object) -> None:
        self._received += 1
        is_closing = self._run is not None and self._run.is_closing
        if self._interrupts or (self._received > 1 and not is_closing):
            raise KeyboardInterrupt
        if self._run is not None:
            self._run.stop()
