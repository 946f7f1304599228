"""Modules to ONNX files that every engine reads: opset 17, IR 8, one file, fixed names, an open batch axis."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edge_runtime.bundle.manifest import GraphSpec, TensorSpec
from edge_runtime.errors import BundleError
from export.half_precision import halve

__all__ = ["IR_VERSION", "OPSET", "export_graph"]

OPSET = 17
IR_VERSION = 8


def export_graph(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: tuple[str, ...], path: Path, halved: Collection[str] | None = None
) -> GraphSpec:
    """Trace a float32 module and write it to `path`.

    Args:
        inputs: by name, in the module's order, batch axis first.
        outputs: names, in the module's order.
        halved: for a float16 graph, which of its inputs and outputs are float16 as well; see `halve`. None: a float32 graph.

    Returns:
        The file's name, hash and tensors, for the manifest.

    Raises:
        BundleError: it is no valid graph, because the model mixes types by itself.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(), _CastsApart():
        # The tracing exporter is deprecated, but the newer one begins at opset 18; TensorRT 8.6 ends at 17.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
        )
    model = onnx.load_from_string(buffer.getvalue())
    model.ir_version = IR_VERSION
    with torch.no_grad():
        examples = module(*inputs.values())
    for value, example in zip(model.graph.output, examples, strict=True):
        _name_shape(value, example)
    if halved is not None:
        halve(model, halved)
    _check(model, path.name)
    content = model.SerializeToString(deterministic=True)
    path.write_bytes(content)
    return GraphSpec(
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        inputs=tuple(map(_tensor_spec, model.graph.input)),
        outputs=tuple(map(_tensor_spec, model.graph.output)),
    )


def _check(model: onnx.ModelProto, name: str) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BundleError(
            f"{name}: expected a graph in which every operator's types agree, got: {str(error).strip()}. A tensor that the model "
            "itself casts to float32 may meet one that is float16 here. Leave float16 out: make bundle BUNDLE_FLAGS='--precisions fp32'"
        ) from error


class _CastsApart(TorchFunctionMode):
    """Casts to the type that a tensor has make a copy of it: the tracer takes a tensor that comes back as it was for what lies behind
    the cast, also where the network goes on with what lay before."""

    def __torch_function__(self, function: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        named = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.dtype)]
        wanted = {Tensor.float: [torch.float32], Tensor.to: named}.get(function)
        if wanted and wanted[0] == args[0].dtype:
            return args[0].to(args[0].dtype, copy=True)
        return function(*args, **kwargs)


def _name_shape(value: onnx.ValueInfoProto, example: Tensor) -> None:
    """State an output's shape: the tracer leaves axes behind a Reshape open that are not."""
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    shape.dim.add().dim_param = "batch"
    for length in example.shape[1:]:
        shape.dim.add().dim_value = length


def _tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return TensorSpec(value.name, dtype, tuple(axis.dim_param or axis.dim_value for axis in kind.shape.dim))
