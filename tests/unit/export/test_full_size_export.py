"""The network of the paper, 15.65 million parameters at 256 x 256 in colour: what is exported says what PyTorch says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from edge_runtime.bundle.manifest import GraphSpec
from export.bundle import write_fast_graphs, write_graphs
from export.split import scores
from train.config import load_config
from train.data import Batch
from train.loop import forward
from train.memory import Memory
from train.model import Model
from train.models import build_model

pytestmark = pytest.mark.slow

CONFIG = load_config(Path("configs/mnad_prediction-full.toml"))
DECODED = ("prediction", "error_map", "score/psnr_db", "score/regular_score", "score/local_error")

Outputs = dict[str, np.ndarray]


@pytest.mark.parametrize("form", ["plain", "fast"])
def test_onnx_runtime_is_within_a_ten_thousandth_of_pytorch(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_model(CONFIG)
    _see_a_batch(model)
    memory = Memory(model.pools, torch.Generator().manual_seed(0))
    batch = _batch()
    graphs = write_graphs(model, "fp32", tmp_path) if form == "plain" else _fast(model, tmp_path)
    wanted, got = _in_pytorch(model, memory, batch), _in_onnx_runtime(graphs, memory, batch, tmp_path)
    assert set(got) == set(wanted) == {"query", "skip_1", "skip_2", "skip_3", *DECODED}
    for name, tensor in wanted.items():
        assert got[name].shape == tensor.shape, name
        assert np.abs(got[name] - tensor).max() <= 1e-4, name
    _check_is_alive(wanted)


def _check_is_alive(wanted: Outputs) -> None:
    """A network of dead units would agree with anything."""
    assert wanted["prediction"].std() > 0.01
    assert all((wanted[f"skip_{i}"] > 0).mean() > 0.1 for i in (1, 2, 3))
    assert wanted["score/local_error"][0] > wanted["error_map"].mean()


def _see_a_batch(model: Model) -> None:
    """Give the batch norms statistics of data and weights that are not all one, as training would."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # nothing of the initial statistics is left
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
    with torch.no_grad():
        encoded = model.encode(_batch().window)
        model.decode(encoded | {"read": encoded["query"]})
    model.eval()


def _batch() -> Batch:
    """Four frames and a fifth, 256 x 256 in colour: smooth random pictures with a little noise."""
    coarse = torch.rand(5, 3, 16, 16) * 2 - 1
    smooth = functional.interpolate(coarse, size=(256, 256), mode="bilinear")
    frames = (smooth + 0.02 * torch.randn_like(smooth)).clamp(-1, 1).unsqueeze(0)
    return Batch(frames[:, :4], frames[:, 4], torch.zeros(1, dtype=torch.bool))


@torch.no_grad()
def _in_pytorch(model: Model, memory: Memory, batch: Batch) -> Outputs:
    step = forward(model, memory, batch)
    decoded = dict(zip(DECODED, (step.prediction, *scores(step.prediction, batch.target)), strict=True))
    return {name: tensor.numpy() for name, tensor in {**step.encoded, **decoded}.items()}


def _fast(model: Model, folder: Path) -> tuple[GraphSpec, GraphSpec]:
    fast = write_fast_graphs(model, folder)
    assert fast is not None
    return fast.encoder, fast.decoder


def _in_onnx_runtime(graphs: tuple[GraphSpec, GraphSpec], memory: Memory, batch: Batch, folder: Path) -> Outputs:
    encoder, decoder = (onnxruntime.InferenceSession(folder / graph.file, providers=["CPUExecutionProvider"]) for graph in graphs)
    encoded = dict(zip([tensor.name for tensor in graphs[0].outputs], encoder.run(None, {"clip": batch.window.numpy()}), strict=True))
    mixed = memory.read({"query": torch.from_numpy(encoded["query"])}).inputs["read"].numpy()
    decoded = decoder.run(list(DECODED), {**encoded, "read": mixed, "target": batch.target.numpy()})
    return encoded | dict(zip(DECODED, decoded, strict=True))
