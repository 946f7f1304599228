"""Graphs in ONNX Runtime on the CPU: runs everywhere, and is the yardstick for every other engine."""

from __future__ import annotations

from types import ModuleType
from typing import Any, cast

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BackendError, BackendUnavailable, BundleError, ShapeError
from edge_runtime.manifest import GraphSpec, TensorSpec
from edge_runtime.stream import Arrays

__all__ = ["OnnxRuntimeGraph"]

_Tensors = dict[str, tuple[str, tuple[int | str, ...]]]  # name to type and shape

DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}


class OnnxRuntimeGraph:
    """One graph of a bundle, loaded and verified.

    Args:
        bundle, spec: where it lies and what it must take and give.
        threads: for one graph; None leaves the choice to ONNX Runtime (one a core).

    Raises:
        BackendUnavailable: ONNX Runtime is not installed.
        IntegrityError: the file is not the one the manifest describes.
        BundleError: it is not a graph ONNX Runtime can load, or its tensors are not those of the manifest.
    """

    def __init__(self, bundle: Bundle, spec: GraphSpec, *, threads: int | None = None) -> None:
        library = _library()
        options = library.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is in the exception
        # Two graphs take turns; a pool that spins while it waits takes the cores from the other.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        origin = str(bundle.path / spec.file)
        try:
            content = bundle.read(spec)
            self._session = library.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
            inputs, outputs = _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs())
        except (BundleError, BackendError):
            raise
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types for a file it does not understand
            raise BundleError(
                f"{origin}: expected an ONNX graph, ONNX Runtime says: {_first_line(error)}. Make the bundle again."
            ) from error
        self._origin = origin
        self._inputs = spec.inputs
        self._outputs = spec.outputs
        self._output_names = [tensor.name for tensor in spec.outputs]
        _check_tensors(inputs, spec.inputs, origin, "inputs")
        _check_tensors(outputs, spec.outputs, origin, "outputs")

    def run(self, inputs: Arrays) -> Arrays:
        """Run the graph once.

        Args:
            inputs: at least the graph's own, by name, with their batch in front; others are passed over.

        Returns:
            The graph's outputs by name.

        Raises:
            ShapeError: an input is missing or has another shape or type than the manifest says.
            BackendError: ONNX Runtime failed, or an output has another shape or type than the manifest says.
        """
        feed = {}
        for tensor in self._inputs:
            array = inputs.get(tensor.name)
            if array is None or not _fits(array, tensor):
                got = "nothing" if array is None else f"{array.shape} {array.dtype}"
                raise ShapeError(
                    f"{self._origin}, input '{tensor.name}': expected {tensor.shape} {tensor.dtype}, got {got}. "
                    "Use the bundle's own encoder, memory and preprocessing."
                )
            feed[tensor.name] = array
        try:
            outputs = self._session.run(self._output_names, feed)
        except Exception as error:
            raise BackendError(f"{self._origin}: ONNX Runtime failed: {_first_line(error)}. Make the bundle again.") from error
        for array, tensor in zip(outputs, self._outputs, strict=True):
            if not _fits(array, tensor):  # what a graph declares is not always what it computes
                raise BackendError(
                    f"{self._origin}, output '{tensor.name}': expected {tensor.shape} {tensor.dtype}, "
                    f"got {array.shape} {array.dtype}. Make the bundle again."
                )
        return dict(zip(self._output_names, outputs, strict=True))


def _fits(array: np.ndarray, tensor: TensorSpec) -> bool:
    if array.dtype != tensor.dtype or array.ndim != len(tensor.shape):
        return False
    return all(isinstance(wanted, str) or wanted == got for wanted, got in zip(tensor.shape, array.shape, strict=True))


def _tensors(found: list[Any]) -> _Tensors:
    return {tensor.name: (DTYPES.get(tensor.type, tensor.type), tuple(tensor.shape)) for tensor in found}


def _check_tensors(have: _Tensors, wanted: tuple[TensorSpec, ...], origin: str, side: str) -> None:
    want = {tensor.name: (tensor.dtype, tensor.shape) for tensor in wanted}
    if have != want:
        raise BundleError(f"{origin}: expected {side} {want} as the manifest says, the graph has {have}. Make the bundle again.")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


def _library() -> ModuleType:
    try:
        import onnxruntime as library
    except ImportError as error:
        raise BackendUnavailable(
            f"ONNX Runtime: expected the module onnxruntime, got '{error}'. Install it: pip install 'edge-runtime[cpu]'"
        ) from error
    return cast(ModuleType, library)
