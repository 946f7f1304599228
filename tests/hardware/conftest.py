"""What the tests on a GPU share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_runtime.devices.cuda.device import CudaDevice


@pytest.fixture(scope="module")
def device() -> Iterator[CudaDevice]:
    """The device on this machine's GPU, one for a file: opening it takes longer than most tests. Closed in the end."""
    with CudaDevice() as opened:
        yield opened
