"""The commands. What they share: one line for a known error, and exit codes."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from edge_runtime.commands.printing import end_printing, print_forgivingly
from edge_runtime.errors import EdgeError

__all__ = ["EXIT_ERROR", "EXIT_INTERRUPTED", "run_command", "set_up_logging"]

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
READERS = ("camera reader", "footage reader")  # names of the threads in sources/, which are too heavy to be imported here


def set_up_logging(*, is_debug: bool) -> None:
    """This package's log lines go to stderr as they are; with `--debug` there are more, and they say where they come from."""
    print_forgivingly()
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s" if is_debug else "%(message)s", stream=sys.stderr)
    for package in ("edge_runtime", "calibration", "export", "train"):
        logging.getLogger(package).setLevel(logging.DEBUG if is_debug else logging.INFO)


def run_command(body: Callable[[], int], *, is_debug: bool) -> int:
    """Run a command's body; print an `EdgeError` as one line. What cannot be printed changes nothing of what the body does.

    Returns:
        The body's own exit code, 1 for an `EdgeError`, 130 for an interruption; 1 instead of 0 where stdout is a file that could not take
        all that was printed, as GNU's tools have it. Does not return, but ends the process with that code, where a camera that does not
        answer, or a file, still holds a thread.
    """
    print_forgivingly()
    try:
        code = _run(body, is_debug=is_debug)
    finally:
        lost = end_printing()
    if lost is not None:
        code = code or EXIT_ERROR
        print(
            f"error: stdout: expected to print all of it, got '{lost.strerror}'. Free space there, or send it elsewhere.", file=sys.stderr
        )
    if any(thread.name in READERS for thread in threading.enumerate()):
        _leave_readers_behind(code)
    return code


def _run(body: Callable[[], int], *, is_debug: bool) -> int:
    try:
        return body()
    except EdgeError as error:
        if is_debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _leave_readers_behind(code: int) -> NoReturn:
    """End the process here, where all that is ours is closed, because a reader is still inside a driver or a file.

    When that call returned, FFmpeg would call back into a Python that is going away, and crash.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
