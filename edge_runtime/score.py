"""What the detector says of one frame, and what happens to a stream in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Event", "Latency", "Score"]


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
class Score:
    """One scored frame.

    Attributes:
        stream, frame, time_s, wall_time_s: of the target frame.
        score: −log10 of the probability that normal footage of this camera looks at least as odd, ≥ 0, unbounded.
        threshold: the score from which on a frame is anomalous.
        is_anomalous: score ≥ threshold.
        psnr_db: peak signal-to-noise ratio of the prediction on [0, 1] images, in dB.
        local_error: largest mean squared error over any window of an eighth of the frame's side, in [0, 1].
        query_distance: mean squared difference of the queries to their nearest items; None for a model without memory.
        regular_score: squared error weighted towards where it is large (MNAD, eq. 10), in [0, 1]; the gate looks at it.
        memory_updated: this frame was learned; the effect begins with the next one.
        truth: what the source knows of the target frame; None where it knows nothing.
        extra: what only some models have, by name: the distances of further pools, the memory's drift.
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
    query_distance: float | None
    regular_score: float
    memory_updated: bool
    truth: bool | None = None
    extra: Mapping[str, float] = field(default_factory=dict)
    error_map: np.ndarray | None = field(default=None, repr=False, compare=False)
    latency_ms: Latency = field(default_factory=Latency)


@dataclass(frozen=True)
class Event:
    """Something that happened at a frame and is not a score.

    Attributes:
        event: `gap`, `alarm_start`, `alarm_end`, `memory_frozen`; of a live source also `source_lost`, `reconnect`,
            `picture_frozen`, `picture_moves`, `filler`.
        stream, frame, time_s, wall_time_s: of the frame at which it was noticed.
        detail: facts by name, written beside the others (`reason` of a gap, `peak_score` of an alarm, …).
    """

    event: str
    stream: str
    frame: int
    time_s: float
    wall_time_s: float
    detail: Mapping[str, float | int | str] = field(default_factory=dict)
