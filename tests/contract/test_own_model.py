"""A model is one file and a TOML: this file has both, for a network that the product has never heard of, and goes with it from training
to `edge-run`.

It is unlike those of the house: two pools on two grids, of which one is learned by the gradient and its read takes the place of what it
was addressed with; a section of its own with its own check; a loss of its own; three frames, of which it reconstructs the middle one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime import Bundle
from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from export.bundle import BundleSettings, load_run, make_bundle
from export.tolerances import PARITY
from tests.kit.commands import Results, environment, results_in
from tests.kit.one_thread import one_thread
from tests.kit.wording import raises
from train.checkpoint import load_checkpoint
from train.config import load_config
from train.loop import train
from train.memory import TrainedPool
from train.model import Requirement, Step
from train.models import register

__all__ = ["one_thread"]  # a fixture holds where its name stands

pytestmark = pytest.mark.trains

SCENE = "synthetic:?width=64&height=64&anomalies=off&clips=3&frames=100"
TOML = """
name = "mine"
input = {frames = 3, target = 1, channels = 1, height = 32, width = 48}
model = {name = "tiny_two_pools", width = 4}
banks = {fine = 12, deep = 5, entropy_weight = 1e-3}
optimiser = {learning_rate = 2e-3, batch_size = 16, epochs = 2, precision = "auto"}
"""
FROM_TRAINING_ON = ("torch", "train", "export", "calibration", "onnx")

EDGE_RUN = """
import importlib.abc, json, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return None

missing, arguments = json.loads(sys.argv[1])
sys.meta_path.insert(0, Missing())
from edge_runtime.commands.edge_run import main
sys.exit(main(arguments))
"""


@dataclass(frozen=True)
class Network:
    width: int = 4


@dataclass(frozen=True)
class Banks:
    fine: int
    deep: int = 5
    entropy_weight: float = 0.0


@dataclass(frozen=True)
class TinySections:
    """The sections [model] and [banks]."""

    banks: Banks
    model: Network = field(default_factory=Network)

    def requirements(self, spec: InputSpec) -> tuple[Requirement, ...]:
        banks = self.banks
        return (
            Requirement(spec.width % 4 == 0 == spec.height % 4, "input", "sides that are multiples of 4", (spec.height, spec.width)),
            Requirement(banks.fine > banks.deep >= 2, "banks.fine", f"more than banks.deep, {banks.deep}", banks.fine),
        )


@register("tiny_two_pools", TinySections)
class TinyTwoPools(nn.Module):
    def __init__(self, spec: InputSpec, sections: TinySections) -> None:
        super().__init__()
        width, banks = sections.model.width, sections.banks
        self.input_spec = spec
        self.pools = (
            TrainedPool("fine", "query_fine", "read_fine", "hard_shrink", banks.fine, width, learned="gradient", update="none"),
            TrainedPool("deep", "query_deep", "read_deep", "softmax", banks.deep, 2 * width),
        )
        self._entropy_weight = banks.entropy_weight
        self.first = nn.Sequential(nn.Conv3d(spec.channels, width, 3, (1, 2, 2), 1), nn.BatchNorm3d(width), nn.ReLU())
        self.second = nn.Sequential(nn.Conv3d(width, 2 * width, 3, (3, 2, 2), (0, 1, 1)), nn.BatchNorm3d(2 * width))
        self.up = nn.Sequential(nn.ConvTranspose2d(4 * width, width, 2, 2), nn.BatchNorm2d(width), nn.ReLU())
        self.last = nn.Sequential(nn.ConvTranspose2d(5 * width, spec.channels, 2, 2), nn.Tanh())

    def encode(self, window: Tensor) -> dict[str, Tensor]:
        """A volume (B, W, 3, h/2, w/2) and, from it, a map (B, 2W, h/4, w/4) of unit length; a skip of the volume's newest frame."""
        fine = self.first(window.transpose(1, 2))
        deep = self.second(fine)[:, :, 0].float()
        return {"query_fine": fine.float(), "query_deep": functional.normalize(deep, dim=1), "newest": fine[:, :, 2]}

    def decode(self, given: Mapping[str, Tensor]) -> Tensor:
        up = self.up(torch.cat([given["query_deep"], given["read_deep"]], dim=1))
        return self.last(torch.cat([up, given["read_fine"].flatten(1, 2), given["newest"]], dim=1))

    def losses(self, step: Step) -> dict[str, Tensor]:
        error = functional.mse_loss(step.prediction, step.target)
        weights = step.reading.weights["fine"]
        entropy = -(weights * (weights + 1e-12).log()).sum(dim=1).mean()
        return {"loss": error + self._entropy_weight * entropy, "error": error, "entropy": entropy}


@pytest.fixture(scope="module")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "mine.toml"
    path.write_text(TOML)
    return path


@pytest.fixture(scope="module")
def run(toml: Path) -> Path:
    """It, trained."""
    train(load_config(toml), SCENE, toml.parent / "run")
    return toml.parent / "run"


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    return make_bundle(load_run(run), run.parent / "bundle", BundleSettings())


def test_its_configuration_is_its_own(toml: Path, tmp_path: Path) -> None:
    assert load_config(toml).sections == TinySections(Banks(12, 5, 1e-3), Network(4))
    changed = tmp_path / "changed.toml"
    for before, after, names in (
        ("fine = 12", "fine = 5", "banks.fine … banks.deep … 5"),
        ("width = 48", "width = 50", "input … 4 … (32, 50)"),
        ("fine = 12, ", "", "`fine` … `$.banks`"),
        ("deep = 5", "deeper = 5", "'banks.deeper' … deep, entropy_weight, fine"),
        ("banks =", "memory =", "'memory' … banks, data, input, model, name"),
        ('"tiny_two_pools"', '"tiny"', "model.name … mnad_prediction … tiny_two_pools"),
    ):
        changed.write_text(TOML.replace(before, after))
        with raises(ConfigError, "changed.toml", names):
            load_config(changed)


def test_it_trains_both_its_pools_each_in_its_way(run: Path) -> None:
    first, last = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert last["loss"] < first["loss"] and {"error", "entropy"} <= set(last)
    for pool, items in (("fine", 12), ("deep", 5)):
        assert len(last["memory"][pool]["usage"]) == items
        assert last["memory"][pool]["drift"] > 0
    tensors = load_checkpoint(run / "best.safetensors").tensors
    assert (tensors["fine.items"].shape, tensors["deep.items"].shape) == ((12, 4), (5, 8))
    assert torch.linalg.vector_norm(tensors["deep.items"], dim=1).tolist() == pytest.approx([1.0] * 5, abs=1e-5)


def test_its_bundle_has_two_graphs_a_precision_and_both_pools(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert [(pool.name, pool.query, pool.read, pool.addressing, pool.update) for pool in manifest.pools] == [
        ("fine", "query_fine", "read_fine", "hard_shrink", "none"),
        ("deep", "query_deep", "read_deep", "softmax", "ema"),
    ]
    assert (manifest.model.name, manifest.model.configuration["banks"]["fine"]) == ("tiny_two_pools", 12)
    assert {name: items.shape for name, items in bundle.read_items().items()} == {"fine": (12, 4), "deep": (5, 8)}
    for name, half in (("fp32", "float32"), ("fp16", "float16")):
        precision = manifest.precisions[name]
        assert precision.parity["prediction"] <= PARITY[name]
        for graph in (precision.encoder, precision.decoder):
            operators = {node.op_type for node in onnx.load_from_string(bundle.read(graph)).graph.node}
            assert "Conv" in operators or "ConvTranspose" in operators
            assert "BatchNormalization" not in operators
        dtypes = {tensor.name: tensor.dtype for tensor in precision.decoder.inputs}
        assert dtypes == {"query_deep": "float32", "read_deep": "float32", "read_fine": "float32", "newest": half, "target": "float32"}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_edge_run_scores_with_it_where_there_is_no_pytorch(bundle: Bundle, precision: str, tmp_path: Path) -> None:
    results = _edge_run(bundle, precision, tmp_path / "out")
    assert results.frames == list(range(1, 29))  # the middle one of three, of thirty
    for pool in ("fine", "deep"):
        distances = [line["extra"][f"query_distance/{pool}"] for line in results.scores]
        assert min(distances) > 0 and len(set(distances)) > 1
    halves = [sum(line["extra"][f"query_distance/{pool}"] for pool in ("fine", "deep")) / 2 for line in results.scores]
    assert results.column("query_distance") == pytest.approx(halves)
    assert any(results.column("memory_updated")) and results.scores[-1]["extra"]["drift"] > 0  # the one pool that learns


def test_what_is_said_to_be_missing_is_missing(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="'numpy'"):
        _edge_run(bundle, "fp32", tmp_path / "out", missing=("numpy",))


def _edge_run(bundle: Bundle, precision: str, out: Path, missing: tuple[str, ...] = FROM_TRAINING_ON) -> Results:
    """Thirty frames of a seed that training has not seen, in a process that lacks some libraries."""
    source = "synthetic:?width=64&height=64&anomalies=off&frames=30&seed=9"
    arguments = ["--bundle", str(bundle.path), "--source", source, "--precision", precision, "--device", "cpu", "--out", str(out)]
    command = [sys.executable, "-c", EDGE_RUN, json.dumps([missing, arguments])]
    finished = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    return results_in(out)
