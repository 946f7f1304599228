"""Bundles to build engines from: those that ship, and the full-size network in both precisions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
from onnx import numpy_helper

from benchmarks.full_size import full_size_bundle, random_model
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import GraphSpec, Precision, TensorSpec, encode_manifest

__all__ = ["changed_graph", "full_size", "halve", "write_manifest"]

FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def full_size(folder: Path) -> Bundle:
    """The network of the paper with random weights, fp32 and fp16.

    PyTorch takes minutes to run it in float16 on a CPU, as an export does; turning weights and casts over gives the same graphs.
    """
    bundle = full_size_bundle(random_model(), folder)
    single = bundle.precision("fp32")
    graphs = [_halved_file(bundle, spec) for spec in (single.encoder, single.decoder)]
    double = replace(single, encoder=graphs[0], decoder=graphs[1])
    return write_manifest(bundle, bundle.manifest.precisions | {"fp16": double})


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn a float32 graph of the export into its float16 graph: weights, skips, and the casts that its inputs go through."""
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


def changed_graph(bundle: Bundle, precision: str, part: str, change: Callable[[onnx.ModelProto], None]) -> Bundle:
    """Change one graph of a bundle, and its hash in the manifest with it."""
    graphs = bundle.precision(precision)
    spec: GraphSpec = getattr(graphs, part)
    model = onnx.load_from_string((bundle.path / spec.file).read_bytes())
    change(model)
    content = model.SerializeToString(deterministic=True)
    (bundle.path / spec.file).write_bytes(content)
    changed = replace(spec, sha256=hashlib.sha256(content).hexdigest(), inputs=_with_batch(spec, model))
    return write_manifest(bundle, bundle.manifest.precisions | {precision: replace(graphs, **{part: changed})})


def write_manifest(bundle: Bundle, precisions: dict[str, Precision]) -> Bundle:
    manifest = replace(bundle.manifest, precisions=precisions)
    (bundle.path / "manifest.json").write_bytes(encode_manifest(manifest))
    return Bundle.load(bundle.path)


def _with_batch(spec: GraphSpec, model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    first = {value.name: value.type.tensor_type.shape.dim[0] for value in model.graph.input}
    return tuple(
        replace(tensor, shape=(first[tensor.name].dim_value or first[tensor.name].dim_param, *tensor.shape[1:])) for tensor in spec.inputs
    )


def _halved_file(bundle: Bundle, spec: GraphSpec) -> GraphSpec:
    content = halve(onnx.load_from_string(bundle.read(spec))).SerializeToString(deterministic=True)
    file = spec.file.replace("fp32", "fp16")
    (bundle.path / file).write_bytes(content)

    def halved(tensor: TensorSpec) -> TensorSpec:
        return replace(tensor, dtype="float16") if tensor.name.startswith("skip_") else tensor

    inputs, outputs = (tuple(map(halved, tensors)) for tensors in (spec.inputs, spec.outputs))
    return GraphSpec(file, hashlib.sha256(content).hexdigest(), inputs, outputs)
