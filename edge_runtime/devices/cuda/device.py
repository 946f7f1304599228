"""The CUDA device: everything between a camera's picture and a score's numbers stays on the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from weakref import finalize

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.devices.cuda.arena import Arena, Holding
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.cuda.bank import CudaBank
from edge_runtime.devices.cuda.compilation import compiled_kernels
from edge_runtime.devices.cuda.driver import CudaEvent, Gpu
from edge_runtime.devices.cuda.frame_upload import FrameUpload
from edge_runtime.devices.cuda.results import CudaFetched, Results
from edge_runtime.devices.cuda.ring import CudaRing, ring_nbytes
from edge_runtime.errors import ShapeError
from edge_runtime.preprocess import InputSpec
from edge_runtime.score_scale import MovingAverage
from edge_runtime.stream import Arrays, Stream
from edge_runtime.window import Window

__all__ = ["CudaDevice", "CudaMark"]


class CudaDevice:
    """Windows and memory banks on an NVIDIA GPU; arrays are `DeviceArray`s.

    It belongs to the thread that makes it, and is closed when that ends, if not before. All work is queued and done in the order in
    which it is asked for, on one stream that engines share; only pictures go up beside it. Memory is taken when streams open and on
    the first frames, none after that.

    Args:
        ordinal: which GPU.

    Attributes:
        gpu: its name.
        sm: compute capability, 87 for 8.7.
        is_integrated: it shares the host's memory, as on a Jetson.
        cuda_stream: handle of the stream on which graphs must run.

    Raises:
        BackendUnavailable: pycuda, the driver, a GPU or nvcc is missing.
        BackendError: the GPU does not take the kernels.
    """

    name = "cuda"

    def __init__(self, ordinal: int = 0) -> None:
        self._gpu = Gpu(ordinal)
        finalize(self, self._gpu.let_go)
        try:
            self._gpu.load(compiled_kernels(self._gpu.sm))
        except BaseException:
            self._gpu.close()
            raise
        self.gpu = self._gpu.name
        self.sm = self._gpu.sm
        self.is_integrated = self._gpu.is_integrated
        self.cuda_stream = int(self._gpu.compute.handle)
        self._arena = Arena(self._gpu.allocate)
        self._results = Results(self._gpu)
        self._spare_uploads: list[FrameUpload] = []
        self._spare_events: list[CudaEvent] = []
        self._batches: dict[tuple[str, int, DeviceArray], DeviceArray] = {}

    def __enter__(self) -> CudaDevice:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Wait for all work and free everything. Streams and arrays of this device cannot be used any more.

        Raises:
            BackendError: this is not the thread that made it.
        """
        self._gpu.close()

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> DeviceArray:
        """Room for an array, at a multiple of 256 bytes; it lives as long as the device.

        Raises:
            BackendError: the GPU's memory is full.
        """
        empty = DeviceArray(0, shape, np.dtype(dtype))
        return DeviceArray(self._arena.take(empty.nbytes), empty.shape, empty.dtype)

    def upload(self, array: np.ndarray) -> DeviceArray:
        """A copy of any array in new memory. This waits for the GPU."""
        copy = self.allocate(array.shape, array.dtype)
        self._gpu.upload(copy.address, array)
        return copy

    def overwrite(self, there: DeviceArray, array: np.ndarray) -> None:
        """Copy an array over another of its size, which this device has. This waits for the GPU.

        Raises:
            ShapeError: they differ in shape or type.
        """
        if (array.shape, array.dtype) != (there.shape, there.dtype):
            raise ShapeError(
                f"{self.gpu}: expected {there.shape} {there.dtype} to overwrite what is there, got {array.shape} {array.dtype}. "
                "Upload it instead."
            )
        self._gpu.upload(there.address, array)

    def download(self, array: DeviceArray) -> np.ndarray:
        """A copy on the host. This waits for the GPU."""
        copy = np.empty(array.shape, array.dtype)
        self._gpu.download(array.address, copy)
        return copy

    def open_stream(self, bundle: Bundle, stream: str, *, smoothing_frames: int) -> Stream:
        """A new stream with the bundle's shipped memory and an empty window. This waits for the GPU.

        Raises:
            BackendError: the GPU's memory is full.
        """
        spec = bundle.manifest.input
        return Stream(
            name=stream,
            window=Window(spec.span, spec.target),
            ring=self._open_ring(spec),
            bank=self._open_bank(bundle),
            smoothing=MovingAverage(smoothing_frames),
        )

    def stack(self, rows: Sequence[Arrays]) -> Arrays:
        """Streams to a batch; a single one passes as it is. The batch lasts until the next of the same names and shapes."""
        if len(rows) == 1:
            return rows[0]
        return {name: self._stacked(name, [row[name] for row in rows]) for name in rows[0]}

    def unstack(self, batch: Arrays) -> list[Arrays]:
        """A batch to one row a stream, each (1, …); views, not copies."""
        size = next(iter(batch.values())).shape[0]
        if size == 1:
            return [batch]
        return [{name: array.row(i) for name, array in batch.items()} for i in range(size)]

    def fetch(self, rows: Sequence[Arrays]) -> CudaFetched:
        """Begin to bring rows of float32 arrays to the host. Any number may be on their way."""
        return self._results.fetch(rows)

    def mark(self) -> CudaMark:
        """This point in the GPU's work, for `ms_between`."""
        event = self._spare_events.pop() if self._spare_events else self._gpu.event(has_time=True)
        self._gpu.record(event, self._gpu.compute)
        return CudaMark(event, self._spare_events)

    def ms_between(self, first: CudaMark, second: CudaMark) -> float:
        """Milliseconds of the GPU's time between two marks of a step that has been waited for."""
        return self._gpu.ms_between(first.event, second.event)

    def _open_ring(self, spec: InputSpec) -> CudaRing:
        holding = Holding(self._arena)
        upload = self._spare_uploads.pop() if self._spare_uploads else FrameUpload(self._gpu)
        ring = CudaRing(self._gpu, spec, holding.take(ring_nbytes(spec)), upload)
        finalize(ring, holding.give_back)
        finalize(ring, self._spare_uploads.append, upload)
        return ring

    def _open_bank(self, bundle: Bundle) -> CudaBank:
        holding = Holding(self._arena)
        bank = CudaBank(self._gpu, bundle.manifest, bundle.read_items(), holding)
        finalize(bank, holding.give_back)
        return bank

    def _stacked(self, name: str, arrays: Sequence[DeviceArray]) -> DeviceArray:
        one = DeviceArray(0, arrays[0].shape, arrays[0].dtype)
        batch = self._batches.get((name, len(arrays), one))
        if batch is None:
            batch = self._batches[name, len(arrays), one] = self.allocate((len(arrays), *one.shape[1:]), one.dtype)
        for i, array in enumerate(arrays):
            self._gpu.copy(batch.address + i * one.nbytes, array.address, one.nbytes)
        return batch


class CudaMark:
    """A point in the GPU's work. Its event goes to another mark when this one is forgotten."""

    __slots__ = ("_spare", "event")

    def __init__(self, event: CudaEvent, spare: list[CudaEvent]) -> None:
        self.event = event
        self._spare = spare

    def __del__(self) -> None:
        self._spare.append(self.event)
