"""A disk that is full: a small tmpfs of its own, filled up to the last byte."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.devices.host_memory import HostBank
from edge_runtime.errors import SinkError
from edge_runtime.frames import Frame
from edge_runtime.run.state import StateStore
from edge_runtime.sinks.tables.jsonl import JsonLinesSink, read_scores
from edge_runtime.sinks.video.h264 import H264Settings, Mp4File
from tests.kit.commands import edge_run
from tests.kit.drawn_footage import scene
from tests.kit.scores import make_score, make_step
from tests.kit.wording import raises

SIZE = 2 << 20  # bytes
DETACH = 2  # Linux's MNT_DETACH: after a failed test a file may still be open
PAGE = 4096  # bytes; what a tmpfs gives at a time
UNSCORED = 4  # frames before the first score of `one_pool`

Toy = Callable[[str], Bundle]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    system = ctypes.CDLL(None, use_errno=True)
    if system.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={SIZE}".encode()):
        pytest.skip(f"mounting a tmpfs is not permitted here: {os.strerror(ctypes.get_errno())}")
    yield folder
    assert system.umount2(bytes(folder), DETACH) == 0, os.strerror(ctypes.get_errno())


def fill(disk: Path, spare: int = 0) -> Path:
    """Take all the space there is but so many bytes, rounded to pages; the file to remove or to cut when there shall be space again."""
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while file.write(bytes(PAGE)) == PAGE:
                pass
        except OSError:
            pass
        file.truncate(file.tell() // PAGE * PAGE - spare)
    return ballast


def write_until_full(sink: JsonLinesSink, first: int) -> int:
    """Write line after line up to the first that fails; its number."""
    for index in range(first, 100_000):
        try:
            sink.write_step(make_step(make_score(index)))
        except SinkError:
            return index
    raise AssertionError("the disk did not fill")


FRAME = Frame(np.zeros((8, 8, 3), np.uint8), 0, 0.0, 0.0, "gate")


# scores.jsonl


def test_every_line_that_reached_a_full_disk_is_whole(disk: Path) -> None:
    path = disk / "scores.jsonl"
    with closing(JsonLinesSink(path)) as sink:
        lost = write_until_full(sink, 0)
        assert path.read_bytes().endswith(b"\n")
        assert [row["frame"] for row in read_scores(path)] == list(range(lost))
        assert lost > 1000
    assert [row["frame"] for row in read_scores(path)] == list(range(lost))


def test_lines_go_on_when_there_is_space_again(disk: Path) -> None:
    ballast = fill(disk, spare=10 * PAGE)
    with closing(JsonLinesSink(disk / "scores.jsonl")) as sink:
        lost = write_until_full(sink, 0)
        for index in range(lost + 1, lost + 4):
            with raises(SinkError, "'No space left on device'"):
                sink.write_step(make_step(make_score(index)))
        ballast.unlink()
        sink.write_step(make_step(make_score(lost + 4)))
    assert [row["frame"] for row in read_scores(disk / "scores.jsonl")] == [*range(lost), lost + 4]


def test_a_disk_that_fills_again_and_again_costs_only_the_lines_in_between(disk: Path) -> None:
    kept: list[int] = []
    first = 0
    with closing(JsonLinesSink(disk / "scores.jsonl")) as sink:
        for _ in range(5):
            ballast = fill(disk, spare=PAGE)
            lost = write_until_full(sink, first)
            kept += range(first, lost)
            ballast.unlink()
            first = lost + 1
    assert [row["frame"] for row in read_scores(disk / "scores.jsonl")] == kept


# annotated.mp4


def test_a_video_that_failed_refuses_every_later_picture_and_leaves_nothing(disk: Path) -> None:
    settings = H264Settings(640, 480, 10.0, {"g": "1", "crf": "1"})
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    video = Mp4File(disk / "annotated.mp4", settings)
    with raises(SinkError, "'No space left on device'"):
        deque(map(video.encode, repeat(noise, 100)))
    for _ in range(2):
        with raises(SinkError, "finished"):
            video.encode(noise)
    video.finish()
    assert list(disk.iterdir()) == []


# the state


def bank_of(bundle: Bundle, items: np.ndarray) -> HostBank:
    bank = HostBank(bundle.manifest, bundle.read_items())
    bank.restore({"memory": items})
    return bank


def items_in(store: StateStore, bundle: Bundle) -> np.ndarray:
    bank = HostBank(bundle.manifest, bundle.read_items())
    assert store.load(bank) is True
    return bank.snapshot()["memory"]


def test_the_state_on_a_full_disk_is_the_one_before_until_there_is_space(disk: Path, toy: Toy) -> None:
    bundle = toy("one_pool")
    before, after = np.eye(3, 16, dtype=np.float32), np.eye(3, 16, 5, dtype=np.float32)
    store = StateStore(disk / "state", "gate", bundle)
    store.save(bank_of(bundle, before))
    ballast = fill(disk)
    for _ in range(3):
        with raises(SinkError, "'No space left on device'"):
            store.save(bank_of(bundle, after))
        assert os.listdir(disk / "state") == ["gate.safetensors"]
        assert np.array_equal(items_in(store, bundle), before)
    ballast.unlink()
    store.save(bank_of(bundle, after))
    assert np.array_equal(items_in(StateStore(disk / "state", "gate", bundle), bundle), after)


def test_a_start_on_a_full_disk_loads_the_state(disk: Path, toy: Toy) -> None:
    bundle = toy("one_pool")
    items = np.eye(3, 16, dtype=np.float32)
    StateStore(disk, "gate", bundle).save(bank_of(bundle, items))
    fill(disk)
    assert np.array_equal(items_in(StateStore(disk, "gate", bundle), bundle), items)


# the command


@pytest.mark.commands
def test_edge_run_scores_on_and_says_how_much_it_lost(disk: Path, toy_originals: dict[str, Path]) -> None:
    frames = 300
    fill(disk, spare=8 * PAGE)
    finished = edge_run("--bundle", toy_originals["one_pool"], "--source", scene(frames), "--out", disk / "out")
    assert finished.code == 1
    assert "Traceback" not in finished.err
    kept = [row["frame"] for row in read_scores(disk / "out" / "scores.jsonl")]
    assert kept == list(range(UNSCORED, UNSCORED + len(kept))) and 0 < len(kept) < frames - UNSCORED
    told = finished.err + finished.out
    assert f"scored {frames - UNSCORED} of {frames} frames" in told
    assert str(frames - UNSCORED - len(kept)) in finished.err.strip().splitlines()[-1]
