from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import chain

import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.evaluation.scoring import Runs, as_clip_scores, open_evaluation_stream, score_frames, warn_of_short_clips
from edge_runtime.frames import Frame
from tests.kit.drawn_footage import draw
from tests.kit.wording import missing


def clip(*stretches: int) -> Iterator[Frame]:
    """A clip with a gap between stretches of so many frames."""
    starts = {sum(stretches[:i]) for i in range(len(stretches))}
    for i, image in enumerate(draw(sum(stretches))):
        yield Frame(image, i, i / 10, 0.0, "gate", "a pause" if i in starts else None)


def runs_of(bundle: Bundle, *stretches: int) -> Runs:
    with Detector.open(bundle, device="cpu") as detector:
        return score_frames(detector, open_evaluation_stream(detector, is_learning=True), clip(*stretches))


def test_a_gap_begins_a_new_run_and_what_holds_no_window_gives_none(toy: Callable[[str], Bundle]) -> None:
    runs = runs_of(toy("one_pool"), 7, 4, 6)  # one score takes five frames in a row
    assert [[score.frame for score in run] for run in runs] == [[4, 5, 6], [15, 16]]
    assert as_clip_scores("gate", list(chain.from_iterable(runs))).frames.tolist() == [4, 5, 6, 15, 16]
    looking_ahead = runs_of(toy("two_banks"), 5, 4)  # scores the third frame of four
    assert [[score.frame for score in run] for run in looking_ahead] == [[2, 3], [7]]


def test_a_clip_without_a_gap_is_one_run_and_a_short_one_none(toy: Callable[[str], Bundle]) -> None:
    bundle = toy("one_pool")
    assert [[score.frame for score in run] for run in runs_of(bundle, 6)] == [[4, 5]]
    assert runs_of(bundle, 4) == []


def test_clips_of_one_stream_do_not_touch(toy: Callable[[str], Bundle]) -> None:
    with Detector.open(toy("one_pool"), device="cpu") as detector:
        stream = open_evaluation_stream(detector, is_learning=True)
        clips = [score_frames(detector, stream, clip(6)) for _ in range(2)]
    assert [[[score.frame for score in run] for run in runs] for runs in clips] == [[[4, 5]], [[4, 5]]]


def test_clips_left_out_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_short_clips([], 3, 5)
        warn_of_short_clips(["gate", "yard"], 3, 5)
    [said] = caplog.messages
    assert not missing(said, "2 of 3 clips … 5 frames … gate")
