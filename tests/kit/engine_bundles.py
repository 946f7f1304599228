"""Bundles to build engines from: those that ship, and the full-size network in both precisions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx

from benchmarks.full_size import full_size_bundle, random_model
from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import GraphSpec, Precision, TensorSpec
from edge_runtime.bundle.manifest_file import encode_manifest

__all__ = ["changed_graph", "full_size", "write_manifest"]


def full_size(folder: Path) -> Bundle:
    """The network of the paper with random weights, fp32 and fp16."""
    return full_size_bundle(random_model(), folder, ("fp32", "fp16"))


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
