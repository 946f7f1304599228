"""Recorded footage, decoded while the frame before it is scored."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from queue import SimpleQueue
from threading import Thread

from edge_runtime.frames import Frame

__all__ = ["read_ahead"]

DEPTH = 2  # one that is ready, and one that is decoded meanwhile
LONGEST_CLOSE_S = 2.0

_Answer = tuple[Frame | None, BaseException | None]


def read_ahead(frames: Iterable[Frame]) -> Generator[Frame]:
    """The same frames, and the same errors at the same places, while the next two are read in a thread.

    Close it before the source: it waits for the frame that is being read, unless that takes longer than two seconds.
    """
    asked: SimpleQueue[bool] = SimpleQueue()
    answers: SimpleQueue[_Answer] = SimpleQueue()
    # A daemon: one that hangs in a file must not keep the process.
    reader = Thread(target=_serve, args=(iter(frames), asked, answers), name="footage reader", daemon=True)
    reader.start()
    try:
        for _ in range(DEPTH):
            asked.put(True)
        while True:
            frame, error = answers.get()
            if error is not None:
                raise error
            if frame is None:
                return
            asked.put(True)
            yield frame
    finally:
        asked.put(False)
        reader.join(LONGEST_CLOSE_S)


def _serve(frames: Iterator[Frame], asked: SimpleQueue[bool], answers: SimpleQueue[_Answer]) -> None:
    """A frame for each time it is asked, None after the last, until it is told to stop."""
    while asked.get():
        try:
            answers.put((next(frames, None), None))
        except Exception as error:  # noqa: BLE001  (raised where the frame was to come)
            answers.put((None, error))
