"""Recorded footage, decoded while the frame before it is scored."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from edge_runtime.frames import Frame

__all__ = ["read_ahead"]

DEPTH = 2  # one that is ready, and one that is decoded meanwhile


def read_ahead(frames: Iterable[Frame]) -> Generator[Frame]:
    """The same frames, and the same errors at the same places, while the next two are read in a thread.

    Close it before the source: it waits for the frame that is being read.
    """
    coming: deque[Future[Frame | None]] = deque()
    iterator = iter(frames)
    with ThreadPoolExecutor(1, "read ahead") as reader:
        try:
            coming.extend(reader.submit(next, iterator, None) for _ in range(DEPTH))
            while (frame := coming.popleft().result()) is not None:
                coming.append(reader.submit(next, iterator, None))
                yield frame
        finally:
            reader.shutdown(wait=True, cancel_futures=True)
