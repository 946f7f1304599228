"""Clips of normal footage, plain or with pseudo-anomalies, through a bundle's own detector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.evaluation import MemoryModeResult, evaluate
from edge_runtime.evaluation.scoring import Runs, as_clip_scores, open_evaluation_stream, score_frames
from edge_runtime.frames import Frame
from edge_runtime.score import Score

__all__ = ["evaluate_replays", "score_clips", "without_aftermath"]

AFTERMATH_S = 1.0


def score_clips(bundle: Bundle, precision: str, clips: Iterable[Iterable[Frame]], *, is_learning: bool) -> list[Runs]:
    """Scores of every clip, each with the shipped memory to begin with."""
    with Detector.open(bundle, precision=precision, device="cpu") as detector:  # the same numbers on every machine
        return [score_frames(detector, open_evaluation_stream(detector, is_learning=is_learning), clip) for clip in clips]


def without_aftermath(scores: Iterable[Score]) -> list[Score]:
    """The scores of a replay without those of the second after each pseudo-anomaly.

    It vanishes at once, which is as odd as its coming and no fault of the normal frames that follow: the window still holds it, and so does
    the smoothing, the longer the further a model looks ahead and the more it smooths.
    """
    kept = []
    ended_s = -np.inf
    for score in scores:
        if score.truth:
            ended_s = score.time_s
        if score.truth or score.time_s - ended_s > AFTERMATH_S:
            kept.append(score)
    return kept


def evaluate_replays(replays: Sequence[Runs], paper_weight: float) -> MemoryModeResult:
    """Rank the frames of clips that know their truth, the second after each pseudo-anomaly left out.

    Args:
        replays: scores of one clip each, none of them empty.
        paper_weight: λ of the protocol `paper`.

    Raises:
        ConfigError: frames of one class only.
    """
    judged = [without_aftermath(chain.from_iterable(runs)) for runs in replays]
    clips = [as_clip_scores(str(i), scores) for i, scores in enumerate(judged)]
    labels = {clip.name: _labels(scores) for clip, scores in zip(clips, judged, strict=True)}
    return evaluate(clips, labels, paper_weight)


def _labels(scores: Sequence[Score]) -> np.ndarray:
    """(frames,) bool, from frame 0 to that of the last score."""
    labels = np.zeros(scores[-1].frame + 1, bool)
    labels[[score.frame for score in scores]] = [bool(score.truth) for score in scores]
    return labels
