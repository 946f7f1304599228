from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.box_anomalies import Box, Giant, add_fast_forwards, add_giants
from edge_runtime.frames import Frame, Gap, GapKind

FPS = 10
PAUSE = Gap(GapKind.PAUSE, "a pause")


def clip_of(count: int, height: int = 40, width: int = 60) -> list[Frame]:
    """A clip whose frame i is grey i all over: the grey tells from when a pixel is."""
    return [Frame(np.full((height, width, 3), i, np.uint8), i, i / FPS, 0.0, "gate", "start" if i == 0 else None) for i in range(count)]


def with_gaps(frames: list[Frame], *starts: int) -> list[Frame]:
    return [replace(frame, gap=PAUSE) if frame.index in starts else frame for frame in frames]


def changed_of(count: int, seed: int) -> list[Frame]:
    return add_fast_forwards(clip_of(count), FPS, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(5))
def test_only_frames_that_say_so_are_changed(seed: int) -> None:
    changed = changed_of(200, seed)
    assert len(changed) == 200
    for i, frame in enumerate(changed):
        assert frame.truth in (True, False)
        if not frame.truth:
            assert (frame.image == i).all()
    assert any(frame.truth and (frame.image != i).any() for i, frame in enumerate(changed))


def test_everything_else_of_a_frame_is_left() -> None:
    for before, after in zip(clip_of(100), changed_of(100, 0), strict=True):
        assert (after.index, after.time_s, after.stream, after.gap) == (before.index, before.time_s, before.stream, before.gap)
        assert after.image.shape == before.image.shape and after.image.dtype == np.uint8


@pytest.mark.parametrize("seed", range(5))
def test_events_last_2_to_4_seconds_with_3_to_5_between_them(seed: int) -> None:
    truth = [bool(frame.truth) for frame in changed_of(250, seed)]
    edges = [i for i in range(1, 250) if truth[i] != truth[i - 1]]
    lengths = np.diff([0, *edges])  # pause, event, pause, …; the last one is cut by the clip's end
    assert len(lengths) >= 4 and not truth[0]
    assert all(30 <= pause <= 50 for pause in lengths[::2])
    assert all(20 <= event <= 40 for event in lengths[1::2])


@pytest.mark.parametrize("seed", range(5))
def test_inside_the_box_time_runs_2_to_5_times_as_fast(seed: int) -> None:
    changed = changed_of(250, seed)
    start = next(i for i, frame in enumerate(changed) if frame.truth)
    speeds = {(int(changed[start + step].image.max()) - start) / step for step in (1, 2, 5, 10)}
    assert len(speeds) == 1 and speeds <= {2, 3, 4, 5}


def test_the_box_is_a_part_of_the_picture_and_soft_at_its_edge() -> None:
    changed = changed_of(100, 1)
    i = next(i for i, frame in enumerate(changed) if frame.truth) + 10
    ahead = changed[i].image[..., 0].astype(int) - i
    rows, columns = np.nonzero(ahead)
    assert 0 < rows.max() - rows.min() < 40 * 0.4 and 0 < columns.max() - columns.min() < 60 * 0.4
    inside = ahead[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert 0 < inside[0, 0] < inside[len(inside) // 2, inside.shape[1] // 2] == ahead.max()


def test_where_the_clip_ends_the_box_plays_backwards() -> None:
    changed = changed_of(60, 2)
    assert max(int(frame.image.max()) for frame in changed) <= 59
    assert any((frame.image < i).any() for i, frame in enumerate(changed))


def test_events_are_where_something_moves() -> None:
    frames = clip_of(100, height=100, width=100)
    for i, frame in enumerate(frames):
        frame.image[:] = 50
        frame.image[90:, 90:] = i
    moved = [frame for frame in add_fast_forwards(frames, FPS, np.random.default_rng(0)) if frame.truth]
    assert any((frame.image[90:, 90:] != frame.index).any() for frame in moved)


def test_a_seed_gives_the_same_and_another_seed_something_else() -> None:
    images = [np.stack([frame.image for frame in changed_of(100, seed)]) for seed in (3, 3, 4)]
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_the_clip_it_is_given_stays_as_it_is() -> None:
    frames = clip_of(100)
    add_fast_forwards(frames, FPS, np.random.default_rng(0))
    assert all((frame.image == i).all() and frame.truth is None for i, frame in enumerate(frames))


def test_a_clip_shorter_than_the_first_pause_stays_normal() -> None:
    assert [frame.truth for frame in changed_of(29, 0)] == [False] * 29


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_pasted_across_a_gap_and_each_stretch_begins_normal(seed: int) -> None:
    changed = add_fast_forwards(with_gaps(clip_of(200), 60, 80, 140), FPS, np.random.default_rng(seed))
    assert [frame.index for frame in changed] == list(range(200))
    for start, stop, has_room in ((0, 60, True), (60, 80, False), (80, 140, True), (140, 200, True)):
        stretch = changed[start:stop]
        assert all(start <= frame.image.min() and frame.image.max() < stop for frame in stretch)
        assert not any(frame.truth for frame in stretch[:30])
        assert any(frame.truth for frame in stretch) == has_room


def test_pictures_smaller_than_the_smallest_box_are_filled_by_it() -> None:
    changed = add_fast_forwards(clip_of(60, height=4, width=5), FPS, np.random.default_rng(0))
    assert any((frame.image != i).any() for i, frame in enumerate(changed))


def test_a_giant_shows_the_middle_of_its_box_enlarged() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[19:21, 29:31] = 200  # 2 x 2 pixels in the middle
    frames = [Frame(image, 0, 0.0, 0.0, "gate", "start")]
    picture = Giant(Box(start=0, stop=1, top=10, left=20, height=20, width=20), size=2.0).picture(frames, 0)
    assert picture.shape == (20, 20, 3)
    assert (picture[..., 0] > 100).sum() == 16


def test_giants_come_and_go_and_leave_the_rest_of_the_picture() -> None:
    rng = np.random.default_rng(0)
    frames = [replace(frame, image=rng.integers(0, 255, frame.image.shape, dtype=np.uint8)) for frame in clip_of(200)]
    changed = add_giants(frames, FPS, np.random.default_rng(1))
    assert {frame.truth for frame in changed} == {True, False}
    for before, after in zip(frames, changed, strict=True):
        share = (before.image != after.image).any(axis=2).mean()
        assert (0 < share <= 0.4 * 0.4) if after.truth else share == 0
