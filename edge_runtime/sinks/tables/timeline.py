"""timeline.png: a whole run at a glance, drawn from its scores.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.files import replacing
from edge_runtime.optional.plotting import figure_class
from edge_runtime.score import EventKind
from edge_runtime.sinks.tables.jsonl import read_scores

__all__ = ["draw_timeline"]

_MOST_COLUMNS = 4000  # several per pixel of the picture
_TIME_S, _SCORE, _THRESHOLD, _ALARM, _TRUTH, _GAP, _UPDATED = range(7)  # what a column holds

_SCORE_COLOUR = "#1f3b57"
_THRESHOLD_COLOUR = "#8a8f98"
_ALARM_COLOUR = "#e5484d"
_TRUTH_COLOUR = "#12a5b8"
_GAP_COLOUR = "#6b7280"


def draw_timeline(scores_jsonl: Path, png: Path) -> None:
    """Draw score, threshold, alarms, truth, gaps and memory updates over time; one row of axes per stream.

    The file is read as a stream: a long recording needs no more memory than a short one.

    Raises:
        BackendUnavailable: matplotlib is not installed.
        SinkError: the scores cannot be read, or the picture cannot be written.
    """
    recordings = _recordings(scores_jsonl)
    names = sorted(recordings)
    figure = figure_class()(figsize=(12, 4 * max(1, len(names))), dpi=100, layout="constrained")
    if not names:
        figure.text(0.5, 0.5, "no frame was scored", ha="center", va="center", color=_GAP_COLOUR)
        rows: Sequence[Any] = []
    else:
        rows = figure.subplots(2 * len(names), 1, squeeze=False, height_ratios=[14, 1] * len(names))[:, 0]
    for position, name in enumerate(names):
        _draw_stream(rows[2 * position], rows[2 * position + 1], name, recordings[name])
    with replacing(Path(png)) as beside:
        figure.savefig(beside)


def _recordings(scores_jsonl: Path) -> dict[str, _Recording]:
    """What was scored, by stream."""
    recordings: dict[str, _Recording] = {}
    for row in read_scores(scores_jsonl):
        recording = recordings.setdefault(row["stream"], _Recording())
        if "event" in row:
            recording.add_event(row)
        else:
            recording.add_score(row)
    return {name: recording for name, recording in recordings.items() if len(recording.columns)}


class _Recording:
    """The scored frames of one stream in at most 4,000 columns.

    When the columns are full, neighbours are merged, and from then on a column takes twice as many frames. A column
    keeps the largest values of its frames, so that no peak is lost, and the mean of the updates.
    """

    def __init__(self) -> None:
        self.alarms = 0
        self._columns = np.zeros((_MOST_COLUMNS, 7))
        self._count = 0  # columns in use; the last one may still take frames
        self._frames_per_column = 1
        self._frames_in_last = 1
        self._last_frame = -1
        self._is_alarm = False
        self._is_after_gap = False

    @property
    def columns(self) -> np.ndarray:
        """(n, 7): time_s, score, threshold, alarm, truth, gap, updated."""
        return self._columns[: self._count]

    def add_score(self, row: dict[str, Any]) -> None:
        """Take a scored frame in."""
        numbers = (row["time_s"], row["score"], row["threshold"])
        flags = (self._is_alarm, bool(row.get("truth")), self._is_after_gap, row["memory_updated"])
        self._add(np.array([*numbers, *flags], float))
        self._last_frame, self._is_after_gap = row["frame"], False

    def add_event(self, row: dict[str, Any]) -> None:
        """Take an event in; other kinds than alarms and gaps leave no mark."""
        if row["event"] == EventKind.ALARM_START:
            self.alarms += 1
            self._is_alarm = True
            if row["frame"] == self._last_frame:  # its score may stand before or after the event
                self._columns[self._count - 1, _ALARM] = 1
        elif row["event"] == EventKind.ALARM_END:
            self._is_alarm = False
        elif row["event"] in (EventKind.GAP, EventKind.RECONNECT):
            self._is_after_gap = self._count > 0

    def _add(self, values: np.ndarray) -> None:
        if self._count and self._frames_in_last < self._frames_per_column:
            share = self._frames_in_last / (self._frames_in_last + 1)
            self._columns[self._count - 1] = _merged(self._columns[self._count - 1], values, share)
            self._frames_in_last += 1
            return
        if self._count == _MOST_COLUMNS:
            self._columns[: _MOST_COLUMNS // 2] = _merged(self._columns[::2], self._columns[1::2], 0.5)
            self._count //= 2
            self._frames_per_column *= 2
        self._columns[self._count] = values
        self._count += 1
        self._frames_in_last = 1


def _merged(first: np.ndarray, second: np.ndarray, first_share: float) -> np.ndarray:
    """Two columns, or (n, 7) of them, as one; `first_share` is the first one's part of the frames."""
    merged: np.ndarray = np.fmax(first, second)
    merged[..., _UPDATED] = first_share * first[..., _UPDATED] + (1 - first_share) * second[..., _UPDATED]
    return merged


def _draw_stream(axes: Any, updates_axes: Any, name: str, recording: _Recording) -> None:
    columns = recording.columns
    duration_s = float(columns[-1, _TIME_S] - columns[0, _TIME_S])
    unit_s, unit = _time_unit(duration_s)
    edges = _edges(columns[:, _TIME_S] / unit_s)  # (n + 1,)
    _draw_marks(axes, edges, columns)
    _draw_curve(axes, columns, unit_s)
    _draw_updates(updates_axes, edges, columns)
    alarms = "1 alarm" if recording.alarms == 1 else f"{recording.alarms} alarms"
    axes.set_title(f"{name}: {alarms} in {duration_s / unit_s:.1f} {unit}", loc="left", fontsize=11)
    axes.set_ylabel("score (−log₁₀ probability)")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=6, frameon=False, fontsize=9, borderaxespad=0.2)
    updates_axes.set_xlabel(f"time ({unit})")
    for each in (axes, updates_axes):
        each.set_xlim(edges[0], edges[-1])
        each.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelbottom=False)


def _draw_marks(axes: Any, edges: np.ndarray, columns: np.ndarray) -> None:
    """Alarms over the full height, truth as a band along the top, gaps as dotted lines."""
    height = axes.get_xaxis_transform()  # y from 0 to 1 whatever the scores
    starts = edges[:-1]
    for flag, bottom, colour, opacity, label in (
        (_ALARM, 0.0, _ALARM_COLOUR, 0.22, "alarm"),
        (_TRUTH, 0.96, _TRUTH_COLOUR, 1.0, "truth: anomalous"),
    ):
        spans = _spans(edges, columns[:, flag] > 0)
        if spans:
            style = {"facecolor": colour, "edgecolor": colour, "linewidth": 0.8, "alpha": opacity}
            axes.broken_barh(spans, (bottom, 1 - bottom), transform=height, label=label, **style)
    gaps = starts[columns[:, _GAP] > 0]
    if len(gaps):
        axes.vlines(gaps, 0, 1, colors=_GAP_COLOUR, linestyles=":", linewidth=1.2, transform=height, label="gap")


def _draw_curve(axes: Any, columns: np.ndarray, unit_s: float) -> None:
    """Score and threshold; the score's line is broken at gaps."""
    gaps = np.flatnonzero(columns[:, _GAP])
    times = np.insert(columns[:, _TIME_S] / unit_s, gaps, np.nan)
    axes.plot(times, np.insert(columns[:, _SCORE], gaps, np.nan), color=_SCORE_COLOUR, linewidth=1.1, label="score")
    axes.plot(
        columns[:, _TIME_S] / unit_s,
        columns[:, _THRESHOLD],
        color=_THRESHOLD_COLOUR,
        linewidth=1.2,
        linestyle="--",
        label="threshold",
    )
    axes.set_ylim(0, 1.12 * max(np.nanmax(columns[:, _SCORE : _THRESHOLD + 1], initial=0.0), 0.1))


def _draw_updates(axes: Any, edges: np.ndarray, columns: np.ndarray) -> None:
    """A thin strip, the darker the more of the frames were learned."""
    axes.pcolormesh(edges, [0, 1], columns[None, :, _UPDATED], cmap="Greens", vmin=0, vmax=1.4)
    axes.set_yticks([])
    axes.set_ylabel("memory\nupdated", rotation=0, ha="right", va="center", fontsize=8)


def _spans(edges: np.ndarray, flags: np.ndarray) -> list[tuple[float, float]]:
    """(start, length) of every run of set flags; edges: (n + 1,), flags: (n,) bool."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(edges[start], edges[end] - edges[start]) for start, end in zip(changes[::2], changes[1::2], strict=True)]


def _edges(times: np.ndarray) -> np.ndarray:
    """Where columns meet: half-way between their times; (n,) → (n + 1,)."""
    if len(times) == 1:
        return np.array([times[0] - 0.5, times[0] + 0.5])
    middles = (times[:-1] + times[1:]) / 2
    return np.concatenate([[2 * times[0] - middles[0]], middles, [2 * times[-1] - middles[-1]]])


def _time_unit(duration_s: float) -> tuple[float, str]:
    """Seconds in the unit that suits a recording of this length, and its name."""
    if duration_s < 600:
        return 1.0, "s"
    return (60.0, "min") if duration_s < 4 * 3600 else (3600.0, "h")
