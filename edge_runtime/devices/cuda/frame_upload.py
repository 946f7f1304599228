"""A camera's pictures on their way to the GPU, while it works on those before."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge_runtime.devices.cuda.driver import CudaEvent, Gpu, Pinned
from edge_runtime.errors import BackendError

__all__ = ["FrameUpload"]

BUFFERS = 3  # two steps may be in flight while the next frame is written


@dataclass
class Buffer:
    """One picture's place on the host and on the device.

    Attributes:
        address: where kernels read it; on an integrated GPU that is the pinned memory itself.
        has_arrived: it is on the device, and the host may write the next.
        was_read: the kernels are done with it.
    """

    has_arrived: CudaEvent
    was_read: CudaEvent
    pinned: Pinned | None = None
    address: int = 0
    picture: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))


class FrameUpload:
    """Takes one picture after the other, of whatever size.

    With memory of its own, the GPU gets copies in the copying stream; with the host's memory, it reads what the host wrote.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._buffers = [Buffer(gpu.event(), gpu.event()) for _ in range(BUFFERS)]
        self._at = 0

    def begin(self, image: np.ndarray) -> int:
        """Send a picture off; where it is for what comes next in the compute stream, until `end`.

        Args:
            image: (H, W, 3) uint8, the caller's again when this returns.

        Raises:
            BackendError: the GPU failed, or memory is full.
        """
        gpu, buffer = self._gpu, self._buffers[self._at]
        is_free = buffer.was_read if gpu.is_integrated else buffer.has_arrived
        if not gpu.has_happened(is_free):  # only where frames come without their results being collected
            gpu.wait(is_free)
        if buffer.picture.shape != image.shape:
            self._make_room(buffer, image)
        np.copyto(buffer.picture, image)
        if not gpu.is_integrated:
            gpu.hold_back(gpu.copying, buffer.was_read)
            gpu.copy_up(buffer.address, buffer.picture, gpu.copying)
            gpu.record(buffer.has_arrived, gpu.copying)
            gpu.hold_back(gpu.compute, buffer.has_arrived)
        return buffer.address

    def end(self) -> None:
        """The compute stream's work so far is all that reads the picture."""
        self._gpu.record(self._buffers[self._at].was_read, self._gpu.compute)
        self._at = (self._at + 1) % BUFFERS

    def _make_room(self, buffer: Buffer, image: np.ndarray) -> None:
        gpu, pinned = self._gpu, buffer.pinned
        if pinned is None or pinned.host.nbytes < image.nbytes:
            if pinned is not None:
                self._free(buffer, pinned)
            pinned = gpu.allocate_pinned(image.nbytes)
            try:
                buffer.address = pinned.address if gpu.is_integrated else gpu.allocate(image.nbytes)
            except BackendError:
                gpu.free_pinned(pinned)
                raise
            buffer.pinned = pinned
        buffer.picture = pinned.host[: image.nbytes].reshape(image.shape)

    def _free(self, buffer: Buffer, pinned: Pinned) -> None:
        buffer.picture, buffer.pinned = np.empty(0, np.uint8), None
        if not self._gpu.is_integrated:
            self._gpu.free(buffer.address)
        self._gpu.free_pinned(pinned)
