"""One GPU through pycuda: context, streams, memory, launches.

What runs on the GPU is put into one of two queues, `compute` and `copying`, and done in their order. Nothing here waits, except
where it says so.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import byref, c_void_p
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import finalize

import numpy as np

from edge_runtime.devices.cuda.launch import Launch
from edge_runtime.devices.gpu import cuda_driver
from edge_runtime.errors import BackendError, BackendUnavailable
from edge_runtime.optional.pycuda import pycuda_driver, reason

__all__ = ["CudaEvent", "CudaStream", "Gpu", "Pinned", "PreparedLaunch"]

CudaStream = Any  # pycuda has no types

PreparedLaunch = tuple[str, tuple[int, int, int], tuple[int, int, int], bytes]
"""A launch with its kernel found and its arguments packed: what is the same for every frame is done once."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

CODES = {np.dtype(np.uint64): "Q", np.dtype(np.int32): "i", np.dtype(np.float32): "f"}
NON_BLOCKING = 1  # a stream that does not wait for the default one, nor the default one for it


@dataclass(frozen=True)
class Pinned:
    """Host memory that the GPU can reach.

    Attributes:
        host: (nbytes,) uint8. Whoever writes here sees to it that no copy or kernel still reads.
        address: of the same memory, for kernels.
    """

    host: np.ndarray
    address: int


class CudaEvent:
    """A point in a stream's work, to be recorded again and again. It is the GPU's, and goes when that is closed."""

    __slots__ = ("raw",)

    def __init__(self, raw: Any) -> None:
        self.raw = raw


def _reporting(method: Callable[Concatenate[Gpu, Arguments], Result]) -> Callable[Concatenate[Gpu, Arguments], Result]:
    """What the driver refuses is a BackendError, and so is work that failed before, which it tells with any later call."""

    @wraps(method)
    def run(self: Gpu, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        self.check_open()
        try:
            return method(self, *args, **kwargs)
        except self.failure as error:
            raise self.failed(error) from error

    return run


class _Thread:
    """Stands for the thread that makes it, and goes when that ends."""


class Gpu:
    """The primary context of a GPU, which engines and other libraries share; current in the thread that makes this, and only used there.

    It is closed when that thread ends, if not before. All methods raise BackendError where the driver refuses, or tells that work
    failed which was queued before, and in any other thread.

    Attributes:
        name: as the driver says it.
        sm: compute capability, 87 for 8.7.
        is_integrated: it shares the host's memory, as on a Jetson.
        compute, copying: the two streams of work.

    Raises:
        BackendUnavailable: pycuda, the driver or a GPU is missing.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self._cuda = cuda = pycuda_driver()
        self.failure: type[Exception] = cuda.Error  # what pycuda raises
        try:
            cuda.init()
            device = cuda.Device(ordinal)
            self.name = str(device.name())
            major, minor = device.compute_capability()
            self.is_integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
            self._context = device.retain_primary_context()
        except cuda.Error as error:
            raise BackendUnavailable(
                f"CUDA: expected GPU {ordinal}, the driver says: {reason(error)}. "
                "Look at nvidia-smi (on a Jetson: tegrastats), or use --device cpu."
            ) from error
        self.sm = 10 * major + minor
        self._memory: dict[int, Any] = {}  # allocations by address
        self._pinned: dict[int, Any] = {}
        self._events: list[CudaEvent] = []
        self._module: Any = None
        self._functions: dict[str, Callable[..., None]] = {}  # by kernel, to be called with a prepared launch
        self._thread = threading.get_ident()
        self._of_thread = threading.local()
        self._of_thread.end = _Thread()
        # A thread that ends with a context in pycuda's stack aborts the process.
        self._at_threads_end = finalize(self._of_thread.end, self.let_go)
        self._context.push()
        self.compute: CudaStream = cuda.Stream(NON_BLOCKING)
        self.copying: CudaStream = cuda.Stream(NON_BLOCKING)

    def close(self) -> None:
        """Wait for all work, free everything and let go of the context. A second time it does nothing."""
        if self._context is None:
            return
        self.check_open()
        self._at_threads_end.detach()
        with suppress(self._cuda.Error):  # what failed was said, or nobody waits for it
            self._cuda.Context.synchronize()
        self._functions.clear()
        self._module = self.compute = self.copying = None
        for event in self._events:
            event.raw = None
        self._events.clear()
        for allocation in (*self._memory.values(), *self._pinned.values()):
            allocation.free()
        self._memory.clear()
        self._pinned.clear()
        context, self._context = self._context, None
        # pycuda's own pop would have detach push the context again, to stay current after it is released.
        driver = cuda_driver()
        if driver is not None:
            driver.cuCtxPopCurrent_v2(byref(c_void_p()))
        context.detach()

    def let_go(self) -> None:
        """Close it where nobody has it any more. In another thread this does nothing: it is closed when its own ends."""
        if threading.get_ident() == self._thread:
            self.close()

    def check_open(self) -> None:
        """Raises:
        BackendError: it was closed, or is another thread's.
        """
        if self._context is None:
            raise BackendError(f"{self.name}: expected an open device, it was closed. Open a new one.")
        if threading.get_ident() != self._thread:
            raise BackendError(
                f"{self.name}: expected to be used and closed in the thread that opened it, got thread "
                f"'{threading.current_thread().name}'. Open a detector in each thread that needs one."
            )

    def load(self, cubin: bytes) -> None:
        """Take the kernels to launch from a cubin.

        Raises:
            BackendError: it is none for this GPU.
        """
        try:
            self._module = self._cuda.module_from_buffer(cubin)
        except self._cuda.Error as error:
            raise BackendError(
                f"{self.name}: expected kernels for sm_{self.sm}, the driver says: {reason(error)}. "
                "Update the driver; or what was kept of the kernels is damaged: delete ~/.cache/edge-runtime."
            ) from error

    @_reporting
    def prepare(self, launches: Sequence[Launch]) -> list[PreparedLaunch]:
        """Launches, ready to be repeated.

        Raises:
            BackendError: a kernel of that name was not loaded.
        """
        return [self._prepare(launch) for launch in launches]

    @_reporting
    def launch(self, prepared: Sequence[PreparedLaunch]) -> None:
        """Put launches into the compute stream."""
        functions, stream = self._functions, self.compute
        for kernel, grid, block, arguments in prepared:
            functions[kernel](grid, block, arguments, 0, stream)

    @_reporting
    def event(self, *, has_time: bool = False) -> CudaEvent:
        """A new one; with a time, it is slower to record."""
        event = CudaEvent(self._cuda.Event(0 if has_time else self._cuda.event_flags.DISABLE_TIMING))
        self._events.append(event)
        return event

    @_reporting
    def record(self, event: CudaEvent, stream: CudaStream) -> None:
        """The event stands for what is in the stream by now."""
        event.raw.record(stream)

    @_reporting
    def has_happened(self, event: CudaEvent) -> bool:
        """The work is done that the event stands for, or it stands for none yet."""
        return bool(event.raw.query())

    @_reporting
    def hold_back(self, stream: CudaStream, event: CudaEvent) -> None:
        """What follows in a stream waits for what an event stands for now."""
        stream.wait_for_event(event.raw)

    @_reporting
    def allocate(self, nbytes: int) -> int:
        """The address of new device memory. This may wait for the GPU.

        Raises:
            BackendError: there is not that much.
        """
        try:
            allocation = self._cuda.mem_alloc(nbytes)
        except self._cuda.Error as error:
            raise BackendError(
                f"{self.name}: expected {nbytes / 2**20:.0f} MiB of free memory, the driver says: {reason(error)}. "
                "Stop what else uses the GPU, or take a smaller bundle or fewer streams."
            ) from error
        address = int(allocation)
        self._memory[address] = allocation
        return address

    def free(self, address: int) -> None:
        """Give device memory back, once all work is done. This waits for the GPU."""
        self.synchronize()
        self._memory.pop(address).free()

    @_reporting
    def allocate_pinned(self, nbytes: int) -> Pinned:
        """New pinned memory, mapped into the GPU's addresses. This may wait for the GPU.

        Raises:
            BackendError: there is not that much.
        """
        try:
            host = self._cuda.pagelocked_empty(nbytes, np.uint8, mem_flags=self._cuda.host_alloc_flags.DEVICEMAP)
            pinned = Pinned(host, int(host.base.get_device_pointer()))
        except self._cuda.Error as error:
            raise BackendError(
                f"{self.name}: expected {nbytes / 2**20:.1f} MiB of host memory to pin, the driver says: {reason(error)}. Free some."
            ) from error
        self._pinned[pinned.address] = host.base
        return pinned

    def free_pinned(self, pinned: Pinned) -> None:
        """Give pinned memory back, once all work is done; its array must not be used any more. This waits for the GPU."""
        self.synchronize()
        self._pinned.pop(pinned.address).free()

    @_reporting
    def copy_up(self, address: int, pinned: np.ndarray, stream: CudaStream) -> None:
        """Pinned memory to the device; it must not change until that is done."""
        self._cuda.memcpy_htod_async(address, pinned, stream)

    @_reporting
    def copy_down(self, pinned: np.ndarray, address: int) -> None:
        """From the device to pinned memory, after the compute stream's work so far."""
        self._cuda.memcpy_dtoh_async(pinned, address, self.compute)

    @_reporting
    def copy(self, to: int, source: int, nbytes: int) -> None:
        """Within the device, in the compute stream."""
        if nbytes:
            self._cuda.memcpy_dtod_async(to, source, nbytes, self.compute)

    @_reporting
    def fill(self, address: int, value: float, count: int) -> None:
        """Set `count` float32, in the compute stream."""
        if count:
            self._cuda.memset_d32_async(address, int(np.float32(value).view(np.uint32)), count, self.compute)

    @_reporting
    def upload(self, address: int, array: np.ndarray) -> None:
        """Any array to the device, after all work so far and before all that follows. This waits."""
        self._cuda.Context.synchronize()
        self._cuda.memcpy_htod(address, np.ascontiguousarray(array))
        self._cuda.Context.synchronize()  # the copy may still be on its way, and neither stream waits for it

    @_reporting
    def download(self, address: int, out: np.ndarray) -> None:
        """From the device into a contiguous array, after all work so far. This waits."""
        self._cuda.Context.synchronize()
        self._cuda.memcpy_dtoh(out, address)

    @_reporting
    def synchronize(self) -> None:
        """Wait for all work."""
        self._cuda.Context.synchronize()

    @_reporting
    def wait(self, event: CudaEvent) -> None:
        """Wait until the work is done that the event stands for."""
        event.raw.synchronize()

    @_reporting
    def ms_between(self, first: CudaEvent, second: CudaEvent) -> float:
        """Milliseconds from one event with a time to another; both were waited for."""
        return float(second.raw.time_since(first.raw))

    def _prepare(self, launch: Launch) -> PreparedLaunch:
        arguments = struct.pack("".join(CODES[value.dtype] for value in launch.arguments), *launch.arguments)
        if launch.kernel not in self._functions:
            try:
                function = self._module.get_function(launch.kernel)
            except self._cuda.Error as error:
                raise BackendError(
                    f"{self.name}: expected a kernel {launch.kernel}, the driver says: {reason(error)}. Reinstall edge-runtime."
                ) from error
            # Its public calls pack the arguments anew and set the block's shape by a call of its own, which CUDA deprecates.
            self._functions[launch.kernel] = function._launch_kernel
        return launch.kernel, launch.grid, launch.block, arguments

    def failed(self, error: Exception) -> BackendError:
        """What to raise for a `failure`."""
        return BackendError(
            f"{self.name}: expected the GPU to do its work, the driver says: {reason(error)}. "
            "Start again; if it happens again, look at dmesg, or use --device cpu."
        )
