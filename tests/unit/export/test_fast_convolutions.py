"""Winograd's rows: the same numbers as a convolution gives, in PyTorch and in the graphs that the export writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edge_runtime.bundle.manifest import FastGraphs
from edge_runtime.preprocess import InputSpec
from export import fast_convolutions
from export.bundle import write_fast_graphs, write_graphs
from export.fast_convolutions import FEWEST_MULTIPLICATIONS, FastConvolution, speed_up
from train.mnad import MnadSections, NetworkConfig
from train.models.mnad_prediction import MnadPrediction

SPEC = InputSpec(frames=4, target=4, channels=1, height=32, width=40)
HALF_WIDTH = 32  # of the paper's network: its widest convolutions have 256 channels


@pytest.fixture
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of any size are worth it."""
    monkeypatch.setattr(fast_convolutions, "FEWEST_MULTIPLICATIONS", 0)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 30, 63])
@pytest.mark.parametrize("has_bias", [True, False])
def test_in_double_precision_it_is_the_convolution(rows: int, has_bias: bool) -> None:
    torch.manual_seed(rows)
    plain = nn.Conv2d(3, 5, 3, padding=1, bias=has_bias).double()
    fast = FastConvolution(plain).double()
    x = torch.randn(2, 3, rows, 7, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(fast(x), plain(x), rtol=0, atol=1e-6)  # the sixths are rounded to float32


@pytest.mark.parametrize("height", [8, 7])
def test_each_row_sees_its_own_neighbours(height: int) -> None:
    """Ones in one row, a kernel that tells above from below: numbers a person can compute."""
    plain = nn.Conv2d(1, 1, 3, padding=1)
    plain.weight.data = torch.tensor([[0, 1, 0], [0, 10, 0], [0, 100, 0]], dtype=torch.float32).reshape(1, 1, 3, 3)
    plain.bias.data = torch.tensor([0.5])
    for row in range(height):
        x = torch.zeros(1, 1, height, 1)
        x[0, 0, row] = 1
        wanted = torch.full((height,), 0.5)
        for at, weight in ((row - 1, 100), (row, 10), (row + 1, 1)):  # what lies above a row has the kernel's first
            if 0 <= at < height:
                wanted[at] += weight
        with torch.no_grad():
            assert FastConvolution(plain)(x).flatten().tolist() == pytest.approx(wanted.tolist(), abs=1e-3)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(128, 127, 3, padding=1),
        nn.Conv2d(256, 256, 1),
        nn.Conv2d(256, 256, 3),
        nn.Conv2d(256, 256, 3, padding=1, stride=2),
        nn.Conv2d(256, 256, 3, padding=2, dilation=2),
        nn.Conv2d(256, 256, 3, padding=1, groups=2),
        nn.Conv2d(256, 256, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(256, 256, 3, padding=1),
    ],
)
def test_what_has_no_twin_or_is_too_narrow_stays(layer: nn.Module, of_any_size: None) -> None:
    sped_up = speed_up(nn.Sequential(layer), [torch.zeros(1, layer.in_channels, 8, 8)])
    assert type(sped_up.module[0]) is type(layer)
    assert sped_up.spared == 0 < sped_up.multiplications


def test_wide_ones_are_replaced_in_a_copy_where_the_picture_is_large_enough() -> None:
    model = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.Sequential(nn.Conv2d(128, 256, 3, padding=1)))
    least = -(-FEWEST_MULTIPLICATIONS // (128 * 256 * 9))  # pixels at which the second layer is worth it, and the first is not
    sped_up = speed_up(model, [torch.zeros(1, 128, 1, least)])
    assert isinstance(sped_up.module[0], nn.Conv2d) and isinstance(sped_up.module[1][0], FastConvolution)
    assert isinstance(model[1][0], nn.Conv2d)
    assert sped_up.multiplications == 9 * 128 * (128 + 256) * least
    assert sped_up.spared == 9 * 128 * 256 * least // 2
    assert speed_up(model, [torch.zeros(1, 128, 1, least - 1)]).spared == 0


def test_a_layer_in_several_places_has_one_twin(of_any_size: None) -> None:
    layer = nn.Conv2d(128, 128, 3, padding=1)
    sped_up = speed_up(nn.Sequential(layer, layer, nn.Sequential(layer)), [torch.zeros(1, 128, 4, 4)])
    assert sped_up.module[0] is sped_up.module[1] is sped_up.module[2][0]
    assert isinstance(sped_up.module[0], FastConvolution)
    assert sped_up.multiplications == 3 * 128 * 128 * 9 * 16 == 2 * sped_up.spared


def test_transposed_convolutions_count_by_their_input() -> None:
    layer = nn.ConvTranspose2d(3, 5, 3, stride=2, padding=1, output_padding=1)
    assert speed_up(nn.Sequential(layer), [torch.zeros(2, 3, 4, 6)]).multiplications == 3 * 5 * 9 * 4 * 6


@pytest.mark.parametrize(("width", "side"), [(16, 256), (32, 64)])
def test_a_network_that_would_gain_little_has_no_fast_graphs(width: int, side: int, tmp_path: Path) -> None:
    assert write_fast_graphs(_network(replace(SPEC, height=side, width=side), width), tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module", params=[SPEC, replace(SPEC, height=40)], ids=["whole fours", "rows to spare"])
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FastGraphs]:
    """Plain and fast graphs of a half-width network with random weights, in one folder."""
    torch.manual_seed(0)
    model, folder = _network(request.param, HALF_WIDTH), tmp_path_factory.mktemp("wide")
    plain = write_graphs(model, "fp32", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_convolutions, "FEWEST_MULTIPLICATIONS", 0)
        fast = write_fast_graphs(model, folder)
    assert fast is not None
    assert [(graph.inputs, graph.outputs) for graph in plain] == [(graph.inputs, graph.outputs) for graph in (fast.encoder, fast.decoder)]
    return folder, fast


@pytest.mark.slow
@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("batch", [1, 3])
def test_fast_graphs_say_what_the_plain_ones_say(wide: tuple[Path, FastGraphs], part: str, batch: int) -> None:
    folder, fast = wide
    sessions = [_session(folder / f"{part}.{form}.onnx") for form in ("fp32", "fp32-fast")]
    random = np.random.default_rng(batch)
    inputs = {
        tensor.name: random.uniform(-1, 1, (batch, *tensor.shape[1:])).astype(np.float32)
        for tensor in (fast.encoder if part == "encoder" else fast.decoder).inputs
    }
    plain_outputs, fast_outputs = (session.run(None, inputs) for session in sessions)
    for a, b in zip(plain_outputs, fast_outputs, strict=True):
        assert a.shape == b.shape and np.abs(a).max() > 0
        assert np.abs(a - b).max() <= 2e-5 * max(np.abs(a).max(), 1)


@pytest.mark.slow
def test_the_weights_of_fast_graphs_are_the_plain_ones(wide: tuple[Path, FastGraphs]) -> None:
    """Their sums are made when the graph is opened, so that a bundle does not carry six rows for three."""
    folder, fast = wide
    for part, graph in (("encoder", fast.encoder), ("decoder", fast.decoder)):
        plain_bytes, fast_bytes = ((folder / file).stat().st_size for file in (f"{part}.fp32.onnx", graph.file))
        assert fast_bytes < 1.3 * plain_bytes
        assert any(node.op_type == "MatMul" for node in onnx.load(folder / graph.file).graph.node)


def _network(spec: InputSpec, width: int) -> MnadPrediction:
    return MnadPrediction(spec, MnadSections(NetworkConfig(width))).eval()


def _session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
