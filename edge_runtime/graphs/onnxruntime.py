"""Graphs in ONNX Runtime on the CPU: runs everywhere, and is the yardstick for every other engine."""

from __future__ import annotations

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import GraphSpec
from edge_runtime.errors import BackendError
from edge_runtime.graphs.onnxruntime_session import first_line, load_onnxruntime, open_session
from edge_runtime.graphs.tensors import check_inputs, check_outputs
from edge_runtime.stream import Arrays

__all__ = ["OnnxRuntimeGraph"]


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
        library = load_onnxruntime("cpu")
        options = library.SessionOptions()
        # Two graphs take turns; a pool that spins while it waits takes the cores from the other.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = open_session(library, bundle, spec, options, ("CPUExecutionProvider", {}))
        self._origin = str(bundle.path / spec.file)
        self._inputs = spec.inputs
        self._outputs = spec.outputs
        self._output_names = [tensor.name for tensor in spec.outputs]

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
        check_inputs(inputs, self._inputs, self._origin)
        try:
            results = self._session.run(self._output_names, {tensor.name: inputs[tensor.name] for tensor in self._inputs})
        except Exception as error:
            raise BackendError(f"{self._origin}: ONNX Runtime failed: {first_line(error)}. Make the bundle again.") from error
        outputs = dict(zip(self._output_names, results, strict=True))
        check_outputs(outputs, self._outputs, self._origin)
        return outputs
