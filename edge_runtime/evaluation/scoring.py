"""Clips through the runtime's own detector: calibration and reports see what a camera would."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing

import numpy as np

from edge_runtime.detector import Detector
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation.protocols import ClipScores
from edge_runtime.frames import Frame
from edge_runtime.score import Score
from edge_runtime.sources.read_ahead import read_ahead
from edge_runtime.stream import Stream

__all__ = ["Runs", "as_clip_scores", "open_evaluation_stream", "score_frames", "warn_of_short_clips"]

Runs = list[list[Score]]
"""The scores of one clip, cut where it has a gap, as smoothing and alarms are; none of the runs is empty."""

log = logging.getLogger(__name__)


def open_evaluation_stream(detector: Detector, *, is_learning: bool) -> Stream:
    """A stream with the shipped memory, updating or frozen."""
    stream = detector.open_stream("evaluation")
    if not is_learning:
        stream.bank.freeze()
    return stream


def score_frames(detector: Detector, stream: Stream, frames: Iterable[Frame]) -> Runs:
    """The scores of a clip; its first frame has a gap, so nothing of the clip before is left in the window.

    Returns:
        a run for each stretch without a gap that holds a window; none of a clip that is shorter.
    """
    runs: Runs = [[]]
    with closing(read_ahead(frames)) as coming:
        for frame in coming:
            [step] = detector.step([(stream, frame)])
            if step.gap is not None:
                runs.append([])
            if step.score is not None:
                runs[-1].append(step.score)
    return [run for run in runs if run]


def warn_of_short_clips(names: Sequence[str], clips: int, span: int) -> None:
    """Say in the log which clips are left out because no window fits into them; nothing where there is none.

    Args:
        names: of these clips.
        clips: how many there are in all.
        span: frames of a window.
    """
    if names:
        log.warning(
            "%d of %d clips have no %d frames in a row, which one score needs, and are left out; the first: %s",
            *(len(names), clips, span, names[0]),
        )


def as_clip_scores(name: str, scores: Sequence[Score]) -> ClipScores:
    """The scores of one clip as arrays.

    Raises:
        ConfigError: there is none: the clip is shorter than a window.
    """
    if not scores:
        raise ConfigError(f"clip {name}: expected a whole window of frames, the clip is shorter. Leave it out.")
    has_memory = scores[0].memory is not None
    return ClipScores(
        name=name,
        frames=np.array([score.frame for score in scores]),
        psnr_db=np.array([score.psnr_db for score in scores]),
        query_distance=np.array([score.query_distance for score in scores], float) if has_memory else None,
        regular_score=np.array([score.regular_score for score in scores]),
        local_error=np.array([score.local_error for score in scores]),
        score=np.array([score.score for score in scores]),
        memory_updated=np.array([score.memory_updated for score in scores]),
    )
