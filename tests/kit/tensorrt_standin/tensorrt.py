"""NOT TensorRT: a stand-in under its name, so that what calls TensorRT can be run where there is no GPU.

A plan is a line of JSON and an ONNX file (`tests.kit.engine_plans`); an execution context runs it with ONNX Runtime on the CPU, over
addresses of the host. It keeps to the rules of the real one: what is refused returns None or False, and the logger is told why; a context
runs when every shape and address is set; the work is put into a stream, and done when the stream comes to it.

It offers nothing that TensorRT 10.3's own bindings do not have (tests/contract/test_tensorrt_standin.py). How fast, how exact and how
forgiving the real one is, it cannot say.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
import onnxruntime as _onnxruntime

__version__ = "10.3.0"

_MAGIC = b"stand-in plan "


class ILogger:
    """What `Runtime` tells."""

    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class Dims(tuple):
    """Lengths of axes; −1 is open."""


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        if not isinstance(logger, ILogger):
            raise TypeError("__init__(): incompatible constructor arguments")
        self._logger = logger
        self.engine_host_code_allowed = False
        self.DLA_core = -1

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        head, _, model = bytes(serialized_engine).partition(b"\n")
        if not head.startswith(_MAGIC):
            self._refuse("Magic tag does not match")
            return None
        facts = json.loads(head.removeprefix(_MAGIC))
        if facts["version"] != __version__ and not facts["is_version_compatible"]:
            self._refuse(f"The engine plan file is for another version, expecting library version {facts['version']}")
            return None
        if facts["is_version_compatible"] and not self.engine_host_code_allowed:
            self._refuse("The engine contains host code, which is not allowed")
            return None
        if facts["needs_dla"] and self.DLA_core < 0:
            self._refuse("The engine needs a DLA core, none is selected")
            return None
        return ICudaEngine(self._logger, model, facts["largest_batch"])

    def _refuse(self, why: str) -> None:
        self._logger.log(ILogger.ERROR, f"IRuntime::deserializeCudaEngine: Error Code 1: {why}.")


class ICudaEngine:
    def __init__(self, logger: ILogger, model: bytes, largest_batch: int) -> None:
        self._logger = logger
        self._largest_batch = largest_batch
        options = _onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self._session = _onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._inputs = {value.name: value for value in self._session.get_inputs()}
        self._outputs = {value.name: value for value in self._session.get_outputs()}
        self._tensors = self._inputs | self._outputs

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        if name in self._inputs:
            return TensorIOMode.INPUT
        return TensorIOMode.OUTPUT if name in self._outputs else TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> DataType:
        return {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF, "tensor(int8)": DataType.INT8}[self._tensors[name].type]

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(-1 if isinstance(length, str) else length for length in self._tensors[name].shape)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        rest = self.get_tensor_shape(name)[1:]
        return [Dims((batch, *rest)) for batch in (1, self._largest_batch, self._largest_batch)]

    def create_execution_context(self) -> IExecutionContext | None:
        return IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name not in self._engine._inputs:
            return self._refuse("setInputShape", f"{name} is not an input tensor")
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        if len(shape) != len(least) or not all(low <= got <= high for low, got, high in zip(least, shape, most, strict=True)):
            return self._refuse("setInputShape", f"{tuple(shape)} is not within the profile's {tuple(least)} to {tuple(most)} of {name}")
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> Dims:
        if name in self._shapes:
            return Dims(self._shapes[name])
        shape = self._engine.get_tensor_shape(name)
        batches = {given[0] for given in self._shapes.values()}
        is_known = self._shapes.keys() == self._engine._inputs.keys() and len(batches) == 1
        return Dims((*batches, *shape[1:])) if is_known and shape[:1] == (-1,) else shape

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._tensors:
            return self._refuse("setTensorAddress", f"{name} is not an I/O tensor")
        if memory % 256:
            return self._refuse("setTensorAddress", f"the address of {name} is not aligned to 256 bytes")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        for name in self._engine._tensors:
            if -1 in self.get_tensor_shape(name):
                return self._refuse("enqueueV3", f"the shape of {name} is not specified")
            if not self._addresses.get(name):
                return self._refuse("enqueueV3", f"the address of {name} is not set")
        tensors = {name: (self._addresses[name], tuple(self.get_tensor_shape(name))) for name in self._engine._tensors}
        _enqueue(stream_handle, lambda: self._run(tensors))
        return True

    def _run(self, tensors: dict[str, tuple[int, tuple[int, ...]]]) -> None:
        engine = self._engine
        arrays = {name: _at(address, shape, engine.get_tensor_dtype(name)) for name, (address, shape) in tensors.items()}
        results = engine._session.run(list(engine._outputs), {name: arrays[name] for name in engine._inputs})
        for name, result in zip(engine._outputs, results, strict=True):
            arrays[name][...] = result

    def _refuse(self, call: str, why: str) -> bool:
        self._engine._logger.log(ILogger.ERROR, f"IExecutionContext::{call}: Error Code 3: API Usage Error ({why})")
        return False


def _at(address: int, shape: tuple[int, ...], dtype: DataType) -> np.ndarray:
    kind = np.dtype({DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT8: np.int8}[dtype])
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    return np.frombuffer((ctypes.c_byte * size).from_address(address), kind).reshape(shape)


_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_pending: list[Any] = []  # callbacks that a stream has not come to


def _enqueue(stream_handle: int, work: Callable[[], None]) -> None:
    """Put work into a stream of the driver; into the default one by doing it."""
    if stream_handle == 0:
        work()
        return

    def come_to(_: int | None) -> None:
        _pending.remove(callback)
        work()

    callback = _HostFunction(come_to)
    _pending.append(callback)
    driver = ctypes.CDLL("libcuda.so.1")
    code = driver.cuLaunchHostFunc(ctypes.c_void_p(stream_handle), callback, None)
    if code:
        raise RuntimeError(f"cuLaunchHostFunc: error {code}")
