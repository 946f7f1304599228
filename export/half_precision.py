"""A float32 graph of the export in half precision: weights, the tensors between the graphs, and the casts at its inputs."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import numpy_helper

__all__ = ["halve"]

FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
ALWAYS_FLOAT = {"Resize": (1, 2)}  # inputs that keep their type, by operator: ONNX has it so


def halve(model: onnx.ModelProto, halved: Collection[str]) -> onnx.ModelProto:
    """Turn a float32 graph into its float16 graph, in place.

    The network runs in float16 from the casts at the inputs on, until a cast of its own leads back: queries, reads, prediction and
    `score/*` stay float32. Constants and weights take the type of what they are used with. On a CPU this takes a moment, where PyTorch
    would have to run the network in float16, for minutes.

    Args:
        halved: inputs and outputs that are float16 as well.
    """
    graph = model.graph
    inputs = {value.name for value in graph.input}
    for value in (*graph.input, *graph.output):
        if value.name in halved:
            value.type.tensor_type.elem_type = FLOAT16
    half = inputs & set(halved)
    constants = _Constants(graph)
    for node in graph.node:
        if node.op_type == "Cast":
            if node.input[0] in inputs and node.attribute[0].i == FLOAT:
                node.attribute[0].i = FLOAT16
            is_half = node.attribute[0].i == FLOAT16
        else:
            is_half = any(name in half for name in node.input)
        if is_half:
            half.update(node.output)
            constants.halve_for(node)
    constants.write()
    return model


class _Constants:
    """Weights and constants of a graph; those that half-precision nodes use are given to them in float16."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._tensors |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
        self._halves: dict[str, onnx.TensorProto] = {}

    def halve_for(self, node: onnx.NodeProto) -> None:
        for at, name in enumerate(node.input):
            tensor = self._tensors.get(name)
            if tensor is None or tensor.data_type != FLOAT or at in ALWAYS_FLOAT.get(node.op_type, ()):
                continue
            half = f"{name}.half"
            if half not in self._halves:
                self._halves[half] = numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float16"), half)
            node.input[at] = half

    def write(self) -> None:
        """Put in what was halved, and leave out what nobody uses any more."""
        used = {name for node in self._graph.node for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        nodes = [node for node in self._graph.node if node.op_type != "Constant" or node.output[0] in used]
        for field, values in ((self._graph.initializer, [*kept, *self._halves.values()]), (self._graph.node, nodes)):
            values = list(values)
            del field[:]
            field.extend(values)
