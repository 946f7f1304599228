from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.devices.cuda.arena import Holding
from edge_runtime.devices.cuda.device import CudaDevice
from edge_runtime.devices.cuda.frame_upload import FrameUpload
from edge_runtime.devices.cuda.ring import CudaRing, ring_nbytes
from edge_runtime.devices.host import HostRing
from edge_runtime.errors import ShapeError
from edge_runtime.preprocess import InputSpec
from tests.kit.cuda_driver.driver import StandIn
from tests.kit.wording import raises

pytestmark = pytest.mark.pycuda

SPECS = (
    InputSpec(frames=4, target=4, channels=1, height=16, width=24),
    InputSpec(frames=16, target=8, channels=3, height=8, width=8),
    InputSpec(frames=1, target=0, channels=3, height=9, width=7),
)


def open_ring(device: CudaDevice, spec: InputSpec) -> CudaRing:
    gpu = device._gpu
    return CudaRing(gpu, spec, Holding(device._arena).take(ring_nbytes(spec)), FrameUpload(gpu))


@pytest.mark.parametrize("is_integrated", [False, True])
@pytest.mark.parametrize("spec", SPECS)
def test_every_window_is_that_of_the_host(spec: InputSpec, is_integrated: bool, stand_in: StandIn) -> None:
    stand_in.set_up(is_integrated=is_integrated)
    rng = np.random.default_rng(0)
    with CudaDevice() as device:
        ours, oracle = open_ring(device, spec), HostRing(spec)
        for number in range(3 * spec.span):
            slot = number % spec.span
            image = rng.integers(0, 256, (32, 48, 3), np.uint8)
            for ring in (ours, oracle):
                ring.write(slot, image)
            if number >= spec.span:
                got, wanted = ours.view((slot + 1) % spec.span), oracle.view((slot + 1) % spec.span)
                for name in ("clip", "target"):
                    values = device.download(got[name])
                    assert values.shape == wanted[name].shape and values.dtype == np.float32
                    assert np.abs(values - wanted[name]).max() <= 1.01 / 127.5  # one grey level


@pytest.mark.parametrize("is_integrated", [False, True])
def test_pictures_that_come_faster_than_the_gpu_reads_them_are_not_overwritten(is_integrated: bool, stand_in: StandIn) -> None:
    stand_in.set_up(is_integrated=is_integrated)
    spec = InputSpec(frames=12, target=12, channels=3, height=6, width=6)
    with CudaDevice() as device:
        ours, oracle = open_ring(device, spec), HostRing(spec)
        image = np.empty((6, 6, 3), np.uint8)
        for slot in range(spec.span):
            image[...] = 10 * slot  # the caller's array is its own again
            ours.write(slot, image)
            oracle.write(slot, image)
        assert np.array_equal(device.download(ours.view(0)["clip"]), oracle.view(0)["clip"])
    assert stand_in.count("pageable_copies") == 0


def test_a_picture_that_is_a_view_of_another_is_taken_as_it_is_seen(device: CudaDevice) -> None:
    spec = InputSpec(frames=1, target=0, channels=3, height=6, width=6)
    ours, oracle = open_ring(device, spec), HostRing(spec)
    image = np.random.default_rng(0).integers(0, 256, (12, 6, 3), np.uint8)[::-2]
    ours.write(0, image)
    oracle.write(0, image)
    assert np.array_equal(device.download(ours.view(0)["clip"]), oracle.view(0)["clip"])


def test_memory_grows_with_the_largest_picture_only(device: CudaDevice, stand_in: StandIn) -> None:
    ring = open_ring(device, SPECS[0])
    for size in ((20, 20), (40, 40)) * 6:
        ring.write(0, np.zeros((*size, 3), np.uint8))
    stand_in.clear()
    for size in ((20, 20), (40, 40), (1, 1)) * 6:
        ring.write(0, np.zeros((*size, 3), np.uint8))
    assert not {"allocations", "pinned_allocations"} & stand_in.counts().keys()


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_what_is_no_picture_is_refused(image: np.ndarray, device: CudaDevice) -> None:
    with raises(ShapeError, "frame … (H, W, 3) uint8 BGR"):
        open_ring(device, SPECS[0]).write(0, image)
