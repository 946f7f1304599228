"""A graph on the GPU that takes and gives arrays of the host: for checking an engine, not for speed."""

from __future__ import annotations

from edge_runtime.bundle.manifest import GraphSpec
from edge_runtime.stream import Arrays, Graph
from export.engine.device_memory import DeviceMemory

__all__ = ["HostGraph"]


class HostGraph:
    """The same graph as a camera's frames run through, with the copies around it.

    Args:
        graph: on the GPU, in this memory.
    """

    def __init__(self, graph: Graph, spec: GraphSpec, memory: DeviceMemory) -> None:
        self._graph = graph
        self._inputs = [tensor.name for tensor in spec.inputs]
        self._memory = memory

    def run(self, inputs: Arrays) -> Arrays:
        """Outputs by name for inputs by name, on the host.

        Raises:
            ShapeError: an input has another shape or type than the manifest says.
            BackendError: the engine fails.
        """
        there = self._memory.upload({name: inputs[name] for name in self._inputs if name in inputs})
        return self._memory.download(self._graph.run(there))
