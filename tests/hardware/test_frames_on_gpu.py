"""Pictures in the ring on this machine's GPU against the preprocessing of the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_check.memory_step import pool_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.devices.cuda.device import CudaDevice
from edge_runtime.preprocess import InputSpec, preprocess
from edge_runtime.stream import FrameRing
from tests.kit.changed_bundles import with_input

pytestmark = pytest.mark.gpu

GREY_LEVEL = 1 / 127.5
SIZES = [
    ((240, 360), (128, 192)),
    ((480, 640), (256, 256)),
    ((1080, 1920), (256, 256)),
    ((2160, 3840), (256, 256)),
    ((256, 256), (256, 256)),
    ((100, 120), (256, 256)),
    ((37, 53), (31, 17)),
    ((1, 1), (4, 4)),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("camera", "network"), SIZES, ids=str)
def test_a_slot_and_its_twin_hold_what_the_host_makes_of_the_picture(
    camera: tuple[int, int], network: tuple[int, int], channels: int, device: CudaDevice, tmp_path: Path
) -> None:
    spec = InputSpec(frames=2, target=2, channels=channels, height=network[0], width=network[1])
    ring = ring_of(device, spec, tmp_path)
    images = [np.random.default_rng(seed).integers(0, 256, (*camera, 3), np.uint8) for seed in range(3)]
    for slot, image in enumerate(images):
        ring.write(slot, image)
    wanted = np.stack([preprocess(image, spec) for image in images])
    for start, order in ((0, (0, 1, 2)), (1, (1, 2, 0)), (2, (2, 0, 1))):
        view = ring.view(start)
        got = np.concatenate([device.download(view["clip"])[0], device.download(view["target"])])
        differences = np.abs(got - wanted[list(order)])
        assert differences.max() <= GREY_LEVEL * 1.01
        assert (differences < GREY_LEVEL / 2).mean() >= 0.99


def test_pictures_that_follow_each_other_closely_do_not_overwrite_each_other(device: CudaDevice, tmp_path: Path) -> None:
    spec = InputSpec(frames=8, target=7, channels=1, height=64, width=64)
    ring = ring_of(device, spec, tmp_path)
    images = [np.full((1080, 1920, 3), value, np.uint8) for value in range(0, 256, 4)]
    for number, image in enumerate(images):
        ring.write(number % 8, image)
        image[...] = 255 - image  # the caller's own again, as soon as `write` returns
    got = device.download(ring.view(0)["clip"])[0]
    for slot in range(8):
        assert np.abs(got[slot] - (4 * (56 + slot) * GREY_LEVEL - 1)).max() <= GREY_LEVEL / 2


def ring_of(device: CudaDevice, spec: InputSpec, folder: Path) -> FrameRing:
    bundle: Bundle = with_input(pool_bundle(folder / "pool", (4, 4, 2), "float32"), spec)
    return device.open_stream(bundle, "gate", smoothing_frames=1).ring
