from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from tests.kit.commands import error_of, run_module
from tests.kit.wording import missing, raises
from train.checkpoint import load_checkpoint
from train.config import DataConfig, OptimiserConfig, TrainConfig
from train.loop import train as run_training
from train.mnad import MemoryConfig, MnadSections, NetworkConfig
from train.starting_point import load_starting_point

pytestmark = pytest.mark.trains

DATA = "synthetic:?clips=3&frames=30&anomalies=off&width=64&height=64"
CONFIG = TrainConfig(
    name="tiny",
    input=InputSpec(frames=4, target=4, channels=1, height=32, width=32),
    model="mnad_prediction",
    sections=MnadSections(NetworkConfig(width=2), MemoryConfig(items=4)),
    optimiser=OptimiserConfig(learning_rate=2e-3, batch_size=4, epochs=1),
)


def _with(**sections: object) -> TrainConfig:
    return replace(CONFIG, sections=replace(CONFIG.sections, **sections))


STANDING_STILL = replace(CONFIG, optimiser=replace(CONFIG.optimiser, learning_rate=0.0))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch; not to be changed."""
    out = tmp_path_factory.mktemp("first") / "run"
    run_training(CONFIG, DATA, out)
    return out


def test_a_run_begins_with_the_weights_and_the_memory_of_another(first: Path, tmp_path: Path) -> None:
    run_training(STANDING_STILL, DATA, tmp_path / "run", start=load_starting_point(first))
    before, after = (load_checkpoint(run / "best.safetensors") for run in (first, tmp_path / "run"))
    weights = [name for name in before.tensors if name.startswith("model.") and "running" not in name and "tracked" not in name]
    assert weights and all(torch.equal(before.tensors[name], after.tensors[name]) for name in weights)
    random = tmp_path / "random"
    run_training(STANDING_STILL, DATA, random)
    others = load_checkpoint(random / "best.safetensors")
    assert not all(torch.equal(before.tensors[name], others.tensors[name]) for name in weights)


def test_the_picture_and_the_target_may_be_others(first: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, input=InputSpec(frames=4, target=5, channels=1, height=48, width=40))
    run_training(config, DATA, tmp_path / "run", start=load_starting_point(first))
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_run_json_says_what_it_began_with_all_the_way_back(first: Path, tmp_path: Path) -> None:
    run_training(CONFIG, DATA, tmp_path / "second", start=load_starting_point(first))
    run_training(CONFIG, DATA, tmp_path / "third", start=load_starting_point(tmp_path / "second"))
    facts = json.loads((tmp_path / "third" / "run.json").read_text())["started_from"]
    assert facts["run"] == str(tmp_path / "second")
    assert facts["sha256"] == hashlib.sha256((tmp_path / "second" / "best.safetensors").read_bytes()).hexdigest()
    assert facts["started_from"]["run"] == str(first) and facts["started_from"]["started_from"] is None


def test_a_run_that_has_seen_what_is_held_out_is_refused(first: Path, tmp_path: Path) -> None:
    run_training(CONFIG, DATA, tmp_path / "second", start=load_starting_point(first))
    other_split = replace(CONFIG, data=DataConfig(held_out_share=0.6))
    for run in (first, tmp_path / "second"):
        with raises(ConfigError, str(run), "data.held_out_share") as raised:
            run_training(other_split, DATA, tmp_path / f"{run.name}-other", start=load_starting_point(run))
        assert "synthetic-0" in str(raised.value)


def test_what_was_trained_on_two_runs_ago_counts(first: Path, tmp_path: Path) -> None:
    elsewhere = DATA + "&seed=50"
    run_training(CONFIG, elsewhere, tmp_path / "second", start=load_starting_point(first))
    other_split = replace(CONFIG, data=DataConfig(held_out_share=0.6))
    with raises(ConfigError, str(tmp_path / "second"), "data.held_out_share"):
        run_training(other_split, DATA, tmp_path / "third", start=load_starting_point(tmp_path / "second"))


def test_footage_that_was_trained_on_counts_however_its_path_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gate").mkdir()
    for i in range(40):
        cv2.imwrite(str(tmp_path / "gate" / f"{i:02}.png"), np.full((32, 32, 3), 3 * i, np.uint8))
    at_ten = replace(CONFIG, data=DataConfig(fps=10))
    run_training(at_ten, str(tmp_path / "gate"), tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    with raises(ConfigError, str(tmp_path / "first"), "data.held_out_share"):
        run_training(
            replace(at_ten, data=DataConfig(0.5, fps=10)), "gate", tmp_path / "second", start=load_starting_point(tmp_path / "first")
        )


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        (_with(model=NetworkConfig(width=4)), "memory.items … (4, 32) … (4, 16) … [model] … [memory]"),
        (_with(memory=MemoryConfig(items=0)), "memory.items … (4, 16)"),
        (replace(CONFIG, input=replace(CONFIG.input, frames=3, target=3)), "[model] … input.frames … input.channels"),
        (replace(CONFIG, model="mnad_reconstruction", input=replace(CONFIG.input, frames=1, target=0)), "[model]"),
    ],
)
def test_another_network_is_refused(first: Path, tmp_path: Path, changed: TrainConfig, names: str) -> None:
    with raises(ConfigError, str(first), names):
        run_training(changed, DATA, tmp_path / "run", start=load_starting_point(first))


def test_resume_goes_on_with_the_same_beginning_only(first: Path, tmp_path: Path) -> None:
    run_training(CONFIG, DATA, tmp_path / "run", start=load_starting_point(first))
    run_training(CONFIG, DATA, tmp_path / "run", resume=True, start=load_starting_point(first))
    with raises(ConfigError, str(tmp_path / "run"), "FROM= … OUT="):
        run_training(CONFIG, DATA, tmp_path / "run", resume=True)


def test_where_there_is_no_run_the_command_says_so(tmp_path: Path) -> None:
    finished = run_module(
        "train", "--config", "configs/mnad_prediction-lite.toml", "--data", DATA, "--out", tmp_path / "run", "--from", tmp_path
    )
    assert missing(error_of(finished), str(tmp_path / "best.safetensors"), "make train") == []
    assert not (tmp_path / "run").exists()


def test_a_run_without_its_description_is_refused(first: Path, tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").write_bytes((first / "best.safetensors").read_bytes())
    (tmp_path / "run.json").write_text("{}")
    with raises(ConfigError, str(tmp_path), "run.json … FROM="):
        load_starting_point(tmp_path)
