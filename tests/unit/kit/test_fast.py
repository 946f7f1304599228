from __future__ import annotations

from typing import Any, cast

import pytest

from tests.kit.fast import TAKES_LONG, is_fast
from tests.kit.needs import NEEDS


class Item:
    """As much of a test as its tier hangs on."""

    def __init__(self, *markers: str) -> None:
        self.markers = markers

    def get_closest_marker(self, name: str) -> bool:
        return name in self.markers


@pytest.mark.parametrize("name", [*TAKES_LONG, *NEEDS])
def test_whatever_takes_long_or_has_to_be_fetched_is_left_out(name: str) -> None:
    assert not is_fast(cast("Any", Item("parametrize", name)))


def test_all_others_are_fast() -> None:
    assert is_fast(cast("Any", Item("parametrize")))


def test_no_need_that_apt_serves_is_without_a_marker() -> None:
    assert {"mosquitto", "rtsp", "system_opencv", "v4l2", "cxx"} <= {name for name, need in NEEDS.items() if "apt-get install" in need.what}
