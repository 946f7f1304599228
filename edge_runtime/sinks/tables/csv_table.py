"""scores.csv: one row per scored frame, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.score import Event, Score, Step
from edge_runtime.sinks.tables.line_file import LineFile
from edge_runtime.sinks.tables.rows import score_row

__all__ = ["CsvSink"]

COLUMNS = (
    *("stream", "frame", "time_s", "wall_time_s", "score", "threshold", "is_anomalous", "psnr_db", "local_error"),
    *("query_distance", "regular_score", "memory_updated"),
    *(f"latency_ms_{stage}" for stage in ("grab", "preprocess", "encoder", "memory", "decoder", "sinks", "total")),
    "truth",
)
EXTRA = "extra_"


class CsvSink:
    """Writes the facts of scores.jsonl as a table, without its events: those have other columns.

    A header, then a row per scored frame. The columns are always the same, followed by one `extra_<name>` for each extra
    value that the first scored frame has. What is unknown or not a finite number is an empty cell; truth values are `true`
    and `false`. A kill leaves whole rows only.

    Args:
        path: the file to write; one of an earlier run is replaced.

    Raises:
        SinkError: the file cannot be written, here or at any later row.
    """

    def __init__(self, path: Path) -> None:
        self._lines = LineFile(path)
        self._columns: tuple[str, ...] = ()

    def write_step(self, step: Step) -> None:
        """Write the row of a scored frame; nothing while the window fills."""
        if step.score is None:
            return
        cells = _cells(step.score)
        if not self._columns:
            self._write_header((*COLUMNS, *(name for name in cells if name.startswith(EXTRA))))
        self._lines.append(_line([cells.get(name) for name in self._columns]))

    def write_event(self, event: Event) -> None:
        """Nothing: the table is one of scores."""

    def close(self) -> None:
        """Close the file; one without scores is a header alone."""
        try:
            if not self._columns:
                self._write_header(COLUMNS)
        finally:
            self._lines.close()

    def _write_header(self, columns: tuple[str, ...]) -> None:
        self._lines.append(_line(list(columns)))
        self._columns = columns


def _cells(score: Score) -> dict[str, Any]:
    """The facts of a score by column."""
    row = score_row(score)
    latency, extra = row.pop("latency_ms"), row.pop("extra", {})
    stages = {f"latency_ms_{stage}": value for stage, value in asdict(latency).items()}
    return {**row, **stages, **{EXTRA + name: value for name, value in extra.items()}}


def _line(values: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([_cell(value) for value in values])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """A value as a table shows it."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bool):
        return "true" if plain else "false"
    if isinstance(plain, float) and not math.isfinite(plain):
        return None
    return plain
