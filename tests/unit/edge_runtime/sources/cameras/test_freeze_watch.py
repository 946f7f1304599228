"""Frozen or quiet: pictures as codecs and sensors make them of a scene in which nothing moves."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from edge_runtime.sources.cameras.picture_check import FreezeWatch

FPS, AFTER_S, KEY_FRAMES_EVERY = 10, 2.0, 15
SCENE = np.random.default_rng(0).integers(40, 200, (48, 64, 3), np.uint8)


def frozen_at(pictures: Iterable[np.ndarray]) -> list[int]:
    watch = FreezeWatch(AFTER_S)
    return [number for number, picture in enumerate(pictures) if watch.look(picture, number / FPS)]


def with_noise(deviation: float, pictures: int = 100) -> list[np.ndarray]:
    noise = np.random.default_rng(1)
    return [np.clip(SCENE + noise.normal(0, deviation, SCENE.shape), 0, 255).round().astype(np.uint8) for _ in range(pictures)]


def as_h264(pictures: int) -> list[np.ndarray]:
    """A still that each key frame unsettles by up to 10 levels, halved with every picture after it."""
    noise = np.random.default_rng(2)
    shown = []
    for number in range(pictures):
        if number % KEY_FRAMES_EVERY == 0:
            unrest = noise.integers(-10, 11, SCENE.shape)
        shown.append(np.clip(SCENE + unrest / 2 ** (number % KEY_FRAMES_EVERY), 0, 255).astype(np.uint8))
    return shown


def test_repeated_pictures_are_frozen_after_the_time() -> None:
    assert frozen_at([SCENE] * 40) == list(range(20, 40))


def test_a_still_in_h264_is_frozen_though_key_frames_unsettle_it() -> None:
    assert frozen_at(as_h264(60)) == list(range(20, 60))


@pytest.mark.parametrize("deviation", [0.5, 1.0, 3.0])
def test_a_quiet_scene_with_the_noise_of_a_sensor_is_not(deviation: float) -> None:
    assert frozen_at(with_noise(deviation)) == []


def test_something_small_that_moves_ends_it() -> None:
    moved = SCENE.copy()
    moved[21:24, 33:36] += 30
    assert frozen_at([SCENE] * 30 + [moved] + [SCENE] * 10) == list(range(20, 30))


def test_a_slow_change_is_not_frozen() -> None:
    assert frozen_at(SCENE + np.uint8(number) for number in range(50)) == []


def test_another_size_is_new() -> None:
    assert frozen_at([SCENE] * 15 + [SCENE[:, :32].copy()] * 15) == []


def test_forgotten_it_begins_anew() -> None:
    watch = FreezeWatch(AFTER_S)
    watch.look(SCENE, 0.0)
    watch.forget()
    assert not watch.look(SCENE, 5.0) and not watch.look(SCENE, 6.0) and watch.look(SCENE, 7.0)
