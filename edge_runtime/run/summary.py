"""What a run amounts to, while it goes on and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_runtime.score import Score
from edge_runtime.sources import SourceHealth

__all__ = ["Percentiles", "Progress", "Summary"]


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds below which 50, 95 and 99 % of the frames were done."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Summary:
    """`summary.json`.

    Attributes:
        frames, scored, alarms, updates: counts; an update is a frame that was learned.
        gaps: how often the window was emptied.
        fps: frames per second of wall time.
        latency_ms: of scored frames, from before the grab (of a camera: from the frame's arrival) to after the sinks; the newest
            20,000 of them.
        bundle, backend, device, precision, fast_graphs: what ran.
        drift: of the memory at the end; None for a model without memory.
        memory_frozen: the memory does not learn (any more).
        ended_by: `end of source`, `max frames`, `interrupted` or an error's text.
        source: how the camera has been; None for footage.
        lost: writes that failed, by sink.
    """

    frames: int
    scored: int
    alarms: int
    updates: int
    gaps: int
    fps: float
    latency_ms: Percentiles | None
    bundle: str
    backend: str
    device: str
    precision: str
    fast_graphs: bool
    drift: float | None
    memory_frozen: bool
    ended_by: str
    source: SourceHealth | None = None
    lost: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Progress:
    """Counts of a run so far; `score` is the newest."""

    frames: int = 0
    scored: int = 0
    alarms: int = 0
    updates: int = 0
    gaps: int = 0
    score: Score | None = None
