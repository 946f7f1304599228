from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.kit.order import begun_by_waiting


@dataclass(frozen=True)
class Item:
    """As much of a test as its order hangs on."""

    path: Path
    number: int
    waits: bool

    def get_closest_marker(self, name: str) -> bool:
        assert name == "waits"
        return self.waits


def items_of(name: str, count: int, *, waits: bool = False) -> list[Item]:
    return [Item(Path(name), number, waits) for number in range(count)]


def ordered(items: list[Item], processes: int) -> list[Item]:
    return cast("list[Item]", begun_by_waiting(cast("list[Any]", items), processes))


@pytest.mark.parametrize("processes", range(1, 7))
@pytest.mark.parametrize("waiting", [0, 1, 5, 40])
def test_none_is_lost_and_none_doubled(processes: int, waiting: int) -> None:
    items = [*items_of("a", 7), *items_of("b", waiting, waits=True), *items_of("c", 9), *items_of("d", 1, waits=True)]
    order = ordered(items, processes)
    assert len(order) == len(items) and set(order) == set(items)
    assert [item for item in order if not item.waits] == [item for item in items if not item.waits]


def test_half_of_the_processes_begin_by_waiting() -> None:
    items = [*items_of("a", 10), *items_of("b", 3, waits=True), *items_of("c", 4, waits=True), *items_of("d", 23)]
    order = ordered(items, 4)
    runs = [order[i : i + 10] for i in range(0, 40, 10)]
    begun = [[(item.path.name, item.number) for item in run if item.waits] for run in runs]
    assert begun == [[("b", 0), ("b", 2), ("c", 0), ("c", 2)], [("b", 1), ("c", 1), ("c", 3)], [], []]
    assert all(item.waits for item in (*runs[0][:4], *runs[1][:3]))
