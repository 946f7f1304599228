"""Events instead of frames: was somebody called for each anomaly, and how often for nothing?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.errors import ShapeError

__all__ = ["EventCounts", "match_alarms"]


@dataclass(frozen=True)
class EventCounts:
    """How alarms and anomalies met.

    Attributes:
        events: anomalies, each a run of anomalous frames.
        hits, missed: anomalies with and without an alarm.
        false_alarms: alarms without an anomaly.
    """

    events: int
    hits: int
    missed: int
    false_alarms: int


def match_alarms(alarms: Sequence[tuple[float, float]], truth: np.ndarray, times_s: np.ndarray, slack_s: float = 1.0) -> EventCounts:
    """Hold the alarms of one clip against its truth.

    One alarm over two anomalies hits both; two alarms in one anomaly are one hit.

    Args:
        alarms: (start_s, end_s) of each, both included.
        truth: (N,) bool, True where a frame is anomalous.
        times_s: (N,) seconds, rising.
        slack_s: for how long after an anomaly an alarm still belongs to it: a causal score lags.

    Raises:
        ShapeError: the arrays are not (N,) and (N,).
    """
    if truth.ndim != 1 or truth.shape != times_s.shape:
        raise ShapeError(f"truth and times_s: expected (N,) and (N,), got {truth.shape} and {times_s.shape}. Give one time per label.")
    events = [(start_s, end_s + slack_s) for start_s, end_s in _runs(truth, times_s)]
    hits = sum(any(_overlap(event, alarm) for alarm in alarms) for event in events)
    false_alarms = sum(not any(_overlap(event, alarm) for event in events) for alarm in alarms)
    return EventCounts(events=len(events), hits=hits, missed=len(events) - hits, false_alarms=false_alarms)


def _runs(truth: np.ndarray, times_s: np.ndarray) -> list[tuple[float, float]]:
    """(start_s, end_s) of each run of True."""
    edges = np.diff(np.concatenate([[False], truth, [False]]).astype(np.int8))  # (N + 1,) 1 before a run, -1 after it
    firsts, lasts = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return list(zip(times_s[firsts].tolist(), times_s[lasts].tolist(), strict=True))


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
