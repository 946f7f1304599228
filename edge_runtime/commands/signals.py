"""Ctrl-C and SIGTERM, for commands that finish what they are at."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, Protocol

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
        self._is_waiting = False  # an interruption, for an import's end
        self._is_sent_again = False
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
            self._interrupt()
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False
            is_waiting, self._is_waiting = self._is_waiting, False
        if is_waiting:
            raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        is_again, self._is_sent_again = self._is_sent_again, False
        if is_again and not self._is_waiting:
            return
        self._received += not is_again
        is_closing = self._run is not None and self._run.is_closing
        is_interruption = self._interrupts or (self._received > 1 and not is_closing)
        if is_interruption and _is_importing(frame):
            self._wait_for_import(number)
        elif is_interruption:
            self._interrupt()
        else:
            self._is_waiting = False
            if self._run is not None:
                self._run.stop()

    def _interrupt(self) -> NoReturn:
        self._is_waiting = False
        raise KeyboardInterrupt

    def _wait_for_import(self, number: int) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            threading.Thread(target=self._send_again, args=(number,), daemon=True).start()

    def _send_again(self, number: int) -> None:
        while True:
            time.sleep(AGAIN_AFTER_S)
            if not self._is_waiting:
                return
            self._is_sent_again = True
            os.kill(os.getpid(), number)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether an import is what leads to this frame."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(IMPORT_SYSTEM):
            return True
        frame = frame.f_back
    return False
