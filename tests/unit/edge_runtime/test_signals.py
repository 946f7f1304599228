"""An interruption never lands in an import, where it could be lost, or leave half a library behind."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.kit.commands import command_line, environment

LIBRARY = """
import time
print("importing", flush=True)
end = time.monotonic() + 1
try:
    while time.monotonic() < end:
        time.sleep(0.01)
except KeyboardInterrupt:
    print("lost", flush=True)
"""
COMMAND = """
import sys, time
from edge_runtime.commands import run_command
from edge_runtime.commands.signals import StopSignals

def body() -> int:
    with StopSignals().interrupting():
        import library
        print("imported", flush=True)
        time.sleep(30)
    return 0

sys.exit(run_command(body, is_debug=False))
"""


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interruption_waits_for_the_end_of_an_import(number: signal.Signals, times: int, tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(LIBRARY)
    (tmp_path / "command.py").write_text(COMMAND)
    with subprocess.Popen(
        command_line("command"), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "importing\n"
            for _ in range(times):
                process.send_signal(number)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "imported\n", "interrupted\n")
