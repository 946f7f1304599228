"""Every clip's score against its labels, in one picture without a single frame of the data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_runtime.files import replacing
from edge_runtime.optional.plotting import figure_class
from edge_runtime.report.accuracy import AccuracyReport

__all__ = ["draw_scores"]

COLUMNS = 4
SCORE, LABEL, THRESHOLD = "#1f3b57", "#e5484d", "#8a8f98"


def draw_scores(report: AccuracyReport, path: Path) -> None:
    """Draw the causal score of every clip, memory updating; labelled frames are shaded.

    Raises:
        BackendUnavailable: matplotlib is not installed.
        SinkError: the picture cannot be written.
    """
    mode = report.memory["updating"]
    rows = -(-len(mode.scores) // COLUMNS)
    figure = figure_class()(figsize=(12, 0.6 + 1.7 * rows), dpi=100, layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True).ravel()
    for axis in axes[len(mode.scores) :]:
        axis.set_visible(False)
    for axis, (name, scores) in zip(axes, mode.scores.items(), strict=False):
        labels = report.labels[name]
        values = np.full(len(labels), np.nan)  # nothing is drawn across a gap
        values[[score.frame for score in scores]] = [score.score for score in scores]
        axis.fill_between(
            np.arange(len(labels)), 0, 1, where=labels, step="mid", transform=axis.get_xaxis_transform(), color=LABEL, alpha=0.18
        )
        axis.axhline(report.threshold, color=THRESHOLD, linestyle="--", linewidth=1)
        axis.plot(values, color=SCORE, linewidth=1, marker=".", markersize=1.5)  # a point is seen between two gaps, too
        axis.set_title(f"clip {name}", fontsize=9)
        axis.tick_params(labelsize=8)
    title = f"{report.bundle}: score by frame, memory updating; shaded: labelled anomalous; dashed: threshold"
    figure.suptitle(f"{title} (causal AUC {mode.result.causal:.1f} %)", fontsize=10)
    with replacing(path) as beside:
        figure.savefig(beside)
