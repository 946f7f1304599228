"""A graph of a bundle as a session of ONNX Runtime, verified: what its CPU and its CUDA provider share."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, cast

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import GraphSpec, TensorSpec
from edge_runtime.errors import BackendError, BackendUnavailable, BundleError

__all__ = ["first_line", "load_onnxruntime", "open_session"]

_Tensors = dict[str, tuple[str, tuple[int | str, ...]]]  # name to type and shape

DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def load_onnxruntime(extra: str) -> ModuleType:
    """Import ONNX Runtime, which then reports to nobody how it is used, unless the environment says otherwise.

    Args:
        extra: of this package, that brings the one that is needed.

    Raises:
        BackendUnavailable: it is not installed.
    """
    os.environ.setdefault(NO_TELEMETRY, "1")  # it looks there once, while it is imported
    try:
        import onnxruntime as library
    except ImportError as error:
        raise BackendUnavailable(
            f"ONNX Runtime: expected the module onnxruntime, got '{error}'. Install it: pip install 'edge-runtime[{extra}]'"
        ) from error
    return cast(ModuleType, library)


def open_session(library: ModuleType, bundle: Bundle, spec: GraphSpec, options: Any, provider: tuple[str, dict[str, str]]) -> Any:
    """A session for one graph.

    Args:
        options: ONNX Runtime's SessionOptions.
        provider: its name and options.

    Raises:
        IntegrityError: the file is not the one the manifest describes.
        BundleError: it is not a graph ONNX Runtime can load, or its tensors are not those of the manifest.
    """
    options.log_severity_level = 4  # what goes wrong is in the exception
    origin = str(bundle.path / spec.file)
    try:
        session = library.InferenceSession(bundle.read(spec), options, providers=[provider], enable_fallback=0)
        inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
    except (BundleError, BackendError):
        raise
    except Exception as error:  # ONNX Runtime raises a dozen unrelated types for a file it does not understand
        raise BundleError(f"{origin}: expected an ONNX graph, ONNX Runtime says: {first_line(error)}. Make the bundle again.") from error
    _check_tensors(inputs, spec.inputs, origin, "inputs")
    _check_tensors(outputs, spec.outputs, origin, "outputs")
    return session


def first_line(error: Exception) -> str:
    """What an error says, without the stack that ONNX Runtime puts behind it."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def _tensors(found: list[Any]) -> _Tensors:
    return {tensor.name: (DTYPES.get(tensor.type, tensor.type), tuple(tensor.shape)) for tensor in found}


def _check_tensors(have: _Tensors, wanted: tuple[TensorSpec, ...], origin: str, side: str) -> None:
    want = {tensor.name: (tensor.dtype, tensor.shape) for tensor in wanted}
    if have != want:
        raise BundleError(f"{origin}: expected {side} {want} as the manifest says, the graph has {have}. Make the bundle again.")
