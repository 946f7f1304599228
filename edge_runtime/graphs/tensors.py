"""What goes into a graph and what comes out, held against the manifest: the same for every engine and device."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from edge_runtime.bundle.manifest import GraphSpec, TensorSpec
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.errors import BackendError, ShapeError
from edge_runtime.stream import Arrays

__all__ = ["BatchBuffers", "Place", "check_inputs", "check_outputs", "shape_at"]


class Place(Protocol):
    """What a graph on a GPU needs of its device."""

    @property
    def cuda_stream(self) -> int:
        """Handle of the one that all work is ordered by."""

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """An array that lives as long as the device."""


def check_inputs(inputs: Arrays, tensors: tuple[TensorSpec, ...], origin: str) -> int:
    """Hold a graph's inputs against its manifest; others are passed over.

    Returns:
        Their batch.

    Raises:
        ShapeError: one is missing, or has another shape or type.
    """
    batch = None
    for tensor in tensors:
        array = inputs.get(tensor.name)
        if array is None or not _fits(array, tensor):
            got = "nothing" if array is None else f"{array.shape} {array.dtype}"
            raise ShapeError(
                f"{origin}, input '{tensor.name}': expected {tensor.shape} {tensor.dtype}, got {got}. "
                "Use the bundle's own encoder, memory and preprocessing."
            )
        batch = batch or array.shape[0]
        if array.shape[0] != batch:
            raise ShapeError(
                f"{origin}, input '{tensor.name}': expected a batch of {batch} as before it, got {array.shape[0]}. Stack them all."
            )
    return batch or 1


def check_outputs(outputs: Arrays, tensors: tuple[TensorSpec, ...], origin: str) -> None:
    """Hold what a graph gave against its manifest: what a graph declares is not always what it computes.

    Raises:
        BackendError: an output has another shape or type.
    """
    for tensor in tensors:
        array = outputs[tensor.name]
        if not _fits(array, tensor):
            raise BackendError(
                f"{origin}, output '{tensor.name}': expected {tensor.shape} {tensor.dtype}, "
                f"got {array.shape} {array.dtype}. Make the bundle again."
            )


def shape_at(tensor: TensorSpec, batch: int) -> tuple[int, ...]:
    """The shape of a tensor where its open axis, if it has one, is a batch of this size."""
    return tuple(batch if isinstance(length, str) else length for length in tensor.shape)


class BatchBuffers:
    """A graph's outputs on the device: one set a batch size, made when it first comes, and written anew by every run."""

    def __init__(self, spec: GraphSpec, place: Place) -> None:
        self._tensors = spec.outputs
        self._place = place
        self._outputs: dict[int, dict[str, DeviceArray]] = {}

    def outputs(self, batch: int) -> dict[str, DeviceArray]:
        """The outputs for a batch of this size, by name."""
        if batch not in self._outputs:
            self._outputs[batch] = {
                tensor.name: self._place.allocate(shape_at(tensor, batch), np.dtype(tensor.dtype)) for tensor in self._tensors
            }
        return self._outputs[batch]


def _fits(array: Any, tensor: TensorSpec) -> bool:
    """The first axis alone may be open."""
    shape, wanted = array.shape, tensor.shape
    is_shaped = len(shape) == len(wanted) and shape[1:] == wanted[1:] and (isinstance(wanted[0], str) or shape[0] == wanted[0])
    return is_shaped and bool(array.dtype == tensor.dtype)
