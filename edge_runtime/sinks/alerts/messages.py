"""What the outside is told of events: the life of an alarm, and everything else."""

from __future__ import annotations

from typing import Any

from edge_runtime.score import Event, EventKind, Score
from edge_runtime.sinks.tables.rows import event_row

__all__ = ["OpenAlarm", "event_message"]

_TYPES = {EventKind.ALARM_START: "new", EventKind.ALARM_END: "end"}
_SHORTEST_PAUSE_S = 1.0  # between two updates


def event_message(event: Event) -> dict[str, Any]:
    """An event with its `type`: `new` and `end` of an alarm, `event` for all others."""
    return {"type": _TYPES.get(event.event, "event"), **event_row(event)}


class OpenAlarm:
    """An alarm between its start and its end: decides when there is news of it.

    Args:
        start: its `alarm_start`.
        update_s: seconds of stream time after which there is news even where the score rises no more.
    """

    def __init__(self, start: Event, update_s: float) -> None:
        self._start = start
        self._update_s = update_s
        self._told_s = start.time_s
        self._told_peak = self._peak = float(start.detail.get("score", 0.0))

    def see(self, score: Score) -> None:
        """Take the next frame's score."""
        self._peak = max(self._peak, score.score)

    def is_update_due(self, score: Score) -> bool:
        """Whether at this frame the peak has risen a second after the last news, or `update_s` have passed."""
        passed_s = score.time_s - self._told_s
        return passed_s >= self._update_s or (passed_s >= _SHORTEST_PAUSE_S and self._peak > self._told_peak)

    def update(self, score: Score) -> dict[str, Any]:
        """The alarm as it is at this frame."""
        self._told_s, self._told_peak = score.time_s, self._peak
        return {
            "type": "update",
            "stream": score.stream,
            "frame": score.frame,
            "time_s": score.time_s,
            "wall_time_s": score.wall_time_s,
            "alarm": self._start.detail.get("alarm", ""),
            "score": score.score,
            "threshold": score.threshold,
            "peak_score": self._peak,
            "duration_s": score.time_s - self._start.time_s,
        }
