from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.sources.cameras.picture_check import Filler, PictureCheck

NOISE = np.random.default_rng(0).integers(90, 110, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("colour", [(0, 0, 0), (128, 128, 128), (0, 250, 0)])
def test_a_picture_of_one_colour_shows_nothing(colour: tuple[int, int, int]) -> None:
    image = np.full((48, 64, 3), colour, np.uint8)
    image[3, 5] += 2  # a decoder's rounding
    assert PictureCheck().look(image) is Filler.ONE_COLOUR


def test_one_thing_in_it_is_enough_to_look_at() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[30:33, 41:44] = 60  # between the pixels that are looked at first
    assert PictureCheck().look(image) is None


def test_the_dark_has_noise() -> None:
    image = np.random.default_rng(0).integers(0, 9, (48, 64, 3), dtype=np.uint8)
    assert PictureCheck().look(image) is None


def test_the_same_picture_again_is_repeated_and_one_pixel_makes_it_new() -> None:
    check = PictureCheck()
    assert check.look(NOISE) is None
    assert check.look(NOISE.copy()) is Filler.REPEATED
    changed = NOISE.copy()
    changed[1, 1] += 1
    assert check.look(changed) is None
    assert check.look(NOISE) is None


def test_after_a_pause_nothing_is_repeated() -> None:
    check = PictureCheck()
    check.look(NOISE)
    check.forget()
    assert check.look(NOISE) is None


def test_another_size_is_new() -> None:
    check = PictureCheck()
    check.look(NOISE)
    assert check.look(NOISE[:24]) is None
