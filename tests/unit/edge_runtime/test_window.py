from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.frames import Frame
from edge_runtime.window import Window


def frame_of(index: int, gap: str | None = None, width: int = 4) -> Frame:
    return Frame(np.zeros((3, width, 3), np.uint8), index, index / 10, 0.0, gap=gap)


def test_it_is_full_after_as_many_frames_as_it_spans() -> None:
    window = Window(span=3, target=2)
    fullness = []
    for index in range(5):
        window.push(frame_of(index))
        fullness.append(window.is_full)
    assert fullness == [False, False, True, True, True]


@pytest.mark.parametrize(("target", "wanted"), [(0, [0, 1, 2]), (1, [1, 2, 3]), (2, [2, 3, 4])])
def test_the_target_frame_is_counted_from_the_oldest(target: int, wanted: list[int]) -> None:
    window = Window(span=3, target=target)
    targets = []
    for index in range(5):
        window.push(frame_of(index))
        if window.is_full:
            targets.append(window.target.index)
    assert targets == wanted


@pytest.mark.parametrize("span", [1, 2, 5])
def test_the_frames_lie_in_one_run_of_a_ring_of_twice_the_span(span: int) -> None:
    window, ring = Window(span, 0), np.full(2 * span, -1)
    for index in range(4 * span):
        if index == span + 1:
            window.clear()  # the run must be whole again wherever the ring stands
        slot = window.next_slot
        window.push(frame_of(index))
        ring[slot] = ring[slot + span] = index
        if window.is_full:
            assert ring[window.start : window.start + span].tolist() == list(range(index - span + 1, index + 1))


def test_a_gap_is_seen_only_where_there_are_frames_before() -> None:
    window = Window(span=2, target=1)
    assert window.gap_before(frame_of(0, gap="start")) is None
    window.push(frame_of(0))
    assert window.gap_before(frame_of(1)) is None
    assert window.gap_before(frame_of(1, gap="next clip")) == "next clip"


def test_another_size_is_a_gap() -> None:
    window = Window(span=2, target=1)
    window.push(frame_of(0, width=4))
    assert window.gap_before(frame_of(1, width=6)) == "size changed to 6x3"


def test_after_clearing_it_takes_a_whole_window_again() -> None:
    window = Window(span=2, target=1)
    for index in range(3):
        window.push(frame_of(index))
    window.clear()
    assert not window.is_full
    assert window.gap_before(frame_of(3, gap="next clip", width=9)) is None
    window.push(frame_of(3))
    assert not window.is_full
    window.push(frame_of(4))
    assert window.is_full and window.target.index == 4
