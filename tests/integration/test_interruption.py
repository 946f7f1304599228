"""Ctrl-C and SIGTERM: the frame at hand is finished, files are closed, the summary is written."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.kit.commands import Results, command_line, edge_run, environment, results_in
from tests.kit.drawn_footage import scene
from tests.kit.wording import missing

pytestmark = pytest.mark.commands

MODULE = "edge_runtime.commands.edge_run"
ROUND = 25
UNSCORED = 4
LONGEST = 10_000  # frames: a run that no signal reaches ends by itself, and the test fails


@dataclass(frozen=True)
class Stopped:
    """A run on an endless source that a signal ended."""

    code: int
    out: str
    err: str
    folder: Path
    state: Path
    results: Results


@pytest.fixture(scope="module", params=[signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def stopped(request: pytest.FixtureRequest, toy_originals: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """A run with everything it can write, stopped once it has reported the end of its first round."""
    folder = tmp_path_factory.mktemp("stopped")
    arguments = ("--bundle", toy_originals["one_pool"], "--source", scene(ROUND), "--loop", "--max-frames", LONGEST)
    written = ("--state", folder / "state", "--out", folder / "out", "--save-video", "--timeline")
    with start(*arguments, *written) as process:
        wait_for(process, "gap (reason loop)")
        process.send_signal(request.param)
        out, err = process.communicate(timeout=30)
    return Stopped(process.returncode, out, err, folder / "out", folder / "state", results_in(folder / "out"))


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(command_line(MODULE, *arguments), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Read what a process writes to stderr up to the line with these words."""
    assert process.stderr is not None
    assert any(words in line for line in process.stderr), f"ended before it wrote '{words}'"


def test_it_says_so_and_exits_with_130(stopped: Stopped) -> None:
    assert stopped.code == 130
    assert not missing(stopped.out, "interrupted")
    assert "Traceback" not in stopped.err and "error" not in stopped.err


def test_the_frame_at_hand_is_finished(stopped: Stopped) -> None:
    summary = stopped.results.summary
    assert summary["ended_by"] == "interrupted"
    assert summary["frames"] > ROUND
    assert stopped.results.frames == [frame for frame in range(summary["frames"]) if frame % ROUND >= UNSCORED]
    assert summary["scored"] == len(stopped.results.scores)


def test_only_whole_files_are_left(stopped: Stopped) -> None:
    assert sorted(os.listdir(stopped.folder)) == ["annotated.mp4", "scores.jsonl", "summary.json", "timeline.png"]
    assert sorted(os.listdir(stopped.state)) == ["synthetic.lock", "synthetic.safetensors"]


def test_the_video_plays_to_the_last_frame(stopped: Stopped) -> None:
    av = pytest.importorskip("av")
    with av.open(str(stopped.folder / "annotated.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == stopped.results.summary["frames"]


def test_the_state_is_that_of_the_last_frame(stopped: Stopped, toy_originals: dict[str, Path], tmp_path: Path) -> None:
    frames = stopped.results.summary["frames"]
    arguments = ("--bundle", toy_originals["one_pool"], "--source", scene(ROUND), "--loop", "--max-frames", frames)
    assert edge_run(*arguments, "--state", tmp_path).code == 0
    saved, wanted = (load_file(folder / "synthetic.safetensors")["memory"] for folder in (stopped.state, tmp_path))
    np.testing.assert_allclose(saved, wanted, atol=1e-6)


def test_a_run_that_is_stopped_while_it_begins_ends_in_order(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start("--bundle", toy_originals["one_pool"], "--source", scene(ROUND), "--loop", "--max-frames", LONGEST, "--out", out) as process:
        wait_for(process, "")  # its first line of all: graphs are being loaded
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "KeyboardInterrupt" not in err
    assert not (out / "scores.jsonl").exists() or results_in(out).summary["ended_by"] == "interrupted"


def test_impatience_does_not_break_the_files(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--bundle", toy_originals["one_pool"], "--source", scene(ROUND), "--loop", "--max-frames", LONGEST)
    with start(*arguments, "--out", out, "--save-video") as process:
        wait_for(process, "gap (reason loop)")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert sorted(os.listdir(out)) == ["annotated.mp4", "scores.jsonl", "summary.json"]
    assert results_in(out).summary["ended_by"] == "interrupted"


def test_what_a_killed_run_left_half_written_goes_with_the_next(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    arguments = ("--bundle", toy_originals["one_pool"], "--source", scene(ROUND), "--out", tmp_path)
    with start(*arguments, "--loop", "--max-frames", LONGEST, "--save-video") as process:
        wait_for(process, "gap (reason loop)")
        process.kill()
    assert [name for name in os.listdir(tmp_path) if name.startswith(".annotated.")]
    assert edge_run(*arguments).code == 0
    assert sorted(os.listdir(tmp_path)) == ["scores.jsonl", "summary.json"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_who_waits_for_the_memory_of_another_run_is_interrupted_at_once(
    number: signal.Signals, toy_originals: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    with open(tmp_path / "state" / "synthetic.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = ("--bundle", toy_originals["one_pool"], "--source", scene(ROUND), "--state", tmp_path / "state", "--out", tmp_path / "out")
        with start(*run) as process:
            wait_for(process, "30 s")
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
