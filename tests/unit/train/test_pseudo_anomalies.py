from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_runtime.preprocess import InputSpec
from train.config import PseudoAnomalyConfig
from train.data import CachedClip, Segment, Windows
from train.pseudo_anomalies import quicken, quicken_some

SPEC = InputSpec(frames=4, target=6, channels=1, height=16, width=24)
WHOLE = PseudoAnomalyConfig(share=1.0, speeds=(3,), box_share=0.0)
BOXES = PseudoAnomalyConfig(share=1.0, speeds=(3,), box_share=1.0)


def test_the_past_is_fast_and_ends_where_it_did_and_the_rest_of_the_window_stays() -> None:
    [window] = _quickened(WHOLE, starts=[20])
    assert _levels(window) == [14, 17, 20, 23, 24, 25, 26]


def test_only_speeds_that_the_clip_has_room_for_are_drawn() -> None:
    config = PseudoAnomalyConfig(share=1.0, speeds=(2, 3, 5), box_share=0.0)
    assert {_levels(window)[0] for window in _quickened(config, starts=[7] * 50)} == {1, 4}  # frame 10 less 3 steps of 3 and 2


def test_a_window_at_the_clips_beginning_stays_as_it_is() -> None:
    [first, second] = _quickened(WHOLE, starts=[5, 6])
    assert _levels(first) == [5, 6, 7, 8, 9, 10, 11]
    assert _levels(second)[:4] == [0, 3, 6, 9]


def test_each_window_is_drawn_from_its_own_clip() -> None:
    clips = [_clip(40), _clip(40, first=100)]
    windows = _quickened(WHOLE, starts=[(1, 20)], clips=clips)
    assert _levels(windows[0])[:4] == [114, 117, 120, 123]


def test_every_speed_and_only_the_share_is_drawn() -> None:
    config = PseudoAnomalyConfig(share=0.25, speeds=(2, 3, 4, 5), box_share=0.0)
    firsts = [_levels(window)[0] for window in _quickened(config, starts=[20] * 800)]
    speeds = [(23 - first) // 3 for first in firsts]
    assert set(speeds) == {1, 2, 3, 4, 5}
    assert speeds.count(1) == pytest.approx(600, abs=50)


def test_a_box_is_fast_inside_normal_outside_and_soft_between() -> None:
    [window] = _quickened(BOXES, starts=[20])
    first = window[0, 0]
    assert (first.min(), first.max()) == (14, 20)
    assert 0.2 * 0.2 < (first == 14).mean() < (first < 20).mean() < 0.8
    assert np.unique(first).size > 2
    assert np.unique(window[3:], axis=0).shape == (4, 1, 16, 24)
    assert _levels(window[3:]) == [23, 24, 25, 26]


def test_a_box_lies_where_something_moves() -> None:
    clip = np.zeros((40, 1, 16, 24), np.uint8)
    clip[20, :, 12, 20] = 200
    windows = _quickened(BOXES, starts=[(0, 20)] * 20, clips=[clip])
    assert windows[:, :4, 0, 12, 20].tolist() == [[0, 0, 200, 0]] * 20  # frames 14, 17, 20 and 23


def test_the_blend_is_the_masks() -> None:
    window, past = (torch.full((2, 1, 1, 3), level, dtype=torch.uint8) for level in (100, 200))
    assert quicken(window, past, torch.tensor([[0, 0.25, 1]]))[0, 0].tolist() == [[100, 125, 200]]


def test_windows_that_became_too_fast_say_so() -> None:
    windows = torch.from_numpy(np.stack([_clip(40)[start : start + SPEC.span] for start in (5, 20)]))
    is_fast = quicken_some(windows, [torch.from_numpy(_clip(40))], np.array([[0, 5], [0, 20]]), 4, WHOLE, np.random.default_rng(0))
    assert is_fast.tolist() == [False, True]  # before frame 5 there is no room


def test_batches_are_the_same_for_the_same_seed_and_only_shuffled_ones_are_changed() -> None:
    clip = CachedClip(Segment("a", "a", 0, 60), _clip(60))
    plain, changed = Windows([clip], SPEC), Windows([clip], SPEC, WHOLE)
    first, again = (_batches(changed, 1), _batches(changed, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, _batches(plain, 1))
    assert np.array_equal(first[:, -1], _batches(plain, 1)[:, -1])  # the last frame of the input
    assert np.array_equal(_batches(changed, None), _batches(plain, None))


def test_with_a_share_of_zero_nothing_is_changed() -> None:
    clip = CachedClip(Segment("a", "a", 0, 60), _clip(60))
    assert np.array_equal(_batches(Windows([clip], SPEC, PseudoAnomalyConfig()), 1), _batches(Windows([clip], SPEC), 1))


def _quickened(config: PseudoAnomalyConfig, starts: list[int] | list[tuple[int, int]], clips: list[np.ndarray] | None = None) -> np.ndarray:
    """(B, span, C, h, w): windows by their start in one clip, or by clip and start."""
    clips = [_clip(40)] if clips is None else clips
    places = [start if isinstance(start, tuple) else (0, start) for start in starts]
    windows = torch.from_numpy(np.stack([clips[clip][start : start + SPEC.span] for clip, start in places]))
    quicken_some(windows, [torch.from_numpy(clip) for clip in clips], np.array(places), SPEC.frames, config, np.random.default_rng(0))
    return windows.numpy()


def _clip(frames: int, first: int = 0) -> np.ndarray:
    """Every frame has the level of its number."""
    return np.arange(first, first + frames, dtype=np.uint8)[:, None, None, None].repeat(16, 2).repeat(24, 3)


def _levels(window: np.ndarray) -> list[int]:
    return [int(level) for frame in window for [level] in [np.unique(frame)]]


def _batches(windows: Windows, seed: int | None) -> np.ndarray:
    order = None if seed is None else np.random.default_rng(seed)
    return np.concatenate([batch.window.numpy() for batch in windows.batches(8, order)])
