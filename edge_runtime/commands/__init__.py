"""The commands. What they share: one line for a known error, and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable

from edge_runtime.errors import EdgeError

__all__ = ["run_command"]

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


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
        return EXIT_INTERRUPTED
