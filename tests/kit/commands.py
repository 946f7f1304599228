"""Running the commands as a user does: in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Finished", "Results", "command_line", "edge_report", "edge_run", "environment", "error_of", "results_in", "run_module"]

ROOT = Path(__file__).parents[2]
LONGEST_S = 180


@dataclass(frozen=True)
class Finished:
    """A process that ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Results:
    """What `edge-run --out` left.

    Attributes:
        lines: every line of scores.jsonl, in order.
        scores, events: the lines of scored frames; the others.
        summary: summary.json.
    """

    lines: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def scores(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "event" not in line]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "event" in line]

    @property
    def frames(self) -> list[int]:
        """Which frames were scored."""
        return [line["frame"] for line in self.scores]

    def column(self, name: str) -> list[Any]:
        """One value of every scored frame."""
        return [line[name] for line in self.scores]


def edge_run(*arguments: object, cwd: Path = ROOT, variables: Mapping[str, str] | None = None) -> Finished:
    """Run `edge-run` to its end; its warnings are errors."""
    return run_module("edge_runtime.commands.edge_run", *arguments, cwd=cwd, variables=variables)


def edge_report(*arguments: object) -> Finished:
    """Run `edge-report` to its end; its warnings are errors."""
    return run_module("edge_runtime.commands.edge_report", *arguments)


def run_module(module: str, *arguments: object, cwd: Path = ROOT, variables: Mapping[str, str] | None = None) -> Finished:
    """Run `python -m module` to its end.

    Args:
        variables: set in its environment, besides those of `environment`.
    """
    process = subprocess.run(
        command_line(module, *arguments),
        cwd=cwd,
        env=environment() | (variables or {}),
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    return Finished(process.returncode, process.stdout, process.stderr)


def command_line(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", "-m", module, *map(str, arguments)]


def environment() -> dict[str, str]:
    """This process's, with the checkout importable from any folder, no default bundle, and no word of the make that it may run under."""
    left_out = ("EDGE_BUNDLE", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
    return {name: value for name, value in os.environ.items() if name not in left_out} | {"PYTHONPATH": str(ROOT)}


def error_of(finished: Finished) -> str:
    """The one line of a command that failed as promised: exit code 1, `error: …` as the last line, no traceback."""
    assert finished.code == 1, finished
    assert "Traceback" not in finished.err + finished.out
    lines = finished.err.splitlines()
    assert [number for number, line in enumerate(lines) if line.startswith("error: ")] == [len(lines) - 1], finished.err
    return lines[-1].removeprefix("error: ")


def results_in(out: Path) -> Results:
    """Read the files of a run; fails on a line that is not whole."""
    content = (out / "scores.jsonl").read_text()
    assert content == "" or content.endswith("\n")
    lines = [json.loads(line) for line in content.splitlines()]
    return Results(lines, json.loads((out / "summary.json").read_text()))
