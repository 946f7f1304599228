"""Scores and events as flat rows of named facts, and rows as JSON: what the sinks that write text have in common."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from edge_runtime.score import Event, Score

__all__ = ["encode_row", "event_row", "score_row"]


def score_row(score: Score) -> dict[str, Any]:
    """The facts of a scored frame by name; `truth` and `extra` only where there are any.

    `extra` is of a model with memory: its drift, and the distance of each pool where there are several.
    """
    row: dict[str, Any] = {
        "stream": score.stream,
        "frame": score.frame,
        "time_s": score.time_s,
        "wall_time_s": score.wall_time_s,
        "score": score.score,
        "threshold": score.threshold,
        "is_anomalous": score.is_anomalous,
        "psnr_db": score.psnr_db,
        "local_error": score.local_error,
        "query_distance": score.query_distance,
        "regular_score": score.regular_score,
        "memory_updated": score.memory_updated,
        "latency_ms": score.latency_ms,
    }
    if score.truth is not None:
        row["truth"] = score.truth
    if score.memory is not None:
        by_pool = {f"query_distance/{pool}": distance for pool, distance in score.distances.items()} if len(score.distances) > 1 else {}
        row["extra"] = {**by_pool, "drift": score.memory.drift}
    return row


def event_row(event: Event) -> dict[str, Any]:
    """The facts of an event by name, its details beside the others."""
    return {
        "event": event.event.value,
        "stream": event.stream,
        "frame": event.frame,
        "time_s": event.time_s,
        "wall_time_s": event.wall_time_s,
        **event.detail,
    }


def encode_row(row: dict[str, Any]) -> bytes:
    """A row as JSON on one line, without its end; what is not a finite number becomes null."""
    return _ENCODER.encode(row)


def _plain(value: object) -> object:
    """NumPy's numbers as Python's; a NaN among either becomes null, which JSON has."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a row: expected a number, text or truth value, got {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
