"""The frame's kernel, run on the CPU, against OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.devices.cuda import preprocessing
from edge_runtime.preprocess import InputSpec, fit, preprocess
from tests.kit.cuda_emulation.compilation import emulated_kernels
from tests.kit.cuda_emulation.runner import ORDERS, Emulator

pytestmark = pytest.mark.cxx

Size = tuple[int, int]


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return Emulator(emulated_kernels())


def picture_of(size: Size, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: soft shapes under noise."""
    rng = np.random.default_rng(seed)
    shapes = rng.integers(0, 256, (size[0] // 8 + 2, size[1] // 8 + 2, 3), dtype=np.uint8)
    grown = cv2.resize(shapes, size[::-1], interpolation=cv2.INTER_LINEAR).astype(int)
    return np.clip(grown + rng.integers(-20, 21, grown.shape), 0, 255).astype(np.uint8)


def slots_of(emulator: Emulator, image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """(2, C, h, w): what the kernel leaves in a slot and its twin."""
    slots = np.full((2, spec.channels, spec.height, spec.width), np.nan, np.float32)
    size = image.shape[:2]
    emulator.run([preprocessing.preprocess(image.ctypes.data, *size, spec, slots[0].ctypes.data, slots[1].ctypes.data)])
    return slots


def share_of_equals(emulator: Emulator, image: np.ndarray, spec: InputSpec) -> float:
    """Share of the pixels that are the host's, bit for bit; none may be further off than a grey level."""
    slot, twin = slots_of(emulator, image, spec)
    assert np.array_equal(slot, twin)
    levels = np.rint((slot.astype(float) + 1) * 127.5)
    assert np.abs(levels - fit(image, spec)).max() <= 1
    return float((slot == preprocess(image, spec)).mean())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((240, 360), (128, 192)),  # Ped2
        ((480, 640), (256, 256)),
        ((1080, 1920), (256, 256)),
        ((720, 1280), (256, 341)),
        ((64, 80), (64, 80)),
        ((240, 320), (120, 160)),
        ((240, 320), (60, 80)),
        ((240, 330), (80, 110)),
        ((100, 120), (256, 256)),
        ((64, 64), (128, 128)),
        ((100, 300), (200, 150)),
        ((300, 100), (150, 200)),
        ((37, 53), (11, 17)),
        ((37, 53), (50, 91)),
        ((37, 53), (37, 20)),
        ((1, 1), (5, 3)),
        ((5, 3), (1, 1)),
    ],
    ids=str,
)
def test_a_frame_is_resized_as_opencv_does_it(emulator: Emulator, before: Size, after: Size, channels: int) -> None:
    assert share_of_equals(emulator, picture_of(before), InputSpec(1, 0, channels, *after)) > 0.999


@given(
    before=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    after=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_size_is_within_a_grey_level(emulator: Emulator, before: Size, after: Size, channels: int, seed: int) -> None:
    assert share_of_equals(emulator, picture_of(before, seed), InputSpec(1, 0, channels, *after)) > 0.98


def test_every_colour_becomes_opencvs_grey(emulator: Emulator) -> None:
    levels = np.arange(0, 256, 5, np.uint8)  # 52 of each
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(52, -1, 3)
    assert share_of_equals(emulator, colours, InputSpec(1, 0, 1, *colours.shape[:2])) == 1


def test_black_and_white_are_the_ends_of_the_scale(emulator: Emulator) -> None:
    spec = InputSpec(1, 0, 3, 3, 4)
    assert (slots_of(emulator, np.zeros((6, 7, 3), np.uint8), spec) == -1).all()
    assert (slots_of(emulator, np.full((6, 7, 3), 255, np.uint8), spec) == 1).all()


def test_a_large_picture_does_not_overflow(emulator: Emulator) -> None:
    white = np.full((4320, 7680, 3), 255, np.uint8)
    assert (slots_of(emulator, white, InputSpec(1, 0, 1, 2, 2)) == 1).all()


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_threads_changes_no_bit(emulator: Emulator, order: str) -> None:
    image, spec = picture_of((37, 53)), InputSpec(1, 0, 3, 20, 33)
    expected = slots_of(emulator, image, spec)
    emulator.order(order)
    try:
        assert np.array_equal(slots_of(emulator, image, spec), expected)
    finally:
        emulator.order("ascending")
