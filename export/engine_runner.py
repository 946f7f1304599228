"""Run a plan on arrays of the host, as plainly as possible: for checking, not for speed. Names checked, never run: it needs a GPU."""

from __future__ import annotations

import numpy as np

from edge_runtime.errors import BackendError
from edge_runtime.manifest import GraphSpec
from edge_runtime.stream import Arrays
from export.gpu import DeviceMemory
from export.tensorrt_library import Library, open_log

__all__ = ["EngineGraph"]


class EngineGraph:
    """One half of the model in a TensorRT engine.

    Args:
        plan: the serialised engine.
        spec: the graph it was built from: names, types and shapes are the same.
        memory: an open one; this graph's buffers are named after its tensors.

    Raises:
        BackendError: the plan does not load here.
    """

    def __init__(self, library: Library, plan: bytes, spec: GraphSpec, memory: DeviceMemory) -> None:
        trt = library.trt
        self._logger, self._heard = open_log(trt)
        runtime = trt.Runtime(self._logger)
        runtime.engine_host_code_allowed = True  # it was built a moment ago, by this process
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(f"{spec.file}: {library.title} does not load the engine it built: {self._heard.reason}. See --debug.")
        self._runtime, self._engine = runtime, engine
        self._context = engine.create_execution_context()
        self._spec = spec
        self._memory = memory

    def run(self, inputs: Arrays) -> Arrays:
        """Outputs by name for inputs by name, on the host.

        Raises:
            BackendError: the engine fails.
        """
        context, memory = self._context, self._memory
        for tensor in self._spec.inputs:
            array = np.asarray(inputs[tensor.name], tensor.dtype)
            context.set_input_shape(tensor.name, array.shape)
            context.set_tensor_address(tensor.name, memory.upload(f"{self._spec.file}: {tensor.name}", array))
        outputs = {}
        for tensor in self._spec.outputs:
            array = np.empty(tuple(context.get_tensor_shape(tensor.name)), tensor.dtype)
            context.set_tensor_address(tensor.name, memory.allocate(f"{self._spec.file}: {tensor.name}", array.nbytes))
            outputs[tensor.name] = array
        if not context.execute_async_v3(0):
            raise BackendError(f"{self._spec.file}: the engine failed: {self._heard.reason}. See --debug.")
        return {name: memory.download(f"{self._spec.file}: {name}", array) for name, array in outputs.items()}
