"""A float32 graph of the export in half precision: weights, skips, and the casts at its inputs."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

__all__ = ["halve"]

FLOAT16 = onnx.TensorProto.FLOAT16


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn a float32 graph into its float16 graph, in place.

    The network runs in float16 from the casts at the inputs on; queries, reads, prediction and `score/*` stay float32, as the graph's own
    casts say. On a CPU this takes a moment, where PyTorch would have to run the network in float16, for minutes.
    """
    inputs = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float16"), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith("skip_"):
            value.type.tensor_type.elem_type = FLOAT16
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in inputs:
            node.attribute[0].i = FLOAT16
    return model
