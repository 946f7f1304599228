"""One set of scored clips, four AUCs: one that compares with the literature, three that don't need the future.

| protocol | what is ranked |
|---|---|
| `paper` | PSNR and query distance, each brought to [0, 1] per clip, which takes the whole clip |
| `pooled_psnr` | PSNR as it is |
| `pooled_local` | local error as it is |
| `causal` | the runtime's own score |

All are micro-averaged: the frames of all clips are ranked together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.errors import ConfigError, ShapeError
from edge_runtime.evaluation.auc import roc_auc

__all__ = ["ClipScores", "MemoryModeResult", "evaluate", "paper_score"]


@dataclass(frozen=True, eq=False)
class ClipScores:
    """What the detector said of the scored frames of one clip.

    Attributes:
        name: the clip's.
        frames: (N,) int, indices in the clip of the scored frames: after its beginning, and after every gap, some are missing.
        psnr_db: (N,) of the prediction.
        query_distance: (N,) to the nearest items; None for a model without memory.
        regular_score, local_error: (N,) in [0, 1].
        score: (N,) the runtime's.
        memory_updated: (N,) bool, True where the frame was learned.

    Raises:
        ShapeError: arrays of different lengths, or a value that is not finite.
    """

    name: str
    frames: np.ndarray
    psnr_db: np.ndarray
    query_distance: np.ndarray | None
    regular_score: np.ndarray
    local_error: np.ndarray
    score: np.ndarray
    memory_updated: np.ndarray

    def __post_init__(self) -> None:
        for quantity in ("frames", "psnr_db", "query_distance", "regular_score", "local_error", "score", "memory_updated"):
            values = getattr(self, quantity)
            if values is not None:
                self._check(quantity, values)

    def _check(self, quantity: str, values: np.ndarray) -> None:
        if values.shape != (self.psnr_db.size,):
            raise ShapeError(
                f"clip {self.name}, {quantity}: expected ({self.psnr_db.size},) like psnr_db, got {values.shape}. "
                "Give every quantity of every scored frame."
            )
        broken = np.flatnonzero(~np.isfinite(values))
        if broken.size:
            raise ShapeError(
                f"clip {self.name}, {quantity}: expected finite numbers, got {values[broken[0]]} "
                f"at frame {self.frames[broken[0]]}. Check the bundle's graphs at this precision."
            )


@dataclass(frozen=True)
class MemoryModeResult:
    """How well a labelled set was scored in one memory mode.

    Attributes:
        paper, pooled_psnr, pooled_local, causal: AUC by protocol, in percent.
        frames, anomalous: scored frames, and those of them that are anomalous.
        updates, updates_anomalous: frames the memory learned, and those of them that are anomalous.
    """

    paper: float
    pooled_psnr: float
    pooled_local: float
    causal: float
    frames: int
    anomalous: int
    updates: int
    updates_anomalous: int


def evaluate(clips: Sequence[ClipScores], labels: Mapping[str, np.ndarray], paper_weight: float) -> MemoryModeResult:
    """Rank the scored frames of all clips against their labels.

    Args:
        clips: what was scored; frames without a score don't count.
        labels: per clip (frames,) bool, from the clip's frame 0.
        paper_weight: λ, the weight of PSNR in the paper's score; the query distance has the rest.

    Raises:
        ConfigError: no clips, a weight outside [0, 1], labels that don't match the frames, only one class of frames.
    """
    if not clips:
        raise ConfigError("evaluation: expected scored clips, got none. Are the clips longer than the model's window?")
    if not 0 <= paper_weight <= 1:
        raise ConfigError(f"paper_weight: expected a number in [0, 1], got {paper_weight}. MNAD has 0.6 for prediction.")
    truth = np.concatenate([_scored_labels(clip, labels) for clip in clips])
    updated = np.concatenate([clip.memory_updated for clip in clips]).astype(bool)
    return MemoryModeResult(
        paper=roc_auc(np.concatenate([paper_score(clip, paper_weight) for clip in clips]), truth),
        pooled_psnr=roc_auc(-np.concatenate([clip.psnr_db for clip in clips]), truth),
        pooled_local=roc_auc(np.concatenate([clip.local_error for clip in clips]), truth),
        causal=roc_auc(np.concatenate([clip.score for clip in clips]), truth),
        frames=truth.size,
        anomalous=int(truth.sum()),
        updates=int(updated.sum()),
        updates_anomalous=int((updated & truth).sum()),
    )


def _scored_labels(clip: ClipScores, labels: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N,) bool."""
    end = int(clip.frames.max(initial=-1)) + 1
    count = len(labels[clip.name]) if clip.name in labels else 0
    if count < end:
        raise ConfigError(
            f"labels don't match the frames: clip {clip.name}: expected at least {end} labels, got {count}. "
            "Label every frame of every clip, from frame 0."
        )
    scored: np.ndarray = labels[clip.name][clip.frames]
    return scored


def paper_score(clip: ClipScores, weight: float) -> np.ndarray:
    """(N,) the paper's anomaly score in [0, 1]; without memory only its PSNR part.

    Args:
        weight: λ, of the PSNR; the query distance has the rest.
    """
    prediction_part = 1 - _min_max(clip.psnr_db)
    if clip.query_distance is None:
        return prediction_part
    return weight * prediction_part + (1 - weight) * _min_max(clip.query_distance)


def _min_max(values: np.ndarray) -> np.ndarray:
    """(N,) brought to [0, 1]; zeros where all values are equal or there are none."""
    if values.size == 0 or values.max() == values.min():
        return np.zeros(values.shape)
    scaled: np.ndarray = (values - values.min()) / (values.max() - values.min())
    return scaled
