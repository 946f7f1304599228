"""The order of the tests, for several processes that each begin with an equal run of them and then take over from one another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, islice

import pytest

__all__ = ["begun_by_waiting"]


def begun_by_waiting(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """Tests marked `waits` at the beginning of the first half of the processes' runs, the others in the order they had.

    Each file's tests are dealt out among these processes, for some wait long; in one they stay side by side, for what they share.
    """
    half = max(processes // 2, 1)
    computing = iter([item for item in items if not item.get_closest_marker("waits")])
    waiting = [item for item in items if item.get_closest_marker("waits")]
    files = [list(group) for _, group in groupby(waiting, key=lambda item: item.path)]
    order: list[pytest.Item] = []
    for process in range(half):
        begun = [item for file in files for item in file[process::half]]
        order += [*begun, *islice(computing, max(len(items) // processes - len(begun), 0))]
    return [*order, *computing]
