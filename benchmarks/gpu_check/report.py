"""The results file: rewritten as a whole after every part, so that a check that is cut short leaves what it had."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.rows import RESULTS, Row, print_row
from edge_runtime.errors import ConfigError
from edge_runtime.files import write_atomically

__all__ = ["FAILED", "NotRun", "Part", "Report", "results_file"]

STAND_IN = "stand-in"
FAILED = ("failed", "out of time")


@dataclass(frozen=True)
class NotRun:
    """Something that was not run, and why."""

    what: str
    because: str


@dataclass(frozen=True)
class Part:
    """What became of a part.

    Attributes:
        outcome: `done`, `failed`, `out of time`, `cut short` (by the time limit of the whole check) or `not run`.
        text: the end of what it wrote, where it failed.
    """

    name: str
    outcome: str
    seconds: float
    text: str = ""


@dataclass
class Report:
    """Everything the check found, so far.

    Attributes:
        path: where it is written.
        facts: of the machine.
        failures: tests that failed, with their texts.
    """

    path: Path
    facts: Mapping[str, Any]
    time_limit_s: float
    rows: list[Row] = field(default_factory=list)
    not_run: list[NotRun] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    has_finished: bool = False

    @property
    def has_failed(self) -> bool:
        """A part or a test did not pass, or nothing could be run at all; a reach that was missed is no failure."""
        outcomes = {part.outcome for part in self.parts}
        return bool(self.failures) or "done" not in outcomes or not outcomes.isdisjoint(FAILED)

    def add(self, rows: Sequence[Row] = (), not_run: Sequence[NotRun] = (), failures: Sequence[dict[str, str]] = ()) -> None:
        """Take in, and print, what a part found."""
        for row in rows:
            print_row(row)
        for thing in not_run:
            print(f"  not run: {thing.what}, because {thing.because}", flush=True)
        for failure in failures:
            print(f"! failed: {failure['test']}", flush=True)
        self.rows += rows
        self.not_run += not_run
        self.failures += failures

    def write(self) -> None:
        """Rewrite the file.

        Raises:
            SinkError: it cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, (json.dumps(self._content(), indent=2, ensure_ascii=False) + "\n").encode())

    def _content(self) -> dict[str, Any]:
        return {
            "has_finished": self.has_finished,
            "seconds": round(self.seconds, 1),
            "time_limit_s": self.time_limit_s,
            "rows": [asdict(row) | {"got": row.got if math.isfinite(row.got) else str(row.got)} for row in self.rows],
            "not_run": [asdict(thing) for thing in self.not_run],
            "failed_tests": self.failures,
            "parts": [asdict(part) for part in self.parts],
            **self.facts,
        }


def results_file(gpu: str, folder: Path) -> Path:
    """`gpu-<name>.json`, the name in lower case with hyphens.

    Raises:
        ConfigError: the GPU is a stand-in of the tests, and the folder is the one of committed results.
    """
    if STAND_IN in gpu.lower() and folder.resolve() == RESULTS.resolve():
        raise ConfigError(f"gpu-check: '{gpu}' is no GPU; figures from it do not go into {folder}. Say another folder: --results DIR")
    name = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    return folder / f"gpu-{name}.json"
