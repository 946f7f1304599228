"""Ctrl-C and SIGTERM, for commands that finish what they are at."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

__all__ = ["StopSignals", "Stoppable"]

AGAIN_AFTER_S = 0.02
IMPORT_SYSTEM = "<frozen importlib."


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

    It is on guard before anything is loaded: an exception raised while a library begins could be lost there, a note cannot. An
    interruption that comes in the middle of an import therefore waits for the import's end.
    """

    def __init__(self) -> None:
        self._run: Stoppable | None = None
        self._received = 0
        self._interrupts = False
        self._is_waiting = False
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

    def _receive(self, number: int, frame: FrameType | None) -> None:
        is_closing = self._run is not None and self._run.is_closing
        is_interruption = self._interrupts or (self._received > 0 and not is_closing)
        if is_interruption and _is_importing(frame):
            self._wait_for_import(number)
            return
        self._received += 1
        if is_interruption:
            raise KeyboardInterrupt
        if self._run is not None:
            self._run.stop()

    def _wait_for_import(self, number: int) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            timer = threading.Timer(AGAIN_AFTER_S, self._send_again, (number,))
            timer.daemon = True
            timer.start()

    def _send_again(self, number: int) -> None:
        self._is_waiting = False
        os.kill(os.getpid(), number)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether an import is what leads to this frame."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(IMPORT_SYSTEM):
            return True
        frame = frame.f_back
    return False
