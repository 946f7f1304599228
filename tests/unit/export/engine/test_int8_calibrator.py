from __future__ import annotations

import numpy as np

from export.engine.int8_calibrator import cache_name


def test_a_cache_belongs_to_one_graph_one_footage_and_one_method() -> None:
    batches = [{"clip": np.ones(3, np.float32)}]
    name = cache_name(b"graph", batches, "entropy")
    assert name == cache_name(b"graph", [{"clip": np.ones(3, np.float32)}], "entropy")
    changed = [(b"other", batches, "entropy"), (b"graph", batches * 2, "entropy"), (b"graph", batches, "minmax")]
    assert len({name, *(cache_name(*one) for one in changed)}) == 4
