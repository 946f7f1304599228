"""Graphs for the stand-in driver: ONNX Runtime on the CPU, as work in the device's stream.

Like an engine, they write into buffers that stay the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np

from edge_runtime import Bundle, Detector
from edge_runtime.bundle.manifest import GraphSpec
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.cuda.device import CudaDevice
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from edge_runtime.loading import Loaded
from edge_runtime.stream import Arrays
from tests.kit.cuda_driver.driver import WORK, StandIn

__all__ = ["StandInGraph", "stand_in_detector"]


def stand_in_detector(stand_in: StandIn, bundle: Bundle, device: CudaDevice, precision: str = "fp32") -> Detector:
    """A detector whose arrays lie on the stand-in."""
    graphs = bundle.precision(precision)
    encoder, decoder = (StandInGraph(stand_in, device, bundle, spec) for spec in (graphs.encoder, graphs.decoder))
    return Detector(bundle, Loaded(precision, "stand-in", encoder, decoder, device, largest_batch=None), None)


class StandInGraph:
    """One graph of a bundle."""

    def __init__(self, stand_in: StandIn, device: CudaDevice, bundle: Bundle, spec: GraphSpec) -> None:
        self._stand_in = stand_in
        self._device = device
        self._spec = spec
        self._graph = OnnxRuntimeGraph(bundle, spec, threads=1)
        self._outputs: dict[int, dict[str, DeviceArray]] = {}  # by batch
        self._works: dict[tuple[int, ...], object] = {}  # by the inputs' addresses and the batch

    def run(self, inputs: Arrays) -> Arrays:
        """Enqueue the graph once; the outputs last until the next run of the same batch."""
        wanted: dict[str, DeviceArray] = {tensor.name: inputs[tensor.name] for tensor in self._spec.inputs}
        batch = next(iter(wanted.values())).shape[0]
        if batch not in self._outputs:
            self._outputs[batch] = {
                tensor.name: self._device.allocate((batch, *map(int, tensor.shape[1:])), np.dtype(tensor.dtype))
                for tensor in self._spec.outputs
            }
        outputs = self._outputs[batch]
        key = (batch, *(array.address for array in wanted.values()))
        if key not in self._works:
            self._works[key] = WORK(lambda: self._compute(wanted, outputs))
        self._stand_in.call(self._device.cuda_stream, self._works[key])
        return outputs

    def _compute(self, inputs: Mapping[str, DeviceArray], outputs: Mapping[str, DeviceArray]) -> None:
        results = self._graph.run({name: _memory(array).copy() for name, array in inputs.items()})
        for name, array in outputs.items():
            _memory(array)[...] = results[name]


def _memory(array: DeviceArray) -> np.ndarray:
    """The stand-in's device memory, for as long as work runs on it."""
    buffer = (ctypes.c_char * array.nbytes).from_address(array.address)
    return np.frombuffer(buffer, array.dtype).reshape(array.shape)
