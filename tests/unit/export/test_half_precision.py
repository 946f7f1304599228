"""Float16 graphs out of float32 ones: each constant in the precision of what it is used with, and nothing else changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.half_precision import halve
from export.onnx_graphs import IR_VERSION, OPSET, export_graph

FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16


def test_the_casts_at_the_inputs_and_what_lies_behind_them_are_float16() -> None:
    graph = _halved([_cast("x", "h"), helper.make_node("Add", ["h", "c"], ["sum"]), _cast("sum", "y")], {"c": 0.1})
    assert _types(graph) == {"x": FLOAT, "y": FLOAT}
    assert [node.attribute[0].i for node in graph.graph.node if node.op_type == "Cast"] == [FLOAT16, FLOAT]
    assert _constants(graph) == {"c.half": (FLOAT16, np.float16(0.1))}
    assert 0 < abs(_run(graph).item() - 0.3) < 5e-4


def test_a_constant_used_in_both_precisions_is_there_in_both() -> None:
    nodes = [_cast("x", "h"), helper.make_node("Add", ["h", "c"], ["sum"]), _cast("sum", "s"), helper.make_node("Add", ["s", "c"], ["y"])]
    graph = _halved(nodes, {"c": 0.1})
    assert _constants(graph) == {"c": (FLOAT, np.float32(0.1)), "c.half": (FLOAT16, np.float16(0.1))}
    assert 0 < abs(_run(graph).item() - 0.4) < 5e-4


def test_a_constant_used_twice_in_float16_is_there_once() -> None:
    nodes = [_cast("x", "h"), *(helper.make_node("Add", [a, "c"], [b]) for a, b in (("h", "once"), ("once", "twice"))), _cast("twice", "y")]
    assert list(_constants(_halved(nodes, {"c": 0.1}))) == ["c.half"]


def test_a_constant_behind_a_cast_back_to_float32_stays_as_it_is() -> None:
    nodes = [_cast("x", "h"), _cast("h", "s"), helper.make_node("Mul", ["s", "c"], ["y"])]
    graph = _halved(nodes, {"c": 0.1})
    assert _constants(graph) == {"c": (FLOAT, np.float32(0.1))}


def test_constant_nodes_are_treated_as_initializers_are() -> None:
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array([0.1], np.float32)))
    graph = _halved([constant, _cast("x", "h"), helper.make_node("Add", ["h", "c"], ["sum"]), _cast("sum", "y")], {})
    assert [node.op_type for node in graph.graph.node] == ["Cast", "Add", "Cast"]
    assert list(_constants(graph)) == ["c.half"]


def test_tensors_between_the_graphs_are_float16_and_need_no_cast() -> None:
    skip, query = (helper.make_tensor_value_info(name, FLOAT, ["batch"]) for name in ("skip", "query"))
    nodes = [_cast("query", "q"), helper.make_node("Add", ["skip", "q"], ["sum"]), _cast("sum", "y")]
    graph = _halved(nodes, {}, inputs=[skip, query], halved={"skip"})
    assert _types(graph) == {"skip": FLOAT16, "query": FLOAT, "y": FLOAT}


def test_scales_of_a_resize_stay_float32() -> None:
    nodes = [_cast("x", "h"), helper.make_node("Resize", ["h", "", "scales"], ["raised"], mode="nearest"), _cast("raised", "y")]
    graph = _halved(nodes, {"scales": 2.0}, sides="double")
    assert _constants(graph) == {"scales": (FLOAT, np.float32(2.0))}
    assert _run(graph).tolist() == [np.float16(0.2)] * 2


def test_whole_numbers_stay_whole() -> None:
    nodes = [_cast("x", "h"), helper.make_node("Reshape", ["h", "shape"], ["r"]), _cast("r", "y")]
    graph = _halved(nodes, {"shape": np.array([-1], np.int64)})
    assert [tensor.data_type for tensor in graph.graph.initializer] == [TensorProto.INT64]


class Volume(nn.Module):
    """A small 3-D network with the casts of the export; it goes on with the features that its query is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv3d(1, 8, 3, 2, 1), nn.LeakyReLU(0.1))
        self.up = nn.Sequential(nn.ConvTranspose3d(8, 8, 3, 2, 1, 1), nn.Upsample(scale_factor=(1, 2, 2)), nn.Conv3d(8, 1, 1), nn.Tanh())

    def forward(self, window: Tensor) -> tuple[Tensor, ...]:
        features = self.down(window.to(torch.float32).transpose(1, 2))
        query = features.float()
        query = query / torch.linalg.vector_norm(query, dim=1, keepdim=True).clamp_min(1e-12)
        return query, features, self.up(features + 0.25)[:, :, 1].float()


@pytest.mark.parametrize("batch", [1, 2])
def test_a_3d_model_runs_in_float16(batch: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, window = Volume().eval(), torch.rand(1, 4, 1, 16, 16) * 2 - 1
    outputs = ("query", "features", "prediction")
    spec = export_graph(model, {"clip": window}, outputs, tmp_path / "volume.onnx", halved={"features"})
    assert [tensor.dtype for tensor in (*spec.inputs, *spec.outputs)] == ["float32", "float32", "float16", "float32"]
    weights = {tensor.name: tensor.data_type for tensor in onnx.load(tmp_path / spec.file).graph.initializer}
    assert {data_type for name, data_type in weights.items() if "weight" in name} == {FLOAT16}
    given = torch.rand(batch, 4, 1, 16, 16) * 2 - 1
    session = onnxruntime.InferenceSession(tmp_path / spec.file, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = model(given)
    for name, got, exact in zip(outputs, session.run(None, {"clip": given.numpy()}), wanted, strict=True):
        assert got.shape == exact.shape
        difference = np.abs(got.astype(np.float32) - exact.numpy()).max()
        assert 0 < difference <= 2e-2 < exact.std(), name


def _cast(before: str, after: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [before], [after], to=FLOAT)


def _halved(
    nodes: list[onnx.NodeProto],
    constants: dict[str, float | np.ndarray],
    inputs: list[onnx.ValueInfoProto] | None = None,
    halved: frozenset[str] | set[str] = frozenset(),
    sides: str = "batch",
) -> onnx.ModelProto:
    """The float16 graph of nodes from x to y; every constant is a float32 vector of one element, or an array."""
    arrays = {name: value if isinstance(value, np.ndarray) else np.array([value], np.float32) for name, value in constants.items()}
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs or [helper.make_tensor_value_info("x", FLOAT, ["batch"])],
        [helper.make_tensor_value_info("y", FLOAT, [sides])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    halve(model, halved)
    onnx.checker.check_model(model, full_check=True)
    return model


def _types(model: onnx.ModelProto) -> dict[str, int]:
    return {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}


def _constants(model: onnx.ModelProto) -> dict[str, tuple[int, np.floating]]:
    """Type and only element, by name."""
    return {tensor.name: (tensor.data_type, numpy_helper.to_array(tensor)[0]) for tensor in model.graph.initializer}


def _run(model: onnx.ModelProto) -> np.ndarray:
    """What the graph makes of 0.2."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.array([0.2], np.float32)})[0]
