"""Clips of normal footage, plain or with pseudo-anomalies, through a bundle's own detector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.evaluation import MemoryModeResult, evaluate
from edge_runtime.evaluation.scoring import as_clip_scores, open_evaluation_stream, score_frames
from edge_runtime.frames import Frame
from edge_runtime.score import Score

__all__ = ["evaluate_replays", "score_clips"]


def score_clips(bundle: Bundle, precision: str, clips: Iterable[Iterable[Frame]], *, is_learning: bool) -> list[list[Score]]:
    """Scores of every clip, each with the shipped memory to begin with."""
    detector = Detector.open(bundle, precision=precision, device="cpu")  # the same numbers on every machine
    return [score_frames(detector, open_evaluation_stream(detector, is_learning=is_learning), clip) for clip in clips]


def evaluate_replays(replays: Sequence[Sequence[Score]], paper_weight: float) -> MemoryModeResult:
    """Rank the frames of clips that know their truth.

    Args:
        replays: scores of one clip each, none of them empty.
        paper_weight: λ of the protocol `paper`.

    Raises:
        ConfigError: frames of one class only.
    """
    clips = [as_clip_scores(str(i), scores) for i, scores in enumerate(replays)]
    labels = {
        clip.name: np.array([False] * clip.first + [bool(score.truth) for score in scores])
        for clip, scores in zip(clips, replays, strict=True)
    }
    return evaluate(clips, labels, paper_weight)
