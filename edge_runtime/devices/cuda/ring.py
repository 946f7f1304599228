"""Preprocessed frames of one stream on the GPU."""

from __future__ import annotations

import numpy as np

from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.cuda.driver import Gpu, PreparedLaunch
from edge_runtime.devices.cuda.frame_upload import FrameUpload
from edge_runtime.devices.cuda.preprocessing import preprocess
from edge_runtime.preprocess import InputSpec, check_frame
from edge_runtime.stream import Arrays

__all__ = ["CudaRing", "ring_nbytes"]


class CudaRing:
    """Frames in device memory, float32 as the network wants them: (2 · span, C, h, w).

    Args:
        address: of `ring_nbytes(spec)` of device memory that is this ring's.
        upload: this ring's way to the device.
    """

    def __init__(self, gpu: Gpu, spec: InputSpec, address: int, upload: FrameUpload) -> None:
        self._gpu = gpu
        self._spec = spec
        self._upload = upload
        self._slots = DeviceArray(address, (2 * spec.span, spec.channels, spec.height, spec.width), np.dtype(np.float32))
        self._views = [self._view(start) for start in range(spec.span)]
        self._launches: dict[tuple[int, int], list[PreparedLaunch]] = {}  # by slot and the picture's address
        self._size: tuple[int, ...] = ()

    def write(self, slot: int, image: np.ndarray) -> None:
        """Send (H, W, 3) uint8 BGR up, and preprocess it there into a slot and its twin.

        Raises:
            ShapeError: the image is not (H, W, 3) uint8.
            BackendError: the GPU failed.
        """
        check_frame(image)
        if image.shape != self._size:
            self._launches.clear()
            self._size = image.shape
        picture = self._upload.begin(image)
        launches = self._launches.get((slot, picture))
        if launches is None:
            twin = self._slots.row(slot + self._spec.span).address
            launch = preprocess(picture, image.shape[0], image.shape[1], self._spec, self._slots.row(slot).address, twin)
            launches = self._launches[slot, picture] = self._gpu.prepare([launch])
        self._gpu.launch(launches)
        self._upload.end()

    def view(self, start: int) -> Arrays:
        """`clip` (1, T, C, h, w) and `target` (1, C, h, w); valid until what follows a later write in the compute stream."""
        return self._views[start]

    def _view(self, start: int) -> Arrays:
        spec, slots = self._spec, self._slots
        window = DeviceArray(slots.row(start).address, (1, spec.frames, *slots.shape[1:]), slots.dtype)
        return {"clip": window, "target": slots.row(start + spec.target)}


def ring_nbytes(spec: InputSpec) -> int:
    """What a ring needs of device memory."""
    return 4 * 2 * spec.span * spec.channels * spec.height * spec.width
