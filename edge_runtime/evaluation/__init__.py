"""How good scores are against the truth: labels, protocols, events, AUC.

Training, calibration and reports share it; it needs nothing but NumPy, and OpenCV where masks are read.
"""

from __future__ import annotations

from edge_runtime.evaluation.auc import roc_auc
from edge_runtime.evaluation.events import EventCounts, match_alarms
from edge_runtime.evaluation.labels import check_clips, check_labels, read_labels
from edge_runtime.evaluation.protocols import ClipScores, MemoryModeResult, evaluate

__all__ = [
    "ClipScores",
    "EventCounts",
    "MemoryModeResult",
    "check_clips",
    "check_labels",
    "evaluate",
    "match_alarms",
    "read_labels",
    "roc_auc",
]
