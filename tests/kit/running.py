"""An `edge-run` on a camera, while something happens to the camera."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

from tests.kit.commands import Finished, Results, command_line, environment

__all__ = ["PATIENCE_S", "SPAN", "STALL_S", "Running", "assert_no_score_spans_a_gap"]

STALL_S, PATIENCE_S, LOOK_S = 2.0, 30.0, 0.05
SPAN = 5  # frames that one score of the toy bundle looks at; its target is the last of them
LONGEST_STEP_S = 1.5


class Running:
    """An `edge-run` at work, a context manager; ends it at the latest when it is left.

    Args:
        folder: gets `out`, `state` and what it prints.
    """

    def __init__(self, folder: Path, *arguments: object, variables: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._out, self._err = folder / "stdout", folder / "stderr"
        written = ("--out", folder / "out", "--state", folder / "state", "--stall-s", STALL_S)
        with self._out.open("w") as out, self._err.open("w") as err:
            command = command_line("edge_runtime.commands.edge_run", *written, *arguments)
            self._process = subprocess.Popen(command, env=environment() | (variables or {}), stdout=out, stderr=err)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def lines(self) -> list[dict[str, Any]]:
        """What scores.jsonl holds by now."""
        path = self._folder / "out" / "scores.jsonl"
        whole, _, _ = path.read_text().rpartition("\n") if path.exists() else ("", "", "")
        return [json.loads(line) for line in whole.splitlines()]

    def wait_for_event(self, name: str, times: int = 1) -> None:
        self.wait_until(lambda: [line.get("event") for line in self.lines()].count(name) >= times, f"{name}, {times} times")

    def wait_for_scores(self) -> None:
        """Enough of them for some windows, after what is there now."""
        there = len(self.lines())
        self.wait_until(lambda: sum("event" not in line for line in self.lines()[there:]) >= SPAN, "scores")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It holds what it holds and takes no time from others."""
        self._process.send_signal(signal.SIGSTOP)
        yield
        self._process.send_signal(signal.SIGCONT)

    def stop(self, number: signal.Signals, within_s: float = PATIENCE_S) -> Finished:
        self._process.send_signal(number)
        code = self._process.wait(within_s)
        return Finished(code, self._out.read_text(), self._err.read_text())

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        ends_s = monotonic() + PATIENCE_S
        while not is_so():
            assert self._process.poll() is None, f"ended before there were {what}: {self._err.read_text()}"
            assert monotonic() < ends_s, f"not in time: {what}; {self.lines()[-3:]}"
            Event().wait(LOOK_S)


def assert_no_score_spans_a_gap(results: Results) -> None:
    gaps = [event["frame"] for event in results.events if event["event"] == "gap"]
    assert not [(gap, frame) for gap in gaps for frame in results.frames if gap <= frame < gap + SPAN - 1]
    # And without believing the events: consecutive numbers are consecutive in time, too.
    scored = {score["frame"]: score["time_s"] for score in results.scores}
    assert all(time_s - scored.get(frame - 1, time_s) < LONGEST_STEP_S for frame, time_s in scored.items())
    for earlier, later in pairwise(results.frames):
        assert later == earlier + 1 or later in {gap + SPAN - 1 for gap in gaps}
