"""Q/DQ graphs, in ONNX Runtime: numbers that a person can check."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from calibration.int8.graphs import convolutions, float_weights, quantise, with_fp16_scales
from calibration.int8.measure import Session

FLOAT = onnx.TensorProto.FLOAT


def graph_of(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: tuple[int, ...]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", "channels", "height", "width"])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def two_layers() -> onnx.ModelProto:
    """1 channel to 2 by 0.5 and −1.27, ReLU, and back to 1 by 1.0 and 1.27."""
    weights = {"a": np.array([0.5, -1.27], np.float32).reshape(2, 1, 1, 1), "b": np.array([1.0, 1.27], np.float32).reshape(1, 2, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["first"], "conv_a"),
        helper.make_node("Relu", ["first"], ["hidden"], "relu"),
        helper.make_node("Conv", ["hidden", "b"], ["y"], "conv_b"),
    ]
    return graph_of(nodes, weights, (1, 1, 1, 4))


RANGES = {"x": 1.27, "hidden": 0.635}  # steps of 0.01 and of 0.005
X = np.array([-1.0, 0.204, 0.6, 9.0], np.float32).reshape(1, 1, 1, 4)
# x in steps is −100, 20, 60 and, cut, 127. The hidden channels are 0.5 x and −1.27 x, those above 0: in steps 0, 20, 60, 127 and,
# cut, 127, 0, 0, 0. So y is 1.27 · 0.635 = 0.80645, then 20, 60 and 127 steps of 0.005.
Y = [0.80645, 0.1, 0.3, 0.635]


def test_a_two_layer_graph_gives_what_a_person_computes(two_layers: onnx.ModelProto) -> None:
    told = quantise(two_layers, RANGES, ["conv_a", "conv_b"])
    assert Session(told).run({"x": X})["y"].reshape(-1) == pytest.approx(Y, abs=1e-6)
    whole = {tensor.name: numpy_helper.to_array(tensor) for tensor in told.graph.initializer}
    assert whole["a/int8"].reshape(-1).tolist() == [127, -127]  # a scale for each output
    assert whole["b/int8"].reshape(-1).tolist() == [100, 127]  # one for both inputs
    assert "a" not in whole and told.opset_import[0].version == 17 and told.ir_version == 8


def test_a_node_that_is_not_named_stays_as_it_is(two_layers: onnx.ModelProto) -> None:
    told = quantise(two_layers, RANGES, ["conv_b"])
    assert [node.op_type for node in told.graph.node] == ["Conv", "Relu", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv"]
    assert Session(told).run({"x": X})["y"].reshape(-1)[3] == pytest.approx(0.635)  # cut behind the first layer alone
    assert quantise(two_layers, RANGES, []) == two_layers


def test_the_typed_form_has_float16_scales_at_opset_19(two_layers: onnx.ModelProto) -> None:
    half = onnx.ModelProto()
    half.CopyFrom(two_layers)
    for tensor in half.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    typed = with_fp16_scales(half, RANGES, ["conv_a", "conv_b"])
    assert (typed.opset_import[0].version, typed.ir_version) == (19, 9)
    assert {tensor.data_type for tensor in typed.graph.initializer} == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16}
    assert Session(typed).run({"x": X.astype(np.float16)})["y"].reshape(-1) == pytest.approx(Y, abs=0.01)  # two steps of int8


def test_a_transposed_convolution_has_its_outputs_on_axis_1() -> None:
    weight = np.array([[1.27, 0.127]], np.float32).reshape(1, 2, 1, 1)
    model = graph_of([helper.make_node("ConvTranspose", ["x", "w"], ["y"], "up")], {"w": weight}, (1, 1, 2, 2))
    told = quantise(model, {"x": 1.27}, ["up"])
    whole = {tensor.name: numpy_helper.to_array(tensor) for tensor in told.graph.initializer}
    assert whole["w/int8"].reshape(-1).tolist() == [127, 127]
    assert whole["w/scale"].tolist() == pytest.approx([0.01, 0.001])
    [conv] = convolutions(model)
    assert conv.multiply_adds((1, 1, 2, 2)) == 4 * 2


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = np.array([0.0, 1.0], np.float32).reshape(2, 1, 1, 1)
    model = graph_of([helper.make_node("Conv", ["x", "w"], ["y"], "conv")], {"w": weight}, (1, 1, 1, 1))
    told = Session(quantise(model, {"x": 1.0}, ["conv"])).run({"x": np.ones((1, 1, 1, 1), np.float32)})
    assert told["y"].reshape(-1).tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


def test_what_cannot_be_quantised_is_named() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["first"], "can"),
        helper.make_node("Conv", ["first", "x"], ["second"], "no_constant_weight"),
        helper.make_node("MatMul", ["second", "second"], ["y"], "product"),
    ]
    model = graph_of(nodes, {"w": np.ones((1, 1, 1, 1), np.float32)}, (1, 1, 1, 1))
    assert [conv.name for conv in convolutions(model)] == ["can"]
    assert float_weights(model) == ["no_constant_weight", "product"]


def test_nothing_is_quantised_behind_the_prediction() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["prediction"], "network"),
        helper.make_node("Conv", ["prediction", "w"], ["y"], "score"),
    ]
    model = graph_of(nodes, {"w": np.ones((1, 1, 1, 1), np.float32)}, (1, 1, 1, 1))
    assert [conv.name for conv in convolutions(model)] == ["network"]


def test_multiply_adds_of_a_strided_convolution() -> None:
    weight = np.zeros((8, 3, 3, 3), np.float32)
    conv = helper.make_node("Conv", ["x", "w"], ["y"], "conv", strides=[2, 2], pads=[1, 1, 1, 1])
    [found] = convolutions(graph_of([conv], {"w": weight}, (1, 3, 8, 6)))
    assert found.multiply_adds((1, 3, 8, 6)) == 4 * 3 * weight.size
