from __future__ import annotations

import numpy as np

from edge_runtime.errors import ShapeError
from edge_runtime.evaluation import EventCounts, match_alarms
from tests.kit.wording import raises

TIMES_S = np.arange(20.0)
TRUTH = np.isin(TIMES_S, [5, 6, 7, 15])  # two events: 5 to 7 s and 15 s


def test_an_alarm_within_an_event_is_a_hit_and_the_other_event_is_missed() -> None:
    assert match_alarms([(6, 6)], TRUTH, TIMES_S) == EventCounts(events=2, hits=1, missed=1, false_alarms=0)


def test_an_alarm_away_from_events_is_false() -> None:
    assert match_alarms([(11, 12)], TRUTH, TIMES_S) == EventCounts(events=2, hits=0, missed=2, false_alarms=1)


def test_an_alarm_shortly_after_an_event_belongs_to_it() -> None:
    assert match_alarms([(8, 9)], TRUTH, TIMES_S, slack_s=1).hits == 1
    assert match_alarms([(8, 9)], TRUTH, TIMES_S, slack_s=0.5) == EventCounts(2, 0, 2, 1)


def test_an_alarm_that_is_over_before_an_event_is_false() -> None:
    assert match_alarms([(3, 4)], TRUTH, TIMES_S) == EventCounts(2, 0, 2, 1)


def test_two_alarms_in_one_event_are_one_hit_and_none_is_false() -> None:
    assert match_alarms([(5, 5), (7, 7)], TRUTH, TIMES_S) == EventCounts(2, 1, 1, 0)


def test_one_alarm_over_two_events_hits_both() -> None:
    assert match_alarms([(4, 16)], TRUTH, TIMES_S) == EventCounts(2, 2, 0, 0)


def test_events_at_both_ends_of_a_clip_count() -> None:
    truth = np.array([True, False, False, True])
    assert match_alarms([(0, 0)], truth, np.arange(4.0), slack_s=0) == EventCounts(2, 1, 1, 0)


def test_without_events_every_alarm_is_false() -> None:
    assert match_alarms([(1, 2), (4, 5)], np.zeros(20, bool), TIMES_S) == EventCounts(0, 0, 0, 2)


def test_without_alarms_every_event_is_missed() -> None:
    assert match_alarms([], TRUTH, TIMES_S) == EventCounts(2, 0, 2, 0)


def test_no_frames_have_no_events() -> None:
    assert match_alarms([], np.empty(0, bool), np.empty(0)) == EventCounts(0, 0, 0, 0)


def test_arrays_of_different_lengths_are_refused() -> None:
    with raises(ShapeError, "(20,) … (3,)"):
        match_alarms([], TRUTH, np.zeros(3))
