from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edge_runtime.bundle.manifest import GraphSpec, TensorSpec
from edge_runtime.errors import BundleError
from edge_runtime.preprocess import InputSpec
from export.bundle import write_graphs
from export.onnx_graphs import export_graph
from tests.kit.wording import raises
from train.mnad import MemoryConfig, MnadSections, NetworkConfig
from train.models.mnad_prediction import MnadPrediction

SPEC = InputSpec(frames=4, target=4, channels=1, height=32, width=48)
SCORES = [TensorSpec(f"score/{name}", "float32", ("batch",)) for name in ("psnr_db", "regular_score", "local_error")]


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, GraphSpec, GraphSpec]:
    """Precision, folder, encoder and decoder of a small model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, *write_graphs(_network(), request.param, folder)


def test_files_are_named_after_part_and_precision_and_nothing_lies_beside_them(
    exported: tuple[str, Path, GraphSpec, GraphSpec],
) -> None:
    precision, folder, encoder, decoder = exported
    assert (encoder.file, decoder.file) == (f"encoder.{precision}.onnx", f"decoder.{precision}.onnx")
    assert {path.name for path in folder.iterdir()} == {encoder.file, decoder.file}
    for graph in (encoder, decoder):
        assert graph.sha256 == hashlib.sha256((folder / graph.file).read_bytes()).hexdigest()


def test_opset_17_ir_8_without_external_data_and_valid(exported: tuple[str, Path, GraphSpec, GraphSpec]) -> None:
    _, folder, *graphs = exported
    for graph in graphs:
        model = onnx.load(folder / graph.file, load_external_data=False)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
        assert model.ir_version == 8
        assert all(weight.data_location == onnx.TensorProto.DEFAULT for weight in model.graph.initializer)
        onnx.checker.check_model(model, full_check=True)


def test_batch_norms_are_folded_and_shapes_are_constant(exported: tuple[str, Path, GraphSpec, GraphSpec]) -> None:
    _, folder, encoder, decoder = exported
    operators = {graph.file: [node.op_type for node in onnx.load(folder / graph.file).graph.node] for graph in (encoder, decoder)}
    assert operators[encoder.file].count("Reshape") == 1
    assert operators[encoder.file].count("Conv") == 8
    for names in operators.values():
        assert not {"BatchNormalization", "Shape", "Gather", "If", "Loop"} & set(names)


def test_names_types_and_shapes(exported: tuple[str, Path, GraphSpec, GraphSpec]) -> None:
    precision, _, encoder, decoder = exported
    half = {"fp32": "float32", "fp16": "float16"}[precision]
    query = TensorSpec("query", "float32", ("batch", 16, 4, 6))
    skips = (
        TensorSpec("skip_1", half, ("batch", 2, 32, 48)),
        TensorSpec("skip_2", half, ("batch", 4, 16, 24)),
        TensorSpec("skip_3", half, ("batch", 8, 8, 12)),
    )
    image = ("batch", 1, 32, 48)
    assert encoder.inputs == (TensorSpec("clip", "float32", ("batch", 4, 1, 32, 48)),)
    assert encoder.outputs == (query, *skips)
    assert decoder.inputs == (query, TensorSpec("read", "float32", query.shape), *skips, TensorSpec("target", "float32", image))
    assert decoder.outputs == (TensorSpec("prediction", "float32", image), TensorSpec("error_map", "float32", image), *SCORES)


def test_a_batch_of_three_is_three_single_runs(exported: tuple[str, Path, GraphSpec, GraphSpec]) -> None:
    precision, folder, *graphs = exported
    tolerance = {"fp32": 1e-5, "fp16": 1e-2}[precision]
    rng = np.random.default_rng(0)
    for graph in graphs:
        session = onnxruntime.InferenceSession(folder / graph.file, providers=["CPUExecutionProvider"])
        batch = {tensor.name: rng.uniform(-1, 1, (3, *tensor.shape[1:])).astype(tensor.dtype) for tensor in graph.inputs}
        together = session.run(None, batch)
        for i in range(3):
            alone = session.run(None, {name: array[i : i + 1] for name, array in batch.items()})
            for tensor, got, wanted in zip(graph.outputs, together, alone, strict=True):
                assert got.shape == (3, *tensor.shape[1:])
                assert got[i].astype(np.float32) == pytest.approx(wanted[0].astype(np.float32), abs=tolerance), tensor.name


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model = _network()
    graphs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        graphs.append(write_graphs(model, "fp32", tmp_path / name))
    assert graphs[0] == graphs[1]


def test_a_model_without_memory_has_a_decoder_without_read(tmp_path: Path) -> None:
    _, decoder = write_graphs(_network(items=0), "fp32", tmp_path)
    assert [tensor.name for tensor in decoder.inputs] == ["query", "skip_1", "skip_2", "skip_3", "target"]


def _network(items: int = 10) -> MnadPrediction:
    return MnadPrediction(SPEC, MnadSections(NetworkConfig(2), MemoryConfig(items)))


class Masked(nn.Module):
    """Makes float32 out of a condition, which meets float16 in the halved graph."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = x.to(torch.float32)
        return (x * (x > 0).float(),)


def test_a_model_that_mixes_types_by_itself_is_told_to_leave_float16_out(tmp_path: Path) -> None:
    inputs = {"x": torch.ones(1, 4)}
    assert export_graph(Masked(), inputs, ("y",), tmp_path / "encoder.fp32.onnx").outputs[0].dtype == "float32"
    with raises(BundleError, "encoder.fp16.onnx", "BUNDLE_FLAGS='--precisions fp32'"):
        export_graph(Masked(), inputs, ("y",), tmp_path / "encoder.fp16.onnx", halved=())
    assert not (tmp_path / "encoder.fp16.onnx").exists()
