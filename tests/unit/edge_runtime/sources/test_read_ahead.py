from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from edge_runtime.commands import READERS
from edge_runtime.errors import SourceError
from edge_runtime.frames import Frame
from edge_runtime.sources import read_ahead as module
from edge_runtime.sources.read_ahead import DEPTH, read_ahead
from tests.kit.wording import raises


def a_frame(index: int) -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), index, float(index), 0.0, "gate")


class Recording:
    """Frames 0 to count − 1, then what is raised; notes what was read, by which threads, and that it was closed."""

    def __init__(self, count: int, ends_with: Exception | None = None) -> None:
        self.count, self.ends_with = count, ends_with
        self.read: list[int] = []
        self.threads: set[str] = set()
        self.is_closed = False

    def __iter__(self) -> Iterator[Frame]:
        try:
            for index in range(self.count):
                self.read.append(index)
                self.threads.add(threading.current_thread().name)
                yield a_frame(index)
            if self.ends_with is not None:
                raise self.ends_with
        finally:
            self.is_closed = True


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_every_frame_comes_once_and_in_order(count: int) -> None:
    recording = Recording(count)
    assert [frame.index for frame in read_ahead(recording)] == list(range(count))
    assert recording.is_closed


def test_an_error_comes_after_the_frames_before_it() -> None:
    frames = read_ahead(Recording(3, SourceError("frame 3 is damaged")))
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    with raises(SourceError, "frame 3"):
        next(frames)


def test_what_is_read_ahead_of_the_last_frame_wanted_does_no_harm() -> None:
    frames = read_ahead(Recording(2, SourceError("frame 2 is damaged")))
    assert next(frames).index == 0
    frames.close()


def test_another_thread_reads_no_more_than_it_may_and_is_gone_at_the_end() -> None:
    before = set(threading.enumerate())
    recording = Recording(50)
    frames = read_ahead(recording)
    for index in range(10):
        assert next(frames).index == index
        assert len(recording.read) <= index + 1 + DEPTH
    assert threading.current_thread().name not in recording.threads and len(recording.threads) == 1
    frames.close()
    assert set(threading.enumerate()) == before
    assert len(recording.read) <= 10 + DEPTH


def test_a_source_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_CLOSE_S", 0.1)
    lets_go = threading.Event()

    def hanging() -> Iterator[Frame]:
        yield a_frame(0)
        lets_go.wait()

    frames = read_ahead(hanging())
    assert next(frames).index == 0
    frames.close()
    [reader] = [thread for thread in threading.enumerate() if thread.name in READERS]
    assert reader.daemon
    lets_go.set()
    reader.join(10)
    assert not reader.is_alive()
