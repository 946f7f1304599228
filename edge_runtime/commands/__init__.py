"""The commands. What they share: one line for a known error, and exit codes."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable

from edge_runtime.errors import EdgeError

__all__ = ["EXIT_ERROR", "EXIT_INTERRUPTED", "run_command", "set_up_logging"]

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
READER = "camera reader"  # the thread's name; see sources/reader.py


def set_up_logging(*, is_debug: bool) -> None:
    """This package's log lines go to stderr as they are; with `--debug` there are more, and they say where they come from."""
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s" if is_debug else "%(message)s", stream=sys.stderr)
    for package in ("edge_runtime", "calibration", "export", "train"):
        logging.getLogger(package).setLevel(logging.DEBUG if is_debug else logging.INFO)


def run_command(body: Callable[[], int], *, is_debug: bool) -> int:
    """Run a command's body; print an `EdgeError` as one line.

    Returns:
        The body's own exit code, 1 for an `EdgeError`, 130 for an interruption.
    """
    try:
        return body()
    except EdgeError as error:
        if is_debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        _leave_readers_behind()
        return EXIT_INTERRUPTED


def _leave_readers_behind() -> None:
    """End here where a camera's reader is still inside FFmpeg, which would call back into a Python that is going away, and may crash.

    Everything else is closed by now.
    """
    if any(thread.name == READER for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)
