from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from calibration.compare.gliders import CutOut, add_gliders, brisk_speed, cut_out_movers
from edge_runtime.frames import Frame, Gap, GapKind

FPS = 10
HEIGHT, WIDTH = 120, 200
PAUSE = Gap(GapKind.PAUSE, "a pause")


def walker_clip(count: int = 80, speed: int = 2) -> list[Frame]:
    """A textured wall, and before it something of 24 x 12 that goes to the right, as many pixels a frame as `speed` says."""
    rng = np.random.default_rng(0)
    wall = rng.integers(90, 110, (HEIGHT, WIDTH, 3))
    coat = rng.integers(180, 250, (24, 12, 3))
    images = []
    for i in range(count):
        image = wall.copy()
        left = 10 + speed * i % (WIDTH - 30)
        image[50:74, left : left + 12] = coat
        images.append(image.astype(np.uint8))
    return [Frame(image, i, i / FPS, 0.0, "gate", "start" if i == 0 else None) for i, image in enumerate(images)]


def still_clip(count: int, grey: int = 50) -> list[Frame]:
    return [Frame(np.full((HEIGHT, WIDTH, 3), grey, np.uint8), i, i / FPS, 0.0, "gate", "start" if i == 0 else None) for i in range(count)]


def white_square(side: int = 10, top: int = 60) -> CutOut:
    return CutOut(np.full((side, side, 3), 255, np.float32), np.ones((side, side), np.float32), top, 0)


def test_what_moves_is_cut_out_whole_and_alone() -> None:
    found = cut_out_movers(walker_clip())
    assert len(found) >= 6  # of eight looks; at the borders it does not stand free
    for cut_out in found:
        rows, columns = np.nonzero(cut_out.mask > 0.9)
        assert abs(np.ptp(rows) + 1 - 24) <= 3 and abs(np.ptp(columns) + 1 - 12) <= 3
        assert abs(cut_out.top + rows.min() - 50) <= 2
        assert cut_out.image[cut_out.mask > 0.9].mean() > 170  # the coat, not the wall


def test_where_nothing_moves_nothing_is_cut_out() -> None:
    assert cut_out_movers(still_clip(60)) == []
    assert brisk_speed(still_clip(60)) == 0


@pytest.mark.parametrize("speed", [1, 3, 6])
def test_speed_is_in_pixels_a_frame(speed: int) -> None:
    assert brisk_speed(walker_clip(speed=speed)) == pytest.approx(speed, rel=0.1)


def test_a_step_over_a_gap_is_no_speed() -> None:
    frames = walker_clip()
    across = {11, 31, 51, 71}  # half of the steps that are looked at
    clip = [replace(frames[(i + 4) % 80], index=i, gap=PAUSE) if i in across else frame for i, frame in enumerate(frames)]
    assert brisk_speed(clip) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_only_frames_that_say_so_are_changed(seed: int) -> None:
    frames = still_clip(200)
    changed = add_gliders(frames, [white_square()], (2, 3), FPS, np.random.default_rng(seed))
    assert len(changed) == 200
    assert any(frame.truth for frame in changed) and not changed[0].truth
    for before, after in zip(frames, changed, strict=True):
        is_changed = bool((after.image != before.image).any())
        assert is_changed == after.truth
        assert (after.index, after.time_s, after.stream, after.gap) == (before.index, before.time_s, before.stream, before.gap)


@pytest.mark.parametrize("seed", range(5))
def test_it_comes_in_at_one_side_and_goes_out_at_the_other(seed: int) -> None:
    changed = add_gliders(still_clip(400), [white_square()], (2, 3), FPS, np.random.default_rng(seed))
    glides = [list(frames) for truth, frames in groupby(changed, key=lambda frame: frame.truth) if truth]
    assert len(glides) >= 2
    columns = np.arange(WIDTH)
    for frames in glides[: None if not changed[-1].truth else -1]:  # the last may not be through
        shown = np.array([(frame.image[..., 0].astype(float) - 50).sum(axis=0) / 205 for frame in frames])  # (N, W)
        assert shown[0].sum() < 40 and shown[-1].sum() < 40  # of 100 pixels
        whole = shown[np.isclose(shown.sum(axis=1), 100, rtol=0.02)]
        assert len(whole) > 0.8 * len(shown)
        places = whole @ columns / whole.sum(axis=1)
        assert abs(places[-1] - places[0]) > 0.85 * WIDTH
        steps = np.diff(places) * np.sign(places[-1] - places[0])
        assert steps.min() > 1.95 and steps.max() < 3.05 and np.ptp(steps) < 0.1


@pytest.mark.parametrize("count", [60, 80])
def test_also_in_a_short_clip_something_glides(count: int) -> None:
    for seed in range(5):
        changed = add_gliders(still_clip(count), [white_square()], (2, 3), FPS, np.random.default_rng(seed))
        assert not changed[0].truth and any(frame.truth for frame in changed[: count // 2 + 1])


@pytest.mark.parametrize("seed", range(5))
def test_nothing_glides_through_a_gap_and_each_stretch_with_room_has_its_own(seed: int) -> None:
    starts = {60, 80, 140}
    frames = [replace(frame, gap=PAUSE) if frame.index in starts else frame for frame in still_clip(200)]
    changed = add_gliders(frames, [white_square()], (2, 3), FPS, np.random.default_rng(seed))
    assert [frame.index for frame in changed] == list(range(200))
    for start, stop, has_room in ((0, 60, True), (60, 80, False), (80, 140, True), (140, 200, True)):
        stretch = changed[start:stop]
        assert not any(frame.truth for frame in stretch[:29])
        assert any(frame.truth for frame in stretch[:31]) == has_room


def test_the_clip_given_is_left_alone_and_a_seed_repeats() -> None:
    frames = still_clip(100)
    one, other = (add_gliders(frames, [white_square()], (2, 3), FPS, np.random.default_rng(4)) for _ in range(2))
    assert all((frame.image == 50).all() and frame.truth is None for frame in frames)
    assert all((a.image == b.image).all() and a.truth == b.truth for a, b in zip(one, other, strict=True))
