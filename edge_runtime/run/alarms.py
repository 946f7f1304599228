"""From scores to alarms: what an operator is called for.

A score that flickers around its threshold is one alarm, not twenty: an alarm stays open until the score has been below
the threshold for a while. Calibration counts alarms with the same code that raises them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edge_runtime.errors import ConfigError, ShapeError
from edge_runtime.score import Event, EventKind, Score

__all__ = ["Alarm", "AlarmTracker", "count_alarms", "find_alarms"]

CLOCK_SLACK_S = 1e-6  # times are floats: 0.3 - 0.1 is less than 0.2


class AlarmTracker:
    """Turns the scores of one stream into `alarm_start` and `alarm_end`, one frame at a time.

    Both events of an alarm carry its name, `alarm`: the stream and the wall time at which it began.

    Args:
        threshold: the score from which on a frame is anomalous.
        hold_s: how long the score must stay below the threshold before an alarm ends.

    Raises:
        ConfigError: a threshold that is not a number, a negative `hold_s`.
    """

    def __init__(self, threshold: float, hold_s: float = 2.0) -> None:
        self._state = _AlarmState(threshold, hold_s)
        self._latest: Score | None = None
        self._name = ""

    def update(self, score: Score) -> Event | None:
        """Take the next frame's score; what begins or ends with it, if anything does."""
        self._latest = score
        alarm = self._state.step(score.time_s, score.score)
        return None if alarm is None else self._event(score, alarm)

    def finish(self) -> Event | None:
        """End an open alarm: the stream has a gap or is over. The event is that of the last frame before."""
        alarm = self._state.finish()
        return None if alarm is None or self._latest is None else self._event(self._latest, alarm)

    def _event(self, at: Score, alarm: Alarm) -> Event:
        kind = EventKind.ALARM_START if alarm.is_open else EventKind.ALARM_END
        detail = _start_detail(alarm, self._state.threshold) if alarm.is_open else _end_detail(alarm)
        if alarm.is_open:
            self._name = f"{at.stream}-{at.wall_time_s:.3f}"
        return Event(kind, at.stream, at.frame, at.time_s, at.wall_time_s, {"alarm": self._name, **detail})


def count_alarms(scores: np.ndarray, times_s: np.ndarray, threshold: float, hold_s: float = 2.0) -> int:
    """How many alarms an `AlarmTracker` raises on these scores; arguments as for `find_alarms`."""
    return len(find_alarms(scores, times_s, threshold, hold_s))


def find_alarms(scores: np.ndarray, times_s: np.ndarray, threshold: float, hold_s: float = 2.0) -> list[Alarm]:
    """The alarms an `AlarmTracker` raises on a stretch of footage without gaps, all ended.

    Args:
        scores: (N,) of consecutive frames of one clip.
        times_s: (N,) seconds, rising.
        threshold, hold_s: as for `AlarmTracker`.

    Raises:
        ShapeError: the arrays are not (N,) and (N,), hold NaNs, or time steps back.
        ConfigError: as for `AlarmTracker`.
    """
    _check_series(scores, times_s)
    state = _AlarmState(threshold, hold_s)
    steps = [state.step(time_s, score) for time_s, score in zip(times_s.tolist(), scores.tolist(), strict=True)]
    return [alarm for alarm in [*steps, state.finish()] if alarm is not None and not alarm.is_open]


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes:
        started_s, ended_s: times of its first and, so far, last frame at or above the threshold.
        peak_score: its largest score so far.
        is_open: it may still go on.
    """

    started_s: float
    ended_s: float
    peak_score: float
    is_open: bool = True


class _AlarmState:
    """The open alarm, if there is one: all that has to be known about the past."""

    def __init__(self, threshold: float, hold_s: float) -> None:
        if math.isnan(threshold):
            raise ConfigError("threshold: expected a number, got nan. Calibrate the bundle again, or use --threshold 3")
        if not (math.isfinite(hold_s) and hold_s >= 0):
            raise ConfigError(f"hold_s: expected seconds, 0 or more, got {hold_s}. Two seconds suit most cameras.")
        self.threshold = threshold
        self._hold_s = hold_s
        self._open: Alarm | None = None

    def step(self, time_s: float, score: float) -> Alarm | None:
        """Take the next frame; the alarm that begins (open) or ends (not open) with it, if one does."""
        if score >= self.threshold:
            return self._go_on(time_s, score)
        if self._open is not None and time_s - self._open.ended_s >= self._hold_s - CLOCK_SLACK_S:
            return self.finish()
        return None

    def finish(self) -> Alarm | None:
        """End the open alarm."""
        ended = None if self._open is None else replace(self._open, is_open=False)
        self._open = None
        return ended

    def _go_on(self, time_s: float, score: float) -> Alarm | None:
        if self._open is None:
            self._open = Alarm(time_s, time_s, score)
            return self._open
        self._open = replace(self._open, ended_s=time_s, peak_score=max(self._open.peak_score, score))
        return None


def _start_detail(alarm: Alarm, threshold: float) -> dict[str, float | int | str]:
    return {"score": alarm.peak_score, "threshold": threshold}


def _end_detail(alarm: Alarm) -> dict[str, float | int | str]:
    return {
        "started_s": alarm.started_s,
        "duration_s": alarm.ended_s - alarm.started_s,
        "peak_score": alarm.peak_score,
    }


def _check_series(scores: np.ndarray, times_s: np.ndarray) -> None:
    if scores.ndim != 1 or scores.shape != times_s.shape:
        raise ShapeError(f"scores and times_s: expected (N,) and (N,), got {scores.shape} and {times_s.shape}. Give one time per score.")
    if np.isnan(scores).any() or np.isnan(times_s).any():
        raise ShapeError("scores and times_s: expected numbers, got NaNs. Leave out frames without a score.")
    if (np.diff(times_s) < 0).any():
        raise ShapeError("times_s: expected rising times, got a step back. Give one clip at a time.")
