"""The folder of a run, whatever happens to the training: a second one, a signal, a full stop while it writes."""

from __future__ import annotations

import errno
import fcntl
import json
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import cv2
import numpy as np
import pytest

import train.loop
from edge_runtime.errors import ConfigError, SinkError
from edge_runtime.files import path_beside
from edge_runtime.preprocess import InputSpec
from tests.kit.commands import command_line, environment, error_of, run_module
from tests.kit.wording import missing, raises
from train.checkpoint import load_checkpoint
from train.config import DataConfig, OptimiserConfig, TrainConfig
from train.loop import train as run_training
from train.mnad import MemoryConfig, MnadSections, NetworkConfig
from train.run_folder import claimed

pytestmark = pytest.mark.trains

DATA = "synthetic:?clips=3&frames=30&anomalies=off&width=64&height=64"
CONFIG = TrainConfig(
    name="tiny",
    input=InputSpec(frames=4, target=4, channels=1, height=32, width=32),
    model="mnad_prediction",
    sections=MnadSections(NetworkConfig(width=2), MemoryConfig(items=4)),
    optimiser=OptimiserConfig(epochs=1),
)
AT_TEN = replace(CONFIG, data=DataConfig(fps=10))
TINY = """
name = "tiny"
input = {frames = 4, target = 4, channels = 1, height = 32, width = 32}
model = {width = 2}
memory = {items = 4}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A configuration like CONFIG, in a file."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_resume_takes_the_same_footage_however_its_path_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _write_images(tmp_path / "single")
    out = tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    for data in (str(images), f"{images}/", "single", "./single/"):
        run_training(AT_TEN, data, out, resume=True)
        assert json.loads((out / "run.json").read_text())["data"] == data
    assert _epochs(out) == [1]
    with raises(ConfigError, str(out), "the data", "OUT="):
        run_training(AT_TEN, str(tmp_path), out, resume=True)


def test_resume_refuses_footage_that_became_shorter_and_says_by_how_much(tmp_path: Path) -> None:
    images = _write_images(tmp_path / "single")
    run_training(AT_TEN, str(images), tmp_path / "run")
    for i in range(30, 40):
        (images / f"{i}.png").unlink()
    with raises(ConfigError, "single[0:32] … 32", "single[0:24] … 24"):
        run_training(AT_TEN, str(images), tmp_path / "run", resume=True)


def test_a_second_training_into_the_same_folder_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = train.loop._train_epoch
    refusals = []

    def train_epoch(*arguments: Any) -> dict[str, Any]:
        for resume in (True, False):
            with raises(ConfigError, str(tmp_path / "run")) as raised:
                run_training(CONFIG, DATA, tmp_path / "run", resume=resume)
            refusals.append(raised.value.__cause__)
        return real(*arguments)

    monkeypatch.setattr(train.loop, "_train_epoch", train_epoch)
    run_training(CONFIG, DATA, tmp_path / "run")
    assert [type(cause) for cause in refusals] == [BlockingIOError] * 2  # the lock's
    assert _epochs(tmp_path / "run") == [1]


def test_where_there_are_no_locks_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with claimed(tmp_path / "run"):
        assert missing(caplog.text, str(tmp_path / "run"), "No locks available") == []


def test_what_a_killed_training_left_half_written_goes_away(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_training(CONFIG, DATA, out)
    whole = set(out.iterdir())
    for name in ("run.json", "checkpoint.safetensors", "best.safetensors"):
        path_beside(out / name).write_bytes(b"half")
    run_training(CONFIG, DATA, out, resume=True)
    assert set(out.iterdir()) == whole


@pytest.mark.parametrize(("out", "got"), [("taken", "File exists"), ("taken/run", "Not a directory"), ("taken/a/run", "Not a directory")])
def test_a_folder_that_cannot_be_made_is_a_sink_error(tmp_path: Path, out: str, got: str) -> None:
    (tmp_path / "taken").touch()
    with raises(SinkError, str(tmp_path / out), got):
        run_training(CONFIG, DATA, tmp_path / out)


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_resume_refuses_a_description_that_is_broken(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with raises(ConfigError, str(tmp_path / "run.json"), "OUT="):
        run_training(CONFIG, DATA, tmp_path, resume=True)


@pytest.mark.parametrize("epochs", [0, -1])
def test_a_number_of_epochs_below_one_is_refused_before_anything_is_written(tiny: Path, tmp_path: Path, epochs: int) -> None:
    finished = run_module("train", "--config", tiny, "--data", DATA, "--out", tmp_path / "run", f"--epochs={epochs}")
    assert missing(error_of(finished), f"{tiny} … --epochs {epochs} … optimiser.epochs … 1") == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_with_whole_files_and_it_can_be_resumed(tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "run"
    command = command_line("train", "--config", tiny, "--data", DATA, "--out", out, "--epochs", 10_000)
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            _read_up_to(process, "epoch 1 of 10000")
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted" and "Traceback" not in err
    assert {path.name for path in out.rglob("*") if path.name.startswith(".")} == set()
    assert load_checkpoint(out / "checkpoint.safetensors").facts["epoch"] >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_half_decoded_when_training_is_ended_goes_away(tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    out, endless = tmp_path / "run", DATA.replace("frames=30", "frames=1000000")
    command = command_line("train", "--config", tiny, "--data", endless, "--out", out)
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        try:
            ends_s = monotonic() + 30
            while not list(out.glob("cache/.*.u8")):
                assert process.poll() is None and monotonic() < ends_s
                Event().wait(0.05)
            process.send_signal(number)
            process.wait(30)
        finally:
            process.kill()
    if number == signal.SIGKILL:
        assert list(out.glob("cache/.*.u8"))
        run_training(CONFIG, DATA, out, resume=True)
    assert not list(out.glob("cache/.*"))


def _read_up_to(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    assert any(words in line for line in process.stderr), f"ended before it wrote '{words}'"


def _write_images(folder: Path) -> Path:
    """Forty images that brighten."""
    folder.mkdir()
    for i in range(40):
        cv2.imwrite(str(folder / f"{i:02}.png"), np.full((32, 32, 3), 3 * i, np.uint8))
    return folder


def _epochs(run: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]
