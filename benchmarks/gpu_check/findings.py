"""What a part tells the check, line by line as it finds it: a part that is ended half-way has told the rest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.report import NotRun
from benchmarks.rows import Row

__all__ = ["Findings", "read_findings"]


class Findings:
    """Appends to a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def row(self, what: str, got: float, reach: float | None, unit: str, better: str, how: str) -> None:
        """A measured figure; see `Row`."""
        self._append("row", asdict(Row(what, float(got), reach, unit, better, how)))

    def not_run(self, what: str, because: str) -> None:
        self._append("not_run", {"what": what, "because": because})

    def failure(self, test: str, text: str) -> None:
        """A test that failed."""
        self._append("failure", {"test": test, "text": text})

    def _append(self, kind: str, values: dict[str, Any]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({kind: values}) + "\n")


@dataclass(frozen=True)
class Found:
    """What a file of findings holds."""

    rows: list[Row]
    not_run: list[NotRun]
    failures: list[dict[str, str]]


def read_findings(path: Path) -> Found:
    """All whole lines; none where there is no file."""
    found = Found([], [], [])
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []:
        if not line.endswith("\n"):
            break
        [(kind, values)] = json.loads(line).items()
        if kind == "row":
            found.rows.append(Row(**values))
        elif kind == "not_run":
            found.not_run.append(NotRun(**values))
        else:
            found.failures.append(values)
    return found
