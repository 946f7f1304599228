"""The stand-in driver refuses what a GPU would do undefined things with, and works as late as it may: or its tests prove nothing."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np
import pytest

from edge_runtime.devices.cuda.driver import Gpu
from edge_runtime.devices.cuda.launch import Launch
from edge_runtime.errors import BackendError, BackendUnavailable
from tests.kit.cuda_driver.driver import StandIn
from tests.kit.wording import raises

pytestmark = pytest.mark.pycuda


@pytest.fixture
def gpu(stand_in: StandIn) -> Iterator[Gpu]:
    opened = Gpu()
    yield opened
    opened.close()
    stand_in.clear()


def test_a_host_pointer_is_no_device_pointer_and_the_reverse(gpu: Gpu, stand_in: StandIn) -> None:
    pinned = gpu.allocate_pinned(64)
    array = np.zeros(64, np.uint8)
    for host_address in (array.ctypes.data, pinned.host.ctypes.data):
        with raises(BackendError, "live … memory"):
            gpu.upload(host_address, array)
    assert pinned.address != pinned.host.ctypes.data


def test_memory_ends_where_it_ends_and_freed_memory_is_gone(gpu: Gpu) -> None:
    address = gpu.allocate(256)
    gpu.fill(address, 1.0, 64)
    with raises(BackendError, "memset … 260 bytes"):
        gpu.fill(address, 1.0, 65)
    gpu.free(address)
    with raises(BackendError, "live … memory"):
        gpu.fill(address, 1.0, 1)


def test_copies_run_no_sooner_than_they_must(gpu: Gpu) -> None:
    pinned, address, out = gpu.allocate_pinned(4), gpu.allocate(4), np.zeros(4, np.uint8)
    pinned.host[:] = 1
    gpu.copy_up(address, pinned.host, gpu.compute)
    pinned.host[:] = 2  # too soon
    gpu.download(address, out)
    assert out.tolist() == [2] * 4


def test_a_copy_of_pageable_memory_may_be_on_its_way_when_the_call_returns(gpu: Gpu) -> None:
    import pycuda.driver as cuda

    pinned, event = gpu.allocate_pinned(4), gpu.event()
    seen = {}
    for name, upload in (("driver", cuda.memcpy_htod), ("ours", gpu.upload)):
        address = gpu.allocate(4)
        gpu.fill(address, 0.0, 1)
        gpu.synchronize()
        upload(address, np.full(4, 7, np.uint8))
        gpu.copy_down(pinned.host, address)
        gpu.record(event, gpu.compute)
        gpu.wait(event)
        seen[name] = pinned.host.tolist()
    assert seen == {"driver": [0] * 4, "ours": [7] * 4}


def test_freed_pinned_memory_is_gone_for_the_host_too(gpu: Gpu) -> None:
    pinned, address = gpu.allocate_pinned(4), gpu.allocate(4)
    gpu.free_pinned(pinned)
    with raises(BackendError, "host"):
        gpu.copy_down(pinned.host, address)


def test_no_context_stays_current_whichever_is_closed_first(stand_in: StandIn) -> None:
    first, second = Gpu(), Gpu()
    first.close()
    second.fill(second.allocate(4), 0.0, 1)
    second.close()
    first, second = Gpu(), Gpu()
    second.close()
    first.fill(first.allocate(4), 0.0, 1)
    first.close()
    assert stand_in.alive() == {}


def test_streams_know_of_each_other_by_events_only(gpu: Gpu, stand_in: StandIn) -> None:
    pinned, address = gpu.allocate_pinned(8), gpu.allocate(8)
    seen = {}
    for is_held_back in (False, True):
        gpu.fill(address, 0.0, 2)
        gpu.synchronize()
        event, end = gpu.event(), gpu.event()
        pinned.host[:4] = 7
        gpu.copy_up(address, pinned.host[:4], gpu.copying)
        gpu.record(event, gpu.copying)
        if is_held_back:
            gpu.hold_back(gpu.compute, event)
        gpu.copy_down(pinned.host[4:], address)
        gpu.record(end, gpu.compute)
        gpu.wait(end)
        seen[is_held_back] = pinned.host[4:].tolist()
    assert seen == {False: [0] * 4, True: [7] * 4}


def test_a_kernel_that_is_given_the_hosts_memory_fails(stand_in: StandIn) -> None:
    from edge_runtime.devices.cuda.compilation import compiled_kernels

    gpu = Gpu()
    gpu.load(compiled_kernels(gpu.sm))
    array, there = np.zeros(64, np.float32), gpu.allocate(256)
    values = tuple(np.uint64(address) for address in (array.ctypes.data, *[0] * 15))
    gpu.launch(gpu.prepare([Launch("pack", (1, 1, 1), (32, 1, 1), (np.uint64(there), np.int32(1), *values))]))
    with raises(BackendError, "pack … byte 16 … host pointer"):
        gpu.synchronize()
    with raises(BackendError, "host pointer"):  # the context stays broken
        gpu.fill(there, 0.0, 1)
    gpu.close()
    stand_in.clear()


def test_a_kernel_that_is_not_there_and_kernels_of_another_gpu_are_told(stand_in: StandIn) -> None:
    from edge_runtime.devices.cuda.compilation import compiled_kernels

    gpu = Gpu()
    gpu.load(compiled_kernels(gpu.sm))
    with raises(BackendError, "unheard_of … edge-runtime"):
        gpu.prepare([Launch("unheard_of", (1, 1, 1), (1, 1, 1), ())])
    for cubin in (compiled_kernels(90), b"neither" * 10):
        with raises(BackendError, "sm_87"):
            gpu.load(cubin)
    gpu.close()


def test_nothing_is_done_without_a_context_or_after_it_was_released(stand_in: StandIn) -> None:
    import pycuda.driver as cuda

    gpu = Gpu()
    address = gpu.allocate(4)
    gpu.close()
    with raises(cuda.Error, "current context"):
        cuda.memset_d32_async(address, 0, 1)
    with raises(BackendError, "closed"):
        gpu.fill(address, 0.0, 1)


def test_times_are_told_of_events_that_have_one(gpu: Gpu) -> None:
    first, second, without = gpu.event(has_time=True), gpu.event(has_time=True), gpu.event()
    for event in (first, second, without):
        gpu.record(event, gpu.compute)
    gpu.synchronize()
    assert gpu.ms_between(first, second) > 0
    with pytest.raises(BackendError):
        gpu.ms_between(first, without)


class Unimportable(importlib.abc.MetaPathFinder):
    """Makes one module fail to import."""

    def __init__(self, name: str, error: ImportError) -> None:
        self.name = name
        self.error = error

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        if name == self.name:
            raise self.error
        return None


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("pycuda", ModuleNotFoundError("No module named 'pycuda'"), "pycuda … pip install 'edge-runtime[cuda]'"),
        (
            "pycuda._driver",
            ImportError("libcuda.so.1: cannot open shared object file"),
            "libcuda.so.1 … --device cpu",
        ),
    ],
)
def test_a_missing_library_is_told_with_what_to_install(
    name: str, error: ImportError, message: str, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [module for module in sys.modules if module.partition(".")[0] == "pycuda"]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Unimportable(name, error), *sys.meta_path])
    with raises(BackendUnavailable, message):
        Gpu()
