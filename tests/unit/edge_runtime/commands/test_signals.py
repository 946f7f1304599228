"""An interruption never lands in an import, where it could be lost, or leave half a library behind; and it comes once."""

from __future__ import annotations

import signal
import subprocess
import time
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
import atexit, sys, time
from edge_runtime.commands import run_command
from edge_runtime.commands.signals import StopSignals

def body() -> int:
{body}
    time.sleep(30)
    return 0

atexit.register(time.sleep, 0.2)  # an interruption that came twice would show
sys.exit(run_command(body, is_debug=False))
"""
WITHIN = """
    with StopSignals().interrupting():
        import library
        print("imported", flush=True)
        time.sleep(30)
"""
TO_ITS_END = """
    with StopSignals().interrupting():
        import library
        print("imported", flush=True)
    print("went on", flush=True)
"""
BEFORE = """
    signals = StopSignals()
    import library
    print("imported", flush=True)
    with signals.interrupting():
        print("went on", flush=True)
"""
OUTSIDE = """
    signals = StopSignals()
    with signals.interrupting():
        pass
    import library
    print("imported", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("body", "times"),
    [(WITHIN, 1), (WITHIN, 3), (TO_ITS_END, 1), (TO_ITS_END, 3), (BEFORE, 1), (BEFORE, 2), (BEFORE, 3), (OUTSIDE, 2), (OUTSIDE, 3)],
    ids=lambda value: {WITHIN: "within", TO_ITS_END: "to its end", BEFORE: "before", OUTSIDE: "outside"}.get(value, value),
)
def test_an_interruption_waits_for_the_end_of_an_import(body: str, times: int, number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(LIBRARY)
    (tmp_path / "command.py").write_text(COMMAND.format(body=body))
    with subprocess.Popen(
        command_line("command"), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "importing\n"
            for _ in range(times):
                process.send_signal(number)
                time.sleep(0.1)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, "imported\n", "interrupted\n")
