"""What cannot be printed: a full disk, a reader that has gone, a terminal that was closed."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from edge_runtime.commands.printing import print_forgivingly
from tests.kit.wording import missing

WORKS_ON = """
import logging, sys
from tqdm import tqdm
from edge_runtime.commands import run_command, set_up_logging

def body():
    for number in tqdm(range(3), disable=False, mininterval=0):
        print("status", number, file=sys.stderr, flush=True)
        logging.getLogger("edge_runtime").warning("log %d", number)
        tqdm.write("an alarm", file=sys.stderr)
        print("result", number, flush=True)
    print("the last line")
    open(sys.argv[1], "w").close()
    return int(sys.argv[2])

set_up_logging(is_debug=False)
sys.exit(run_command(body, is_debug=False))
"""


def full_disk() -> int:
    if not os.path.exists("/dev/full"):
        pytest.skip("not here: /dev/full")
    return os.open("/dev/full", os.O_WRONLY)


def gone_reader() -> int:
    its_end, ours = os.pipe()
    os.close(its_end)
    return ours


def closed_terminal() -> int:
    its_end, ours = pty.openpty()
    os.close(its_end)
    return ours


def ended(done: Any, code: int, *, out: int = subprocess.PIPE, err: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """What came of the body, which has written to its end; closes the descriptors."""
    command = [sys.executable, "-X", "dev", "-c", WORKS_ON, str(done), str(code)]
    finished = subprocess.run(command, stdout=out, stderr=err, text=True, timeout=30, check=False)
    for descriptor in {out, err} - {subprocess.PIPE}:
        os.close(descriptor)
    assert done.exists()
    return finished


@pytest.mark.parametrize("code", [0, 130])
@pytest.mark.parametrize("lost", [full_disk, gone_reader, closed_terminal])
def test_without_stderr_the_work_is_done_and_its_results_are_printed(lost: Callable[[], int], code: int, tmp_path: Any) -> None:
    finished = ended(tmp_path / "done", code, err=lost())
    assert (finished.returncode, finished.stdout) == (code, "result 0\nresult 1\nresult 2\nthe last line\n")


@pytest.mark.parametrize("code", [0, 130])
@pytest.mark.parametrize("lost", [gone_reader, closed_terminal])
def test_who_reads_no_results_any_more_misses_none(lost: Callable[[], int], code: int, tmp_path: Any) -> None:
    finished = ended(tmp_path / "done", code, out=lost())
    assert finished.returncode == code
    assert finished.stderr.count("an alarm\n") == 3
    assert not any(word in finished.stderr for word in ("Error", "Exception", "error:"))


@pytest.mark.parametrize(("code", "then"), [(0, 1), (130, 130)])
def test_results_that_a_full_disk_did_not_take_are_an_error(code: int, then: int, tmp_path: Any) -> None:
    finished = ended(tmp_path / "done", code, out=full_disk())
    assert finished.returncode == then
    assert finished.stderr.splitlines()[-1].startswith("error: stdout: ")
    assert not missing(finished.stderr, "'No space left on device'")
    assert not any(word in finished.stderr for word in ("Error", "Exception"))


@pytest.mark.parametrize(("lost", "code"), [(gone_reader, 0), (closed_terminal, 0), (full_disk, 1)])
def test_with_nothing_to_print_on_the_code_tells_what_came_of_it(lost: Callable[[], int], code: int, tmp_path: Any) -> None:
    both = lost()
    assert ended(tmp_path / "done", 0, out=both, err=both).returncode == code


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_stream_that_was_never_open_is_not_missed(closed: str, tmp_path: Any) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-X", "dev", "-c", WORKS_ON, str(tmp_path / "done"), "0"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "done").exists()


def test_it_is_printed_again_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    its_end, ours = os.pipe()
    os.set_blocking(ours, False)
    with open(its_end, "rb", buffering=0) as reader, open(ours, "w", encoding="utf-8", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "stdout", sys.stdout)
        print_forgivingly()
        for _ in range(5000):
            print("x" * 99, file=sys.stderr)
        assert set(reader.read(1 << 20)) == set(b"x\n")
        print("room again", file=sys.stderr)
        assert reader.read(1 << 20).endswith(b"room again\n")
