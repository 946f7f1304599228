"""Graphs in an engine of TensorRT or TensorRT-RTX, on the device's own buffers and in its stream of work.

Its names are held against the bindings of every release that is spoken to; it has not run on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import finalize

from edge_runtime.bundle.manifest import GraphSpec, TensorSpec
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.errors import BackendError, BackendUnavailable, EngineMismatch
from edge_runtime.graphs.tensorrt_library import Library, open_log
from edge_runtime.graphs.tensors import BatchBuffers, Place, check_inputs, shape_at
from edge_runtime.stream import Arrays

__all__ = ["ALIGNMENT", "Plan", "TensorRtGraph"]

ALIGNMENT = 256  # bytes, of every address that TensorRT is given
OPEN = -1  # an axis that is open, in TensorRT's shapes


@dataclass(frozen=True)
class Plan:
    """A serialised engine.

    Attributes:
        spec: the graph it was built from; its inputs and outputs are the plan's.
        origin: its path, for messages.
        remedy: what to do where it is not what it should be.
        holds_host_code: it was built for later versions, too, and brings code that runs on the host.
        dla_core: of a Jetson's DLA that it was built for; None: the GPU alone.
    """

    content: bytes
    spec: GraphSpec
    origin: str
    remedy: str
    holds_host_code: bool = False
    dla_core: int | None = None


class TensorRtGraph:
    """One half of the model in an engine.

    Inputs and outputs are the device's arrays; outputs are written anew by the next run with as large a batch. What layers need between
    them, TensorRT allocates when the graph is made, and not again.

    Args:
        place: the device whose memory and stream it uses; its context is current.

    Attributes:
        largest_batch: what the engine takes in one call.

    Raises:
        BackendUnavailable: TensorRT does not start, because there is no GPU.
        EngineMismatch: the plan does not load here, or its tensors are not the graph's.
        BackendError: there is no memory to run it in.
    """

    def __init__(self, library: Library, plan: Plan, place: Place) -> None:
        logger, self._heard = open_log(library.trt)
        runtime = _open_runtime(library, logger)
        if plan.holds_host_code:
            runtime.engine_host_code_allowed = True
        if plan.dla_core is not None:
            runtime.DLA_core = plan.dla_core
        engine = runtime.deserialize_cuda_engine(plan.content)
        if engine is None:
            raise EngineMismatch(f"{plan.origin}: {library.title} does not load it: {self._heard.reason}. {plan.remedy}")
        _check_tensors(library.trt, engine, plan)
        context = engine.create_execution_context()
        if context is None:
            raise BackendError(f"{plan.origin}: {library.title} has no room to run it: {self._heard.reason}. Free memory of the GPU.")
        self.largest_batch = _largest_batch(engine, plan.spec)
        self._held = _Held(context, engine, runtime, logger)
        finalize(self, self._held.release)  # at the end of the process, too: before the device, which was made earlier
        self._plan = plan
        self._place = place
        self._inputs = plan.spec.inputs
        self._buffers = BatchBuffers(plan.spec, place)
        self._batch: int | None = None
        self._addresses: dict[str, int] = {}

    def run(self, inputs: Arrays) -> Arrays:
        """Enqueue the graph once; returns before it is done.

        Args:
            inputs: at least the graph's own, by name, with their batch in front, on the device; others are passed over.

        Returns:
            The graph's outputs by name, valid until the next run with as large a batch.

        Raises:
            ShapeError: an input is missing or has another shape or type than the manifest says.
            BackendError: the engine takes no batch of that size, or fails.
        """
        batch = check_inputs(inputs, self._inputs, self._plan.origin)
        outputs = self._buffers.outputs(batch)
        if batch != self._batch:
            self._set_batch(batch, outputs)
        for tensor in self._inputs:
            address = inputs[tensor.name].address
            if address != self._addresses.get(tensor.name):
                self._set_address(tensor.name, address)
        if not self._held.context.execute_async_v3(self._place.cuda_stream):
            raise self._failure("run it")
        return outputs

    def _set_batch(self, batch: int, outputs: Mapping[str, DeviceArray]) -> None:
        self._batch = None  # until all of it is set
        context = self._held.context
        for tensor in self._inputs:
            if not context.set_input_shape(tensor.name, shape_at(tensor, batch)):
                raise self._failure(f"take {batch} streams in one call, {self.largest_batch or 'fewer'} at most")
        for tensor in self._plan.spec.outputs:
            wanted, got = shape_at(tensor, batch), tuple(context.get_tensor_shape(tensor.name))
            if got != wanted:
                raise BackendError(
                    f"{self._plan.origin}, output '{tensor.name}': expected {wanted} as the manifest says, got {got}. {self._plan.remedy}"
                )
        for name, array in outputs.items():
            self._set_address(name, array.address)
        self._batch = batch

    def _set_address(self, name: str, address: int) -> None:
        if address % ALIGNMENT:
            raise BackendError(f"{self._plan.origin}, '{name}': expected an address at a multiple of {ALIGNMENT} bytes, got {address:#x}.")
        if not self._held.context.set_tensor_address(name, address):
            raise self._failure(f"take '{name}'")
        self._addresses[name] = address

    def _failure(self, what: str) -> BackendError:
        return BackendError(f"{self._plan.origin}: the engine does not {what}: {self._heard.reason}. {self._plan.remedy}")


@dataclass
class _Held:
    """What TensorRT made, each from the one behind it."""

    context: Any
    engine: Any
    runtime: Any
    logger: Any

    def release(self) -> None:
        """What was made last goes first."""
        self.context = None
        self.engine = None
        self.runtime = None
        self.logger = None


def _open_runtime(library: Library, logger: Any) -> Any:
    try:
        return library.trt.Runtime(logger)
    except (TypeError, RuntimeError) as error:  # the bindings' way to say that they were given no runtime
        raise BackendUnavailable(f"{library.title}: expected a GPU that answers, got none. Look at edge-doctor.") from error


def _check_tensors(trt: Any, engine: Any, plan: Plan) -> None:
    """Names, types and shapes are the manifest's. An open axis may be closed; of outputs, any may be open until inputs are given."""
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    dtypes = {trt.DataType.FLOAT: "float32", trt.DataType.HALF: "float16"}
    for mode, side, tensors in (
        (trt.TensorIOMode.INPUT, "inputs", plan.spec.inputs),
        (trt.TensorIOMode.OUTPUT, "outputs", plan.spec.outputs),
    ):
        have, want = {name for name in names if engine.get_tensor_mode(name) == mode}, {tensor.name for tensor in tensors}
        if have != want:
            raise EngineMismatch(f"{plan.origin}: expected {side} {sorted(want)}, the engine has {sorted(have)}. {plan.remedy}")
        for tensor in tensors:
            dtype, shape = engine.get_tensor_dtype(tensor.name), tuple(engine.get_tensor_shape(tensor.name))
            if dtypes.get(dtype) != tensor.dtype or not _agree(shape, tensor, is_output=side == "outputs"):
                raise EngineMismatch(
                    f"{plan.origin}, '{tensor.name}': expected {tensor.shape} {tensor.dtype}, the engine has {shape} {dtype.name}. "
                    f"{plan.remedy}"
                )


def _agree(found: tuple[int, ...], tensor: TensorSpec, *, is_output: bool) -> bool:
    if len(found) != len(tensor.shape):
        return False
    pairs = zip(found, tensor.shape, strict=True)
    return all(isinstance(wanted, str) or got == wanted or (is_output and got == OPEN) for got, wanted in pairs)


def _largest_batch(engine: Any, spec: GraphSpec) -> int:
    """The smallest of its inputs' largest batches."""
    batches = []
    for tensor in spec.inputs:
        shape = engine.get_tensor_shape(tensor.name)
        if shape[0] == OPEN:
            _, _, shape = engine.get_tensor_profile_shape(tensor.name, 0)
        batches.append(int(shape[0]))
    return min(batches)
