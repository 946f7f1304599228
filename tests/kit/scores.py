"""Scores and steps as a detector might give them, for tests of what takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_runtime.frames import Frame, Gap
from edge_runtime.score import MemoryState, Score, Step

__all__ = ["make_score", "make_step"]

IMAGE = np.zeros((8, 8, 3), np.uint8)


def make_score(frame: int = 0, score: float = 1.0, *, query_distance: float | None = 0.02, **changes: Any) -> Score:
    """Of a frame of a camera with 25 frames per second, and of a model with one pool; without a distance, of one without memory."""
    facts: dict[str, Any] = {
        "stream": "gate",
        "frame": frame,
        "time_s": frame / 25,
        "wall_time_s": 1e9 + frame / 25,
        "score": score,
        "threshold": 3.0,
        "is_anomalous": score >= 3,
        "psnr_db": 27.5,
        "local_error": 0.01,
        "regular_score": 0.03,
        "distances": {} if query_distance is None else {"memory": query_distance},
        "memory": None if query_distance is None else MemoryState(is_updated=True, is_frozen=False, drift=0.5),
    }
    return Score(**(facts | changes))


def make_step(score: Score | None, frame: Frame | None = None, gap: Gap | None = None) -> Step:
    """Of a frame that is its own target; a small black one where there is none."""
    if frame is None:
        index = 0 if score is None else score.frame
        frame = Frame(IMAGE, index, index / 25, 1e9 + index / 25, "gate")
    return Step(frame, gap, None if score is None else frame, score)
