"""scores.jsonl: one JSON object per scored frame or event, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.errors import SinkError
from edge_runtime.score import Event, Step
from edge_runtime.sinks.tables.line_file import LineFile
from edge_runtime.sinks.tables.rows import encode_row, event_row, score_row

__all__ = ["JsonLinesSink", "read_scores"]


class JsonLinesSink:
    """Appends a line per scored frame and per event; a kill leaves whole lines only.

    Raises:
        SinkError: the file cannot be written, here or at any later line.
    """

    def __init__(self, path: Path) -> None:
        self._lines = LineFile(path)

    def write_step(self, step: Step) -> None:
        """Write the line of a scored frame; nothing while the window fills."""
        if step.score is not None:
            self._lines.append(encode_row(score_row(step.score)))

    def write_event(self, event: Event) -> None:
        """Write the line of an event."""
        self._lines.append(encode_row(event_row(event)))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def read_scores(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a scores.jsonl, one after the other; a last line that was cut off by a kill is left out.

    Raises:
        SinkError: the file cannot be read, or a line before the last is not a JSON object.
    """
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    return
                yield _parsed(line, path, number)
    except OSError as error:
        raise SinkError(f"{path}: expected the scores of a run, got '{error.strerror}'. Check the path.") from error


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise SinkError(
            f"{path}, line {number}: expected a JSON object, got '{error}'. Remove the line, or score the source again."
        ) from error
