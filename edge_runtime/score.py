"""What the detector says of one frame, and what happens to a stream in between."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from edge_runtime.frames import Frame, Gap

__all__ = ["Event", "EventKind", "Latency", "MemoryState", "Score", "Step", "mean_distance"]


@dataclass(frozen=True)
class Latency:
    """Where the time of one frame went, in milliseconds; `total` is from before the grab to after the sinks.

    The sinks write this very record, so `sinks` is what they took for the frame before.
    """

    grab: float = 0.0
    preprocess: float = 0.0
    encoder: float = 0.0
    memory: float = 0.0
    decoder: float = 0.0
    sinks: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class MemoryState:
    """A stream's memory after a frame.

    Attributes:
        is_updated: this frame was learned; the effect begins with the next one.
        is_frozen: nothing is learned any more.
        drift: of the items from their shipped selves: 1 − the smallest cosine.
    """

    is_updated: bool
    is_frozen: bool
    drift: float


@dataclass(frozen=True)
class Score:
    """One scored frame.

    Attributes:
        stream, frame, time_s, wall_time_s: of the target frame.
        score: −log10 of the probability that normal footage of this camera looks at least as odd, ≥ 0, unbounded.
        threshold: the score from which on a frame is anomalous.
        is_anomalous: score ≥ threshold.
        psnr_db: peak signal-to-noise ratio of the prediction on [0, 1] images, in dB.
        local_error: largest mean squared error over any window of an eighth of the frame's side, in [0, 1].
        regular_score: squared error weighted towards where it is large (MNAD, eq. 10), in [0, 1]; the gate looks at it.
        distances: by pool, mean squared difference of its queries to their nearest items; empty for a model without memory.
        memory: None for a model without one.
        truth: what the source knows of the target frame; None where it knows nothing.
        error_map: (h, w) float32, squared error on [0, 1] images averaged over the channels; None unless asked for.
        latency_ms: where the time went.
    """

    stream: str
    frame: int
    time_s: float
    wall_time_s: float
    score: float
    threshold: float
    is_anomalous: bool
    psnr_db: float
    local_error: float
    regular_score: float
    distances: Mapping[str, float]
    memory: MemoryState | None
    truth: bool | None = None
    error_map: np.ndarray | None = field(default=None, repr=False, compare=False)
    latency_ms: Latency = field(default_factory=Latency)

    @property
    def query_distance(self) -> float | None:
        """Mean of the pools' distances; None for a model without memory."""
        return mean_distance(self.distances)

    @property
    def memory_updated(self) -> bool:
        """This frame was learned."""
        return self.memory is not None and self.memory.is_updated


@dataclass(frozen=True, eq=False)
class Step:
    """What came of one frame of a stream.

    Attributes:
        frame: the one that came.
        gap: why the frames in view did not lead up to it; None where they did, or where there were none.
        target: the frame that is scored, this one or one before it; None while the window fills.
        score: of the target.
    """

    frame: Frame
    gap: Gap | None = None
    target: Frame | None = None
    score: Score | None = None


class EventKind(str, Enum):
    """What an event is; the last five are of live sources."""

    GAP = "gap"
    ALARM_START = "alarm_start"
    ALARM_END = "alarm_end"
    MEMORY_FROZEN = "memory_frozen"
    SOURCE_LOST = "source_lost"
    RECONNECT = "reconnect"
    PICTURE_FROZEN = "picture_frozen"
    PICTURE_MOVES = "picture_moves"
    FILLER = "filler"

    @property
    def words(self) -> str:
        """For people."""
        return self.value.replace("_", " ")


@dataclass(frozen=True)
class Event:
    """Something that happened at a frame and is not a score.

    Attributes:
        stream, frame, time_s, wall_time_s: of the frame at which it was noticed.
        detail: facts by name, written beside the others (`reason` of a gap, `peak_score` of an alarm, …).
    """

    event: EventKind
    stream: str
    frame: int
    time_s: float
    wall_time_s: float
    detail: Mapping[str, float | int | str] = field(default_factory=dict)


def mean_distance(distances: Mapping[str, float]) -> float | None:
    """Over all pools, by name; None where there is none."""
    return math.fsum(distances.values()) / len(distances) if distances else None
