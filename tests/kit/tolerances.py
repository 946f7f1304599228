"""What two engines, or two devices, may differ by: one table for all tests.

`fp32` and `fp16` are of the graphs; memory and scores are float32 in both. Engines that run the same graph may use other algorithms and
sum in another order, hence the room; the memory step alone keeps to `MEMORY_STEP`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from edge_runtime.score import Score

__all__ = ["MEMORY_STEP", "TOLERANCES", "Tolerance", "assert_same_items", "assert_same_score"]


@dataclass(frozen=True)
class Tolerance:
    """Of one precision.

    Attributes:
        query: largest absolute difference of a unit query's element.
        memory: of an item's element, after some frames.
        prediction: of a pixel, in [−1, 1].
        psnr_db: of a frame.
        score: relative, of regular score, local error and query distance.
    """

    query: float
    memory: float
    prediction: float
    psnr_db: float
    score: float


TOLERANCES = {
    "fp32": Tolerance(query=1e-4, memory=1e-4, prediction=1e-3, psnr_db=0.01, score=5e-3),
    "fp16": Tolerance(query=1e-2, memory=1e-2, prediction=5e-2, psnr_db=0.1, score=5e-2),
    "int8": Tolerance(query=1e-1, memory=1e-1, prediction=5e-1, psnr_db=0.5, score=5e-1),
}

MEMORY_STEP = 1e-4
"""Items and reads on a GPU against NumPy, the same queries in: largest absolute difference."""

SMALLEST = 1e-6  # of an error: below it, relative differences say nothing


def assert_same_score(got: Score | None, wanted: Score | None, precision: str = "fp32") -> None:
    """The same frame, the same decisions, the same numbers within the precision's tolerance."""
    assert (got is None) is (wanted is None)
    if got is None or wanted is None:
        return
    allowed = TOLERANCES[precision]
    assert (got.stream, got.frame, got.time_s, got.wall_time_s) == (wanted.stream, wanted.frame, wanted.time_s, wanted.wall_time_s)
    assert got.memory_updated is wanted.memory_updated
    assert got.psnr_db == pytest.approx(wanted.psnr_db, rel=0, abs=allowed.psnr_db)
    for name in ("regular_score", "local_error", "query_distance"):
        assert getattr(got, name) == pytest.approx(getattr(wanted, name), rel=allowed.score, abs=SMALLEST), name
    assert got.extra.keys() == wanted.extra.keys()
    for name, value in wanted.extra.items():
        assert got.extra[name] == pytest.approx(value, rel=allowed.score, abs=allowed.memory if name == "drift" else SMALLEST), name
    assert (got.error_map is None) is (wanted.error_map is None)
    if got.error_map is not None and wanted.error_map is not None:
        assert np.abs(got.error_map - wanted.error_map).max() <= allowed.prediction


def assert_same_items(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], allowed: float) -> None:
    """All pools, element by element."""
    assert got.keys() == wanted.keys()
    for name, items in wanted.items():
        assert got[name].shape == items.shape
        assert np.abs(got[name] - items).max() <= allowed, name
