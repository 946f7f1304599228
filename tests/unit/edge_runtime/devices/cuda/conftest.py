"""The CUDA device on the stand-in driver."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from edge_runtime.devices.cuda.device import CudaDevice
from tests.kit.cuda_driver.driver import StandIn, load
from tests.kit.cuda_driver.nvcc import write_nvcc
from tests.kit.pycuda_wheel import CACHE


@pytest.fixture
def stand_in(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """The driver, as if it were new; nothing may be left on it in the end."""
    monkeypatch.setenv("PATH", f"{write_nvcc(tmp_path_factory.mktemp('nvcc')).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(CACHE))
    driver = load()
    driver.set_up()
    driver.order("late")
    driver.clear()
    yield driver
    alive, leaked = driver.alive(), driver.count("leaked")
    driver.set_up(devices=0)  # it stays in this process: other tests are to find no GPU
    assert alive == {}
    assert leaked == 0


@pytest.fixture
def device(stand_in: StandIn) -> Iterator[CudaDevice]:
    """A device on the stand-in, closed in the end."""
    with CudaDevice() as opened:
        yield opened
