"""The stand-in driver, loaded into this process: from then on, pycuda runs on it.

A process has one driver. Whoever loads this one cannot use a GPU any more: tests of hardware run in a process of their own.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.kit.pycuda_wheel import CACHE, headers

__all__ = ["ORDERS", "WORK", "StandIn", "library", "load"]

WORK = ctypes.CFUNCTYPE(None)
HERE = Path(__file__).parent
ORDERS = ("late", "early", "others first", "shuffled")  # when queued work runs, as libcuda.cpp numbers it

COUNTERS = (
    "allocations", "frees", "pinned_allocations", "pinned_frees", "event_creations", "uploads", "uploads_bytes", "downloads",
    "downloads_bytes", "device_copies", "device_copies_bytes", "pageable_copies", "launches", "synchronisations", "event_waits", "leaked",
)  # fmt: skip
LIVE = ("live_allocations", "live_pinned", "live_streams", "live_events", "live_modules", "live_contexts", "current_contexts")


class StandIn:
    """What a test asks of the driver, and how it sets it up."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.standin_counter.restype = ctypes.c_uint64
        self._library.standin_launches.restype = ctypes.c_uint64
        self._library.standin_set.argtypes = [ctypes.c_char_p, ctypes.c_int64]
        self._library.standin_complaint.restype = ctypes.c_char_p
        self._library.standin_call.argtypes = [ctypes.c_uint64, WORK]

    def count(self, counter: str) -> int:
        """One of `COUNTERS` since `clear`, or of `LIVE` now."""
        assert counter in (*COUNTERS, *LIVE), counter
        return int(self._library.standin_counter(counter.encode()))

    def counts(self) -> dict[str, int]:
        """All of `COUNTERS` that are not 0."""
        found = {name: self.count(name) for name in COUNTERS}
        return {name: count for name, count in found.items() if count}

    def alive(self) -> dict[str, int]:
        """What is not released, where there is any, and how many contexts are current in this thread."""
        found = {name: self.count(name) for name in LIVE}
        return {name: count for name, count in found.items() if count}

    def launches(self, kernel: str) -> int:
        """Launches of a kernel since `clear`."""
        return int(self._library.standin_launches(kernel.encode()))

    def complaint(self) -> str:
        """What was refused last, or nothing."""
        return str(self._library.standin_complaint().decode())

    def call(self, cuda_stream: int, work: Any) -> None:
        """Put a `WORK` into a stream; the caller keeps it alive until it has run."""
        assert self._library.standin_call(cuda_stream, work) == 0

    def clear(self) -> None:
        """All counters to 0."""
        self._library.standin_clear()

    def set_up(self, *, devices: int = 1, sm: int = 87, is_integrated: bool = False, memory_bytes: int = 8 << 30) -> None:
        """What GPU this is."""
        for name, value in (("devices", devices), ("sm", sm), ("is_integrated", is_integrated), ("memory_bytes", memory_bytes)):
            self._library.standin_set(name.encode(), int(value))

    def limit_memory(self, memory_bytes: int) -> None:
        """How much this GPU has from now on, pinned memory with it."""
        self._library.standin_set(b"memory_bytes", memory_bytes)

    def order(self, name: str, *, seed: int = 0) -> None:
        """When queued work runs: one of `ORDERS`."""
        self._library.standin_set(b"seed", seed)
        self._library.standin_set(b"order", ORDERS.index(name))


@functools.cache
def load() -> StandIn:
    """The stand-in, in this process.

    Raises:
        RuntimeError: pycuda has found another driver here.
    """
    if "pycuda._driver" in sys.modules:
        raise RuntimeError(
            "the stand-in driver: expected a process without one, pycuda has loaded another. Run these tests in their own process."
        )
    return StandIn(library())


def library() -> Path:
    """`libcuda.so.1` of the stand-in, compiled the first time.

    Raises:
        OSError, subprocess.SubprocessError: g++ is missing, or the headers cannot be fetched.
    """
    extension = _extension()
    key = hashlib.sha256((HERE / "libcuda.cpp").read_bytes() + extension.read_bytes()).hexdigest()[:16]
    path = CACHE / f"stand-in-{key}" / "libcuda.so.1"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            os.replace(_compile(extension, Path(scratch)), path)
    return path


def _compile(extension: Path, scratch: Path) -> Path:
    """Every function that pycuda's extension links to must be there; those the stand-in lacks say that they are not supported."""
    wanted = [name for name in _output("nm", "-D", "--undefined-only", extension).split() if name.startswith("cu") and name[2].isupper()]
    others = scratch / "others.cpp"
    others.write_text("".join(f'extern "C" __attribute__((weak)) int {name}() {{ return 801; }}\n' for name in wanted))
    built = scratch / "libcuda.so.1"
    flags = ("-std=c++20", "-O1", "-w", "-fPIC", "-shared", "-Wl,-soname,libcuda.so.1", "-I", headers())
    _output("g++", *flags, HERE / "libcuda.cpp", others, "-o", built)
    return built


def _extension() -> Path:
    spec = importlib.util.find_spec("pycuda")
    assert spec is not None and spec.submodule_search_locations is not None
    [extension] = Path(spec.submodule_search_locations[0]).glob("_driver*.so")
    return extension


def _output(*command: object) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, timeout=300).stdout
