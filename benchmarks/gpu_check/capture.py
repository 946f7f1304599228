"""Work recorded once as a CUDA graph and replayed: what the GPU needs for it, without what the host needs to launch it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import byref, c_uint64, c_void_p

from edge_runtime.errors import BackendError

__all__ = ["captured"]

THIS_THREAD = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


@contextmanager
def captured(cuda_stream: int, work: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Record what `work` launches into a stream; gives what replays it there.

    Raises:
        BackendError: the driver has no such calls, or the work does something that cannot be recorded, such as waiting.
    """
    cuda = ctypes.CDLL("libcuda.so.1")
    stream, graph, ready = c_void_p(cuda_stream), c_void_p(), c_void_p()
    _call(cuda, "cuStreamBeginCapture_v2", stream, THIS_THREAD)
    try:
        work()
    finally:
        _call(cuda, "cuStreamEndCapture", stream, byref(graph))
    try:
        _call(cuda, "cuGraphInstantiateWithFlags", byref(ready), graph, c_uint64(0))
        yield lambda: _call(cuda, "cuGraphLaunch", ready, stream)
    finally:
        if ready:
            _call(cuda, "cuGraphExecDestroy", ready)
        _call(cuda, "cuGraphDestroy", graph)


def _call(cuda: ctypes.CDLL, name: str, *arguments: object) -> None:
    function = getattr(cuda, name, None)
    if function is None:
        raise BackendError(f"CUDA: expected a driver with {name}, this one lacks it. Update it.")
    code = function(*arguments)
    if code:
        raise BackendError(f"CUDA: expected {name} to work, got error {code}. Launch the work without recording it.")
