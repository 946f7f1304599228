from __future__ import annotations

import numpy as np

from edge_runtime.errors import ConfigError, ShapeError
from edge_runtime.run.alarms import Alarm, AlarmTracker, count_alarms, find_alarms
from edge_runtime.score import Event, Score
from tests.kit.scores import make_score
from tests.kit.wording import raises


def test_an_alarm_starts_at_the_first_frame_that_reaches_the_threshold() -> None:
    events = _track([0, 1, 3, 4], threshold=3)
    assert [(event.event, event.frame, event.time_s) for event in events] == [("alarm_start", 2, 2.0)]
    assert events[0].detail == {"alarm": "gate-1002.000", "score": 3.0, "threshold": 3}
    assert (events[0].stream, events[0].wall_time_s) == ("gate", 1002.0)


def test_it_ends_once_the_score_was_below_for_the_hold_and_its_end_is_the_last_frame_at_the_threshold() -> None:
    events = _track([3, 5, 3, 0, 0, 0], threshold=3, hold_s=2)
    assert [(event.event, event.time_s) for event in events] == [("alarm_start", 0.0), ("alarm_end", 4.0)]
    assert events[1].detail == {"alarm": "gate-1000.000", "started_s": 0.0, "duration_s": 2.0, "peak_score": 5.0}


def test_flicker_shorter_than_the_hold_is_one_alarm_and_longer_is_two() -> None:
    scores = np.array([3.0, 0, 3, 0, 0, 3])
    assert count_alarms(scores, np.arange(6.0), threshold=3, hold_s=3) == 1
    assert count_alarms(scores, np.arange(6.0), threshold=3, hold_s=2) == 2
    assert count_alarms(scores, np.arange(6.0), threshold=3, hold_s=1) == 3


def test_a_hold_of_zero_ends_with_the_first_frame_below() -> None:
    assert find_alarms(np.array([3.0, 0, 3]), np.arange(3.0), 3, hold_s=0) == [
        Alarm(0.0, 0.0, 3.0, is_open=False),
        Alarm(2.0, 2.0, 3.0, is_open=False),
    ]


def test_times_that_are_not_exact_in_floats_end_an_alarm_on_time() -> None:
    tracker = AlarmTracker(3, hold_s=0.2)
    tracker.update(_score(0, 3, time_s=0.1))
    event = tracker.update(_score(1, 0, time_s=0.3))  # 0.3 - 0.1 < 0.2 in floats
    assert event is not None and event.event == "alarm_end"


def test_a_gap_ends_an_open_alarm_at_the_last_frame_before_it() -> None:
    tracker = AlarmTracker(3)
    tracker.update(_score(0, 4))
    tracker.update(_score(1, 0))
    event = tracker.finish()
    assert event is not None
    assert (event.event, event.frame) == ("alarm_end", 1)
    assert event.detail == {"alarm": "gate-1000.000", "started_s": 0.0, "duration_s": 0.0, "peak_score": 4.0}


def test_after_a_gap_a_new_alarm_starts() -> None:
    tracker = AlarmTracker(3)
    tracker.update(_score(0, 4))
    tracker.finish()
    event = tracker.update(_score(1, 4))
    assert event is not None and event.event == "alarm_start"


def test_finishing_without_an_open_alarm_says_nothing() -> None:
    tracker = AlarmTracker(3)
    assert tracker.finish() is None
    tracker.update(_score(0, 0))
    assert tracker.finish() is None


def test_counting_finds_the_alarms_the_tracker_raises() -> None:
    rng = np.random.default_rng(3)
    scores = rng.exponential(1.0, 500)
    for threshold in (0.5, 1.0, 2.0, 4.0, 20.0):
        raised = [event for event in _track(scores.tolist(), threshold) if event.event == "alarm_start"]
        found = find_alarms(scores, np.arange(500.0), threshold)
        assert [event.time_s for event in raised] == [alarm.started_s for alarm in found]
        assert len(found) == count_alarms(scores, np.arange(500.0), threshold)


def test_what_is_raised_does_not_depend_on_what_comes_later() -> None:
    scores = np.random.default_rng(5).exponential(1.0, 60).tolist()
    whole = _track(scores, 1.5)
    for end in range(60):
        assert _track(scores[:end], 1.5) == [event for event in whole if event.frame < end]


def test_no_frames_have_no_alarms() -> None:
    assert count_alarms(np.empty(0), np.empty(0), 3) == 0


def test_wrong_settings_are_refused() -> None:
    with raises(ConfigError, "threshold … nan … --threshold 3"):
        AlarmTracker(float("nan"))
    with raises(ConfigError, "hold_s … -1"):
        AlarmTracker(3, hold_s=-1)


def test_wrong_series_are_refused() -> None:
    with raises(ShapeError, "times_s … (3,) … (2,)"):
        count_alarms(np.zeros(3), np.zeros(2), 3)
    with raises(ShapeError, "times_s … NaNs"):
        count_alarms(np.array([0, np.nan]), np.arange(2.0), 3)
    with raises(ShapeError, "times_s … rising"):
        count_alarms(np.zeros(3), np.array([0.0, 1, 0]), 3)


def _track(scores: list[float], threshold: float, hold_s: float = 2.0) -> list[Event]:
    """The events while frames arrive, one per second."""
    tracker = AlarmTracker(threshold, hold_s)
    events = [tracker.update(_score(frame, score)) for frame, score in enumerate(scores)]
    return [event for event in events if event is not None]


def _score(frame: int, score: float, time_s: float | None = None) -> Score:
    return make_score(frame, float(score), time_s=float(frame) if time_s is None else time_s, wall_time_s=1000.0 + frame)
