"""What is printed is for people: a terminal, reader or disk that takes it no more neither ends nor changes a run."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from typing import Any, TextIO

__all__ = ["end_printing", "print_forgivingly"]


def print_forgivingly() -> None:
    """From now on, writing to stdout and stderr raises no `OSError`; where one was closed from the start, nothing is written."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (for good; and no file of results gets the stream's number)
        if not isinstance(stream, _Forgiving):
            setattr(sys, name, _Forgiving(stream))


def end_printing() -> OSError | None:
    """Write what is buffered, or drop it: Python would try again when it ends, and fail with an exit code of its own.

    Returns:
        Why something printed on stdout is lost that is still waited for, as in a file; None where all is written, or its reader went away.
    """
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, _Forgiving)]
    for stream in streams:
        stream.end()
    return next((stream.lost for stream in streams if stream is sys.stdout), None)


class _Forgiving:
    """A text stream whose failed writes are noted instead of raised. Later ones are tried all the same: a full disk may get room.

    Attributes:
        lost: why a write failed the last time; a reader who went away, or a terminal, has lost nothing.
    """

    def __init__(self, stream: TextIO) -> None:
        self.lost: OSError | None = None
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def end(self) -> None:
        if not self._attempt(self._stream.flush):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def _attempt(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except OSError as error:
            self.lost = None if isinstance(error, ConnectionError) or self._hung_up(error) else error
            return False
        return True

    def _hung_up(self, error: OSError) -> bool:
        """The terminal is gone; such an error of a disk is another matter."""
        return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self._stream.fileno()).st_mode)
