"""A float graph with its convolutions in int8: Q/DQ nodes at their data, int8 weights with a scale for each output channel.

Nodes stand at the inputs of convolutions and nowhere else. TensorRT moves a Q back over what does not calculate (concat, pooling,
reshape) and over the ReLU into the convolution before, so these need none of their own; what leaves a convolution stays float until the
next one, and so do the query's normalisation, the prediction, and all that is made of it. Biases stay float, which TensorRT asks for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edge_runtime.bundle.manifest import TensorSpec

__all__ = ["Convolution", "convolutions", "float_weights", "quantise", "tensor_specs", "with_fp16_scales"]

CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1}  # of the weight, that counts outputs
WEIGHING = ("MatMul", "Gemm", "LSTM", "GRU", "RNN", "Einsum")  # operators with weights that stay in float
STEPS = 127
TYPED_OPSET, TYPED_IR = 19, 9


@dataclass(frozen=True)
class Convolution:
    """A node that can be quantised.

    Attributes:
        data, weight: its inputs.
        weight_shape: (outputs, inputs, *kernel), of a ConvTranspose (inputs, outputs, *kernel).
        strides, pads, dilations: by spatial axis; pads of both sides together.
    """

    name: str
    operator: str
    data: str
    weight: str
    weight_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]

    def multiply_adds(self, shape: tuple[int, ...]) -> int:
        """For data (B, C, *grid) of one stream."""
        kernel = self.weight_shape[2:]
        if self.operator == "ConvTranspose":
            return prod(shape[1:]) * prod(self.weight_shape[1:])
        sides = zip(shape[2:], kernel, self.strides, self.pads, self.dilations, strict=True)
        grid = [(length + pad - dilation * (size - 1) - 1) // stride + 1 for length, size, stride, pad, dilation in sides]
        return prod(grid) * prod(self.weight_shape)


def convolutions(model: onnx.ModelProto, ends: Collection[str] = ("prediction",)) -> list[Convolution]:
    """The nodes that can be quantised, in the graph's order.

    Args:
        ends: tensors behind which nothing is: the score is made there.
    """
    weights = _weights(model.graph)
    behind = set(ends)
    found = []
    for node in model.graph.node:
        if behind.intersection(node.input):
            behind.update(node.output)
        elif node.op_type in CHANNEL_AXIS and node.input[1] in weights:
            found.append(_convolution(node, tuple(weights[node.input[1]].dims)))
    return found


def float_weights(model: onnx.ModelProto) -> list[str]:
    """Nodes with weights, by name, that cannot be quantised: another operator, or weights that are not constant."""
    can = {node.name for node in convolutions(model, ends=())}
    heavy = (*CHANNEL_AXIS, *WEIGHING)
    return [node.name or node.output[0] for node in model.graph.node if node.op_type in heavy and (node.name or node.output[0]) not in can]


def quantise(model: onnx.ModelProto, ranges: Mapping[str, float], nodes: Collection[str]) -> onnx.ModelProto:
    """Return the graph with some of its convolutions in int8; scales have the type of the weights, float32 or float16.

    Args:
        ranges: magnitude that becomes 127, above 0, by data tensor.
        nodes: names of the convolutions.
    """
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    graph = quantised.graph
    weights = _weights(graph)
    chosen = {conv.name: conv for conv in convolutions(model, ends=()) if conv.name in nodes}
    dequantised: dict[str, str] = {}  # tensor to the same one after Q/DQ
    result: list[onnx.NodeProto] = []
    for node in graph.node:
        if (node.name or node.output[0]) in chosen:
            conv = chosen[node.name or node.output[0]]
            kind = weights[conv.weight].data_type
            if conv.data not in dequantised:
                dequantised[conv.data], added = _data_nodes(graph, conv.data, ranges[conv.data], kind)
                result += added
            if conv.weight not in dequantised:
                dequantised[conv.weight], added = _weight_nodes(graph, weights[conv.weight], CHANNEL_AXIS[conv.operator])
                result += added
            node.input[0], node.input[1] = dequantised[conv.data], dequantised[conv.weight]
        result.append(node)
    used = {name for node in result for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    ordered = onnx.GraphProto()
    ordered.node.extend(node for node in result if node.op_type != "Constant" or node.output[0] in used)
    ordered.initializer.extend(kept)
    for field in ("node", "initializer"):
        graph.ClearField(field)
        getattr(graph, field).extend(getattr(ordered, field))
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def with_fp16_scales(model: onnx.ModelProto, ranges: Mapping[str, float], nodes: Collection[str]) -> onnx.ModelProto:
    """Return the float16 form of a graph with convolutions in int8, whose scales are float16: opset 19 has them, 17 does not."""
    typed = onnx.version_converter.convert_version(model, TYPED_OPSET)
    typed.ir_version = TYPED_IR
    return quantise(typed, ranges, nodes)


def tensor_specs(values: Collection[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    """A graph's inputs or outputs, as a manifest has them."""
    kinds = [(value.name, value.type.tensor_type) for value in values]
    return tuple(
        TensorSpec(
            name,
            helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
            tuple(axis.dim_param or axis.dim_value for axis in kind.shape.dim),
        )
        for name, kind in kinds
    )


def _weights(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Constant float tensors by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    tensors |= {
        node.output[0]: attribute.t
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    return {name: tensor for name, tensor in tensors.items() if tensor.data_type in floats}


def _convolution(node: onnx.NodeProto, weight_shape: tuple[int, ...]) -> Convolution:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axes = len(weight_shape) - 2
    pads = attributes.get("pads", [0] * 2 * axes)
    return Convolution(
        name=node.name or node.output[0],
        operator=node.op_type,
        data=node.input[0],
        weight=node.input[1],
        weight_shape=weight_shape,
        strides=tuple(attributes.get("strides", [1] * axes)),
        pads=tuple(pads[i] + pads[i + axes] for i in range(axes)),
        dilations=tuple(attributes.get("dilations", [1] * axes)),
    )


def _data_nodes(graph: onnx.GraphProto, tensor: str, largest: float, kind: int) -> tuple[str, list[onnx.NodeProto]]:
    scale = _scales(np.array(largest), kind)
    graph.initializer.append(numpy_helper.from_array(scale, f"{tensor}/scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), f"{tensor}/zero"))
    facts = [f"{tensor}/scale", f"{tensor}/zero"]
    return f"{tensor}/dequantised", [
        helper.make_node("QuantizeLinear", [tensor, *facts], [f"{tensor}/int8"], f"{tensor}/QuantizeLinear"),
        helper.make_node("DequantizeLinear", [f"{tensor}/int8", *facts], [f"{tensor}/dequantised"], f"{tensor}/DequantizeLinear"),
    ]


def _weight_nodes(graph: onnx.GraphProto, weight: onnx.TensorProto, axis: int) -> tuple[str, list[onnx.NodeProto]]:
    values = numpy_helper.to_array(weight).astype(np.float64)
    others = tuple(i for i in range(values.ndim) if i != axis)
    scale = _scales(np.abs(values).max(axis=others), weight.data_type)
    aligned = scale.astype(np.float64).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    whole = np.clip(np.rint(values / aligned), -STEPS, STEPS).astype(np.int8)
    name = weight.name
    for suffix, array in (("int8", whole), ("scale", scale), ("zero", np.zeros(scale.shape, np.int8))):
        graph.initializer.append(numpy_helper.from_array(array, f"{name}/{suffix}"))
    inputs = [f"{name}/{suffix}" for suffix in ("int8", "scale", "zero")]
    return f"{name}/dequantised", [
        helper.make_node("DequantizeLinear", inputs, [f"{name}/dequantised"], f"{name}/DequantizeLinear", axis=axis)
    ]


def _scales(largest: np.ndarray, kind: int) -> np.ndarray:
    """Of one step; never 0, which would divide what is 0 anyway."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    scale = np.where(largest > 0, largest, 1.0) / STEPS
    return np.asarray(np.maximum(scale, np.finfo(dtype).smallest_subnormal), dtype)
