from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.errors import SinkError
from edge_runtime.sinks.alerts.spool import Spool
from tests.kit.wording import missing, raises

ROOT = Path(__file__).parents[5]


def message(number: int) -> bytes:
    return json.dumps({"number": number}).encode()


def filled(path: Path | None, count: int, limit: int = 100) -> Spool:
    spool = Spool(limit, path)
    for number in range(count):
        spool.append(message(number))
    return spool


def numbers(messages: list[bytes]) -> list[int]:
    return [json.loads(each)["number"] for each in messages]


def left_in(path: Path) -> list[int]:
    """What the next process finds, without this one having closed anything."""
    spool = Spool(100, path)
    left = numbers(spool.take(100))
    spool.close()
    return left


def test_messages_leave_in_the_order_they_came() -> None:
    spool = filled(None, 5)
    assert numbers(spool.take(2)) == [0, 1]
    assert len(spool) == 5  # not done yet
    spool.done()
    assert len(spool) == 3
    assert numbers(spool.take(10)) == [2, 3, 4]


def test_beyond_the_limit_the_oldest_is_lost_but_never_one_that_is_under_way() -> None:
    spool = filled(None, 3, limit=3)
    spool.take(1)
    for number in range(3, 6):
        spool.append(message(number))
    assert spool.lost == 2
    spool.done()
    assert numbers(spool.take(10)) == [3, 4, 5]


@pytest.mark.parametrize("is_done", [False, True])
def test_the_next_process_finds_what_is_not_done(tmp_path: Path, is_done: bool) -> None:
    path = tmp_path / "spool.jsonl"
    spool = filled(path, 5)
    spool.take(2)
    if is_done:
        spool.done()
    assert left_in(path) == ([2, 3, 4] if is_done else [0, 1, 2, 3, 4])
    spool.close()


def test_what_was_lost_does_not_come_back(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    spool = filled(path, 8, limit=5)
    assert left_in(path) == [3, 4, 5, 6, 7]
    spool.close()


def test_a_smaller_limit_keeps_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    filled(path, 8).close()
    spool = Spool(3, path)
    assert (spool.lost, numbers(spool.take(10))) == (5, [5, 6, 7])
    spool.close()


def test_a_line_that_a_power_cut_broke_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spool.jsonl"
    filled(path, 3).close()
    path.write_bytes(path.read_bytes() + b'{"number":3,"mess')
    assert left_in(path) == [0, 1, 2]
    assert caplog.text.count("broken") == 1


def test_the_file_stays_small_however_much_goes_through_it(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    spool = filled(path, 2)
    for number in range(2, 5000):  # it is never empty
        spool.append(message(number))
        spool.take(1)
        spool.done()
        assert path.stat().st_size < 100_000
    assert left_in(path) == [4998, 4999]
    spool.close()


def test_an_empty_spool_leaves_no_file(tmp_path: Path) -> None:
    spool = filled(tmp_path / "spool.jsonl", 3)
    spool.take(3)
    spool.done()
    assert (tmp_path / "spool.jsonl").stat().st_size == 0
    spool.close()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_stops_nothing_is_said_once_and_mended_when_there_is_room(tmp_path: Path) -> None:
    program = """
import logging, resource, signal, sys
from pathlib import Path
from edge_runtime.sinks.alerts.spool import Spool
logging.basicConfig(stream=sys.stdout, format="%(message)s")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
spool = Spool(100, Path(sys.argv[1]))
for number in range(50):
    spool.append(b'{"number":%d}' % number)
print(len(spool), spool.is_durable)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spool.append(b'{"number":50}')
print(len(spool), spool.is_durable)
spool.close()
"""
    path = tmp_path / "spool.jsonl"
    finished = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, check=True, capture_output=True, text=True)
    warning, full, mended = finished.stdout.splitlines()
    assert not missing(warning, "in memory")
    assert (full, mended) == ("50 False", "51 True")
    assert left_in(path) == list(range(51))
    assert os.listdir(tmp_path) == [path.name]


def test_a_missing_folder_is_a_sink_error(tmp_path: Path) -> None:
    with raises(SinkError, str(tmp_path / "nowhere")):
        Spool(10, tmp_path / "nowhere" / "spool.jsonl")
