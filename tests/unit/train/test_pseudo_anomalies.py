from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

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
    windows = torch.stack([clips[1][20:27]])
    quicken_some(windows, clips, np.array([[1, 20]]), 4, WHOLE, np.random.default_rng(0))
    assert _levels(windows[0])[:4] == [114, 117, 120, 123]


def test_which_windows_are_too_fast_is_told() -> None:
    clip, starts = _clip(40), [5, 20, 5, 21]  # frame 5 lies too close to the beginning
    windows = torch.stack([clip[start : start + SPEC.span] for start in starts])
    is_fast = quicken_some(windows, [clip], np.array([[0, start] for start in starts]), 4, WHOLE, np.random.default_rng(0))
    assert is_fast.tolist() == [False, True, False, True]


def test_batches_tell_it_and_unshuffled_ones_have_none() -> None:
    clip = CachedClip(Segment("a", "a", 0, 60), _clip(60).numpy())
    windows = Windows([clip], SPEC, PseudoAnomalyConfig(share=0.5, speeds=(3,), box_share=0.0))
    shuffled = list(windows.batches(8, np.random.default_rng(0)))
    for batch in shuffled:
        steps = (batch.window[:, 1] - batch.window[:, 0]).mean(dim=(1, 2, 3)) * 127.5
        assert (steps.round() == 3).tolist() == batch.is_pseudo.tolist()
    assert 10 < sum(int(batch.is_pseudo.sum()) for batch in shuffled) < 44
    assert not any(batch.is_pseudo.any() for batch in windows.batches(8))


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
    assert 0.2 * 0.2 < (first == 14).float().mean() < (first < 20).float().mean() < 0.8
    assert len(first.unique()) > 2
    assert window[3:].unique(dim=0).shape == (4, 1, 16, 24)
    assert _levels(window[3:]) == [23, 24, 25, 26]


def test_a_box_lies_where_something_moves() -> None:
    clip = torch.zeros(40, 1, 16, 24, dtype=torch.uint8)
    clip[20, :, 12, 20] = 200
    windows = torch.stack([clip[20:27]] * 20)
    quicken_some(windows, [clip], np.array([[0, 20]] * 20), 4, BOXES, np.random.default_rng(0))
    assert windows[:, :4, 0, 12, 20].tolist() == [[0, 0, 200, 0]] * 20  # frames 14, 17, 20 and 23


def test_the_blend_is_the_masks() -> None:
    window, past = (torch.full((2, 1, 1, 3), level, dtype=torch.uint8) for level in (100, 200))
    assert quicken(window, past, torch.tensor([[0, 0.25, 1]]))[0, 0].tolist() == [[100, 125, 200]]


def test_batches_are_the_same_for_the_same_seed_and_only_shuffled_ones_are_changed() -> None:
    clip = CachedClip(Segment("a", "a", 0, 60), _clip(60).numpy())
    plain, changed = Windows([clip], SPEC), Windows([clip], SPEC, WHOLE)
    first, again = (_batches(changed, 1), _batches(changed, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, _batches(plain, 1))
    assert np.array_equal(first[:, -1], _batches(plain, 1)[:, -1])  # the last frame of the input
    assert np.array_equal(_batches(changed, None), _batches(plain, None))


def test_with_a_share_of_zero_nothing_is_changed() -> None:
    clip = CachedClip(Segment("a", "a", 0, 60), _clip(60).numpy())
    assert np.array_equal(_batches(Windows([clip], SPEC, PseudoAnomalyConfig()), 1), _batches(Windows([clip], SPEC), 1))


def _quickened(config: PseudoAnomalyConfig, starts: list[int]) -> Tensor:
    clip = _clip(40)
    windows = torch.stack([clip[start : start + SPEC.span] for start in starts])
    quicken_some(windows, [clip], np.array([[0, start] for start in starts]), SPEC.frames, config, np.random.default_rng(0))
    return windows


def _clip(frames: int, first: int = 0) -> Tensor:
    """Every frame has the level of its number."""
    return torch.arange(first, first + frames, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 16, 24)


def _levels(window: Tensor) -> list[int]:
    return [int(level) for frame in window for [level] in [frame.unique()]]


def _batches(windows: Windows, seed: int | None) -> np.ndarray:
    order = None if seed is None else np.random.default_rng(seed)
    return np.concatenate([batch.window.numpy() for batch in windows.batches(8, order)])
