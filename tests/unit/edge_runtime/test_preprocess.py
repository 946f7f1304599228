from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.devices.host import HostRing
from edge_runtime.errors import ShapeError
from edge_runtime.preprocess import InputSpec, fit, preprocess
from tests.kit.wording import raises


def spec_of(channels: int, height: int, width: int) -> InputSpec:
    return InputSpec(frames=1, target=0, channels=channels, height=height, width=width)


@pytest.mark.parametrize(("frames", "target", "span"), [(4, 4, 5), (1, 0, 1), (16, 8, 16), (4, 6, 7)])
def test_a_window_spans_its_clip_and_its_target(frames: int, target: int, span: int) -> None:
    assert InputSpec(frames, target, 1, 8, 8).span == span


def test_black_is_minus_one_and_white_is_one() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = 255
    planes = preprocess(image, spec_of(3, 2, 2))
    assert planes.shape == (3, 2, 2) and planes.dtype == np.float32
    assert planes[:, 0] == pytest.approx(np.ones((3, 2)), abs=1e-6)
    assert planes[:, 1].tolist() == [[-1, -1]] * 3


def test_channels_stay_in_the_order_blue_green_red() -> None:
    image = np.full((1, 1, 3), (0, 51, 102), np.uint8)
    assert preprocess(image, spec_of(3, 1, 1)).ravel() == pytest.approx([-1, -0.6, -0.2])


def test_grey_weighs_the_channels_as_the_eye_does() -> None:
    image = np.array([[(100, 0, 0), (0, 100, 0), (0, 0, 100), (50, 50, 50)]], np.uint8)
    assert fit(image, spec_of(1, 1, 4)).tolist() == [[[11, 59, 30, 50]]]  # 0.114, 0.587, 0.299


def test_an_area_resize_is_the_mean_of_the_pixels() -> None:
    image = np.repeat(np.array([[0, 10, 20, 40], [20, 10, 60, 80]], np.uint8)[..., None], 3, axis=2)
    assert fit(image, spec_of(1, 1, 2)).tolist() == [[[10, 50]]]
    assert fit(image, spec_of(3, 1, 2)).tolist() == [[[10, 50]]] * 3


def test_it_writes_into_the_array_it_is_given() -> None:
    out = np.empty((1, 2, 2), np.float32)
    assert preprocess(np.full((2, 2, 3), 255, np.uint8), spec_of(1, 2, 2), out) is out
    assert out == pytest.approx(np.ones((1, 2, 2)), abs=1e-6)


def test_the_image_is_left_as_it_is() -> None:
    image = np.full((4, 4, 3), 7, np.uint8)
    preprocess(image, spec_of(3, 4, 4))
    assert (image == 7).all()


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((4, 4, 3), np.float32), "(4, 4, 3) float32"),
        (np.zeros((4, 4), np.uint8), "(4, 4) uint8"),
        (np.zeros((4, 4, 4), np.uint8), "(4, 4, 4) uint8"),
        (np.zeros((4, 4, 1), np.uint8), "(4, 4, 1) uint8"),
    ],
)
def test_anything_but_colour_bytes_is_refused(image: np.ndarray, got: str) -> None:
    with raises(ShapeError, f"frame … (H, W, 3) uint8 BGR … {got}"):
        preprocess(image, spec_of(1, 4, 4))


def test_a_ring_shows_clip_and_target_of_the_window_that_begins_at_a_slot() -> None:
    ring = HostRing(InputSpec(frames=2, target=2, channels=1, height=1, width=1))
    for slot, grey in ((0, 0), (1, 51), (2, 102), (0, 255)):
        ring.write(slot, np.full((1, 1, 3), grey, np.uint8))
    view = ring.view(1)  # 51 and 102, then the one that replaced 0
    assert (view["clip"].shape, view["target"].shape) == ((1, 2, 1, 1, 1), (1, 1, 1, 1))
    assert view["clip"].ravel() == pytest.approx([-0.6, -0.2])
    assert view["target"].ravel() == pytest.approx([1])
