"""scores.jsonl: one JSON object per scored frame or event, and the way back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_runtime.errors import SinkError
from edge_runtime.files import unwritable
from edge_runtime.frames import Frame
from edge_runtime.score import Event, Score

__all__ = ["JsonLinesSink", "read_scores"]


class JsonLinesSink:
    """Appends a line per scored frame and per event; a kill leaves whole lines only.

    Raises:
        SinkError: the file cannot be written, here or at any later line.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        self._encoder = msgspec.json.Encoder(enc_hook=_plain)
        self._length = 0
        try:
            self._file = open(self._path, "wb", buffering=0)  # noqa: SIM115  (closed in close)
        except OSError as error:
            raise unwritable(self._path, error) from error

    def write_frame(self, frame: Frame, score: Score | None, error_map: np.ndarray | None) -> None:
        """Write the line of a scored frame; nothing while the window fills."""
        if score is not None:
            self._append(_score_row(score))

    def write_event(self, event: Event) -> None:
        """Write the line of an event."""
        self._append(_event_row(event))

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:  # some file systems, a network's above all, say only now that they are full
            raise unwritable(self._path, error) from error

    def _append(self, row: dict[str, Any]) -> None:
        line = self._encoder.encode(row) + b"\n"
        rest = line
        try:
            while rest:  # where only a part finds room, the next try says why
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._drop_cut_line()
            raise unwritable(self._path, error) from error
        self._length += len(line)

    def _drop_cut_line(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), self._length)
            self._file.seek(self._length)


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


def _score_row(score: Score) -> dict[str, Any]:
    row: dict[str, Any] = {
        "stream": score.stream,
        "frame": score.frame,
        "time_s": score.time_s,
        "wall_time_s": score.wall_time_s,
        "score": score.score,
        "threshold": score.threshold,
        "is_anomalous": score.is_anomalous,
        "psnr_db": score.psnr_db,
        "local_error": score.local_error,
        "query_distance": score.query_distance,
        "regular_score": score.regular_score,
        "memory_updated": score.memory_updated,
        "latency_ms": score.latency_ms,
    }
    if score.truth is not None:
        row["truth"] = score.truth
    if score.extra:
        row["extra"] = dict(score.extra)
    return row


def _event_row(event: Event) -> dict[str, Any]:
    return {
        "event": event.event,
        "stream": event.stream,
        "frame": event.frame,
        "time_s": event.time_s,
        "wall_time_s": event.wall_time_s,
        **event.detail,
    }


def _plain(value: object) -> object:
    """NumPy's numbers as Python's; a NaN among either becomes null, which JSON has."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"scores.jsonl: expected a number, text or truth value, got {type(value).__name__}")
