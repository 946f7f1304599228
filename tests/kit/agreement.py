"""Two engines, or two devices, agree within the tolerances of `export.tolerances`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from edge_runtime.score import Score
from export.tolerances import TOLERANCES

__all__ = ["assert_same_items", "assert_same_score"]

SMALLEST = 1e-6  # of an error: below it, relative differences say nothing


def assert_same_score(got: Score | None, wanted: Score | None, precision: str = "fp32") -> None:
    """The same frame, the same decisions, the same numbers within the precision's tolerance."""
    assert (got is None) is (wanted is None)
    if got is None or wanted is None:
        return
    allowed = TOLERANCES[precision]
    assert (got.stream, got.frame, got.time_s, got.wall_time_s) == (wanted.stream, wanted.frame, wanted.time_s, wanted.wall_time_s)
    assert (got.memory is None, got.memory_updated) == (wanted.memory is None, wanted.memory_updated)
    assert got.psnr_db == pytest.approx(wanted.psnr_db, rel=0, abs=allowed.psnr_db)
    for name in ("regular_score", "local_error"):
        assert getattr(got, name) == pytest.approx(getattr(wanted, name), rel=allowed.score, abs=SMALLEST), name
    assert got.distances == pytest.approx(wanted.distances, rel=allowed.score, abs=SMALLEST)
    if got.memory is not None and wanted.memory is not None:
        assert got.memory.is_frozen is wanted.memory.is_frozen
        assert got.memory.drift == pytest.approx(wanted.memory.drift, rel=allowed.score, abs=allowed.memory)
    assert (got.error_map is None) is (wanted.error_map is None)
    if got.error_map is not None and wanted.error_map is not None:
        assert np.abs(got.error_map - wanted.error_map).max() <= allowed.prediction


def assert_same_items(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], allowed: float) -> None:
    """All pools, element by element."""
    assert got.keys() == wanted.keys()
    for name, items in wanted.items():
        assert got[name].shape == items.shape
        assert np.abs(got[name] - items).max() <= allowed, name
