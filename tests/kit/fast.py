"""Which tests are for running while one works: `make test-fast`."""

from __future__ import annotations

import pytest

from tests.kit.needs import NEEDS

__all__ = ["is_fast"]

TAKES_LONG = ("slow", "waits", "trains", "commands")


def is_fast(item: pytest.Item) -> bool:
    """Whether a test neither takes long nor asks the machine for anything beyond what `make` installs: no apt package, data or GPU."""
    return not any(item.get_closest_marker(name) for name in (*TAKES_LONG, *NEEDS))
