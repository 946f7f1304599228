from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch

import train.arithmetic
import train.loop
from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from tests.kit.wording import missing, raises
from train.checkpoint import Checkpoint, load_checkpoint
from train.config import DataConfig, OptimiserConfig, PseudoAnomalyConfig, TrainConfig, config_values
from train.data import Batch
from train.loop import forward
from train.loop import train as run_training
from train.memory import Memory
from train.mnad import MemoryConfig, MnadSections, NetworkConfig
from train.models import build_model, register
from train.models.mnad_prediction import MnadPrediction

pytestmark = pytest.mark.trains

DATA = "synthetic:?clips=3&frames=30&anomalies=off&width=64&height=64"
CONFIG = TrainConfig(
    name="tiny",
    input=InputSpec(frames=4, target=4, channels=1, height=32, width=32),
    model="mnad_prediction",
    sections=MnadSections(NetworkConfig(width=2), MemoryConfig(items=4)),
    optimiser=OptimiserConfig(learning_rate=2e-3, batch_size=4, epochs=2),
    seed=3,
)
WITHOUT_MEMORY = replace(CONFIG, sections=MnadSections(NetworkConfig(width=2), MemoryConfig(items=0)))


@register("learned_items", MnadSections)
class LearnedItems(MnadPrediction):
    """MNAD with a second pool on its query, whose items the gradient learns and the decoder takes."""

    def __init__(self, spec: InputSpec, sections: MnadSections) -> None:
        super().__init__(spec, sections)
        [pool] = self.pools
        self.pools = (replace(pool, read=None), replace(pool, name="learned", addressing="hard_shrink", learned="gradient"))


LEARNED = replace(CONFIG, model="learned_items")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs without a break; not to be changed."""
    out = tmp_path_factory.mktemp("straight") / "run"
    run_training(CONFIG, DATA, out)
    return out


def test_a_run_that_was_killed_in_its_second_epoch_resumes_to_the_same_weights_and_items(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _assert_resumes_to_the_same(CONFIG, straight, tmp_path / "run", monkeypatch)


def test_so_does_one_with_pseudo_anomalies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, pseudo_anomalies=PseudoAnomalyConfig(share=0.5))
    run_training(config, DATA, tmp_path / "straight")
    _assert_resumes_to_the_same(config, tmp_path / "straight", tmp_path / "run", monkeypatch)


def test_so_does_one_whose_items_the_gradient_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_training(LEARNED, DATA, tmp_path / "straight")
    _assert_resumes_to_the_same(LEARNED, tmp_path / "straight", tmp_path / "run", monkeypatch)


def test_items_of_the_gradient_are_in_the_optimiser_and_those_of_a_rule_are_not(tmp_path: Path) -> None:
    run_training(replace(LEARNED, optimiser=replace(CONFIG.optimiser, epochs=1)), DATA, tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    weights = list(build_model(LEARNED).parameters())
    assert {int(name.split(".")[0]) for name in checkpoint.part("optimiser")} == set(range(len(weights) + 1))
    assert checkpoint.tensors[f"optimiser.{len(weights)}.exp_avg"].shape == (4, 16)
    [metrics] = _metrics(tmp_path / "run")
    assert list(metrics["memory"]) == ["memory", "learned"]
    assert all(health["drift"] > 0 for health in metrics["memory"].values())
    lengths = {name: torch.linalg.vector_norm(checkpoint.tensors[f"{name}.items"], dim=1) for name in ("memory", "learned")}
    assert lengths["memory"].tolist() == pytest.approx([1.0] * 4, abs=1e-6)
    assert (lengths["learned"] - 1).abs().min() > 1e-3


def test_resuming_a_finished_run_changes_nothing(straight: Path, tmp_path: Path) -> None:
    out = shutil.copytree(straight, tmp_path / "run")
    run_training(CONFIG, DATA, out, resume=True)
    for name in ("run.json", "checkpoint.safetensors", "best.safetensors", "metrics.jsonl"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()


def test_the_run_folder(straight: Path) -> None:
    names = {path.name for path in straight.iterdir()}
    assert names == {"run.json", "checkpoint.safetensors", "best.safetensors", "metrics.jsonl", "tensorboard", "cache"}
    run = json.loads((straight / "run.json").read_text())
    assert run["configuration"] == json.loads(json.dumps(config_values(CONFIG)))
    assert (run["data"], run["fps"]) == (DATA, 15.0)
    assert [clip["name"] for clip in run["training"]] == ["synthetic-00", "synthetic-02"]
    assert [(clip["name"], clip["start"], clip["stop"]) for clip in run["held_out"]] == [("synthetic-01", 0, 30)]
    assert run["versions"]["torch"] == str(torch.__version__)


def test_nothing_is_pickled(straight: Path) -> None:
    files = [path for path in straight.rglob("*") if path.is_file()]
    assert {path.suffix for path in files if path.parent == straight} == {".json", ".jsonl", ".safetensors"}
    starts = {path.name: path.read_bytes()[:2] for path in files if path.parent.name != "cache"}  # raw pixels may be anything
    assert [name for name, start in starts.items() if start[:1] == b"\x80" or start == b"PK"] == []


def test_the_best_model_is_the_one_with_the_lowest_held_out_loss(straight: Path) -> None:
    best = min(_metrics(straight), key=lambda metrics: metrics["held_out_loss"])
    assert load_checkpoint(straight / "best.safetensors").facts == best
    assert load_checkpoint(straight / "checkpoint.safetensors").facts["best_loss"] == best["held_out_loss"]


def test_a_best_model_has_no_optimiser_state_and_a_checkpoint_has(straight: Path) -> None:
    best, checkpoint = load_checkpoint(straight / "best.safetensors"), load_checkpoint(straight / "checkpoint.safetensors")
    assert not best.part("optimiser")
    assert checkpoint.part("optimiser")
    assert best.tensors["memory.items"].shape == (4, 16)


def test_the_loss_falls(straight: Path) -> None:
    first, second = _metrics(straight)
    assert second["loss"] < first["loss"]
    assert second["prediction"] < first["prediction"]
    assert second["learning_rate"] < first["learning_rate"] < CONFIG.optimiser.learning_rate


def test_metrics_have_the_memorys_health(straight: Path) -> None:
    for epoch, metrics in enumerate(_metrics(straight), start=1):
        assert metrics["epoch"] == epoch
        [health] = metrics["memory"].values()
        assert list(metrics["memory"]) == ["memory"]
        assert len(health["usage"]) == 4 and sum(health["usage"]) == pytest.approx(1)
        assert -1 <= health["largest_cosine"] <= 1
        assert 0 < health["drift"] <= 2


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_no_weights(tmp_path: Path) -> None:
    config = replace(CONFIG, optimiser=replace(CONFIG.optimiser, learning_rate=1e38))
    with raises(ConfigError, "epoch 1 … optimiser.learning_rate … 1e+38 … [loss]") as raised:
        run_training(config, DATA, tmp_path / "run")
    assert re.search(r"\b(nan|inf)\b", str(raised.value)) and "optimiser.precision" not in str(raised.value)
    assert not list((tmp_path / "run").glob("*.safetensors")) and not (tmp_path / "run" / "metrics.jsonl").exists()


def test_so_does_a_held_out_loss_and_the_epoch_before_stays(straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([0.5, float("nan")])
    monkeypatch.setattr(train.loop, "_held_out_loss", lambda *_: next(losses))
    with raises(ConfigError, "epoch 2 … nan"):
        run_training(CONFIG, DATA, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").facts["epoch"] == 1
    assert len(_metrics(tmp_path / "run")) == 1


def test_tensorboard_has_events(straight: Path) -> None:
    [events] = (straight / "tensorboard").glob("events.out.tfevents.*")
    content = events.read_bytes()
    assert all(name in content for name in (b"held_out_loss", b"memory/drift", b"memory/usage_3"))


def test_an_existing_run_is_refused_without_resume(straight: Path) -> None:
    with raises(ConfigError, str(straight), "RESUME=1 … OUT="):
        run_training(CONFIG, DATA, straight)


def test_resume_refuses_another_configuration(straight: Path) -> None:
    with raises(ConfigError, str(straight), "seed"):
        run_training(replace(CONFIG, seed=4), DATA, straight, resume=True)


def test_resume_refuses_other_footage(straight: Path) -> None:
    with raises(ConfigError, str(straight), "the data"):
        run_training(CONFIG, DATA.replace("frames=30", "frames=31"), straight, resume=True)


def test_a_run_begun_before_a_key_existed_goes_on_with_its_default(straight: Path, tmp_path: Path) -> None:
    out = shutil.copytree(straight, tmp_path / "run")
    run = json.loads((out / "run.json").read_text())
    del run["configuration"]["pseudo_anomalies"]
    (out / "run.json").write_text(json.dumps(run))
    run_training(CONFIG, DATA, out, resume=True)
    with raises(ConfigError, str(out), "pseudo_anomalies"):
        run_training(replace(CONFIG, pseudo_anomalies=PseudoAnomalyConfig(share=0.5)), DATA, out, resume=True)


def test_resume_where_there_is_no_run_begins_one(tmp_path: Path) -> None:
    run_training(_one_epoch(), DATA, tmp_path / "run", resume=True)
    assert len(_metrics(tmp_path / "run")) == 1


def test_bf16_trains_with_memory_and_weights_in_float32(tmp_path: Path) -> None:
    run_training(_one_epoch(precision="bf16"), DATA, tmp_path / "run")
    [metrics] = _metrics(tmp_path / "run")
    assert isfinite(metrics["loss"])
    best = load_checkpoint(tmp_path / "run" / "best.safetensors")
    floats = {name: tensor.dtype for name, tensor in best.tensors.items() if tensor.is_floating_point()}
    assert set(floats.values()) == {torch.float32}


def test_without_a_terminal_the_pace_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "train")
    longer = DATA.replace("frames=30", "frames=90")  # 43 steps
    run_training(replace(CONFIG, optimiser=replace(CONFIG.optimiser, epochs=2)), longer, tmp_path / "run")
    [pace] = [message for message in caplog.messages if "pace" in message]
    assert re.search(r"\b20\b.* \d+ s\b.*\b2\b.* \d+ s$", pace)
    assert caplog.messages.index(pace) < caplog.messages.index(next(m for m in caplog.messages if m.startswith("epoch 1 of 2")))


def test_footage_of_another_rate_than_the_configurations_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_training(replace(_one_epoch(), data=DataConfig(fps=5.0)), DATA, tmp_path / "run")
    [said] = [message for message in caplog.messages if "data.fps" in message]
    assert missing(said, "15", "5") == []


def test_bf16_is_warned_of_where_it_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(train.arithmetic, "has_bf16_arithmetic", lambda _: False)
    run_training(_one_epoch(precision="bf16"), DATA, tmp_path / "run")
    assert len([message for message in caplog.messages if "bfloat16" in message]) == 1


def test_bf16_really_computes_in_another_precision() -> None:
    model = build_model(CONFIG).eval()
    memory = Memory(model.pools, torch.Generator().manual_seed(0))
    window = torch.rand(1, 4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = Batch(window, window[:, 0], torch.zeros(1, dtype=torch.bool))
    with torch.no_grad():
        exact, rounded = (forward(model, memory, batch, precision) for precision in ("fp32", "bf16"))
    for step in (exact, rounded):
        assert {step.prediction.dtype, step.encoded["query"].dtype, step.reading.inputs["read"].dtype} == {torch.float32}
    assert (exact.encoded["skip_1"].dtype, rounded.encoded["skip_1"].dtype) == (torch.float32, torch.bfloat16)
    assert 0 < (exact.encoded["query"] - rounded.encoded["query"]).abs().max() < 0.1
    assert 0 < (exact.prediction - rounded.prediction).abs().max() < 0.1


def test_auto_is_the_machines_precision_and_fits_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precisions = []
    monkeypatch.setattr(train.loop, "forward", lambda *arguments: precisions.append(arguments[3]) or forward(*arguments))
    for has_bf16 in (True, False):
        monkeypatch.setattr(train.arithmetic, "has_bf16_arithmetic", lambda _, has=has_bf16: has)
        run_training(_one_epoch(precision="auto"), DATA, tmp_path / f"{has_bf16}")
        assert json.loads((tmp_path / f"{has_bf16}" / "run.json").read_text())["configuration"]["optimiser"]["precision"] == "auto"
    assert set(precisions[: len(precisions) // 2]) == {"bf16"} and set(precisions[len(precisions) // 2 :]) == {"fp32"}


def test_a_gpu_that_is_not_there_is_refused_before_the_footage_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with raises(ConfigError, "cuda … DEVICE=cpu"):
        run_training(CONFIG, DATA, tmp_path / "run", device="cuda")
    assert not (tmp_path / "run" / "cache").exists()


def test_without_memory_there_are_neither_items_nor_health(tmp_path: Path) -> None:
    run_training(replace(WITHOUT_MEMORY, optimiser=replace(CONFIG.optimiser, epochs=1)), DATA, tmp_path / "run")
    [metrics] = _metrics(tmp_path / "run")
    assert "memory" not in metrics
    assert metrics["loss"] == metrics["prediction"]
    assert (metrics["compactness"], metrics["separateness"]) == (0, 0)
    tensors = load_checkpoint(tmp_path / "run" / "best.safetensors").tensors
    assert all(name.startswith("model.") for name in tensors)


def test_a_single_window_is_refused_before_a_run_is_begun(tmp_path: Path) -> None:
    footage = "synthetic:?clips=2&frames=5&width=64&height=64"
    with raises(ConfigError, footage, "2 … 1"):
        run_training(CONFIG, footage, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def _one_epoch(precision: str = "fp32") -> TrainConfig:
    return replace(CONFIG, optimiser=replace(CONFIG.optimiser, epochs=1, precision=precision))


def _killed_at(epoch_to_die: int) -> Any:
    """`_train_epoch` that is interrupted as by Ctrl-C."""
    real = train.loop._train_epoch

    def train_epoch(training: Any, windows: Any, config: TrainConfig, epoch: int) -> dict[str, Any]:
        if epoch == epoch_to_die:
            raise KeyboardInterrupt
        return real(training, windows, config, epoch)

    return train_epoch


def _metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def _assert_resumes_to_the_same(config: TrainConfig, straight: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(train.loop, "_train_epoch", _killed_at(1))
        with pytest.raises(KeyboardInterrupt):
            run_training(config, DATA, out)
    assert load_checkpoint(out / "checkpoint.safetensors").facts["epoch"] == 1
    run_training(config, DATA, out, resume=True)
    for name in ("checkpoint.safetensors", "best.safetensors"):
        _assert_same(load_checkpoint(straight / name), load_checkpoint(out / name))
    assert _metrics(out) == _metrics(straight)


def _assert_same(wanted: Checkpoint, got: Checkpoint) -> None:
    assert got.facts == wanted.facts
    assert set(got.tensors) == set(wanted.tensors)
    assert [name for name, tensor in wanted.tensors.items() if not torch.equal(tensor, got.tensors[name])] == []
