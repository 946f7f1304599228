from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.window import Window

NEXT_CLIP = Gap(GapKind.NEXT_CLIP, "next clip after 1")


def frame_of(index: int, gap: Gap | None = None, width: int = 4) -> Frame:
    return Frame(np.zeros((3, width, 3), np.uint8), index, index / 10, 0.0, gap=gap)


@pytest.mark.parametrize(("target", "wanted"), [(0, [0, 1, 2]), (1, [1, 2, 3]), (2, [2, 3, 4])])
def test_the_target_frame_of_a_full_window_is_counted_from_the_oldest(target: int, wanted: list[int]) -> None:
    window = Window(span=3, target=target)
    views = [window.push(frame_of(index)) for index in range(5)]
    assert [view.frame.index for view in views] == [0, 1, 2, 3, 4]
    assert [view.target and view.target.index for view in views] == [None, None, *wanted]


def test_what_was_in_view_stays_as_it_was_when_later_frames_come() -> None:
    window = Window(span=2, target=0)
    window.push(frame_of(0))
    view = window.push(frame_of(1))
    window.push(frame_of(2, gap=NEXT_CLIP))
    assert view.target is not None and (view.frame.index, view.target.index, view.gap) == (1, 0, None)


@pytest.mark.parametrize("span", [1, 2, 5])
def test_the_frames_lie_in_one_run_of_a_ring_of_twice_the_span(span: int) -> None:
    window, ring = Window(span, 0), np.full(2 * span, -1)
    for index in range(4 * span):
        slot = window.next_slot
        view = window.push(frame_of(index, gap=NEXT_CLIP if index == span + 1 else None))  # the run is whole again wherever the ring stands
        ring[slot] = ring[slot + span] = index
        if view.target is not None:
            assert ring[window.start : window.start + span].tolist() == list(range(index - span + 1, index + 1))


def test_a_gap_is_seen_only_where_there_are_frames_before() -> None:
    window = Window(span=2, target=1)
    views = [window.push(frame) for frame in (frame_of(0, gap=Gap(GapKind.START, "start")), frame_of(1), frame_of(2, gap=NEXT_CLIP))]
    assert [view.gap for view in views] == [None, None, NEXT_CLIP]


def test_another_size_is_a_gap_unless_the_frame_has_one() -> None:
    window = Window(span=2, target=1)
    frames = (frame_of(0), frame_of(1, width=6), frame_of(2, width=9, gap=NEXT_CLIP), frame_of(3, width=9))
    assert [window.push(frame).gap for frame in frames] == [None, Gap(GapKind.SIZE, "size changed to 6x3"), NEXT_CLIP, None]


@pytest.mark.parametrize("span", [1, 3])
def test_after_a_gap_it_takes_a_whole_window_again(span: int) -> None:
    window = Window(span, target=span - 1)
    for index in range(4):
        window.push(frame_of(index))
    views = [window.push(frame_of(index, gap=NEXT_CLIP if index == 4 else None)) for index in range(4, 8)]
    assert [view.target and view.target.index for view in views] == [*[None] * (span - 1), *range(4 + span - 1, 8)]
