"""How a command ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edge_runtime.commands import READERS

ENDS = """
import atexit, sys, threading
from edge_runtime.commands import run_command
from edge_runtime.errors import ConfigError

def interrupted(): raise KeyboardInterrupt
def refused(): raise ConfigError("so it is")

atexit.register(print, "Python's own end")
threading.Thread(target=threading.Event().wait, name=sys.argv[2], daemon=True).start()
print("out")
sys.exit(run_command({"done": lambda: 0, "interrupted": interrupted, "refused": refused}[sys.argv[1]], is_debug=False))
"""


@pytest.mark.parametrize(
    ("way", "code", "said"), [("done", 0, ""), ("interrupted", 130, "interrupted\n"), ("refused", 1, "error: so it is\n")]
)
@pytest.mark.parametrize("thread", [*READERS, "another"])
def test_where_a_reader_hangs_the_process_ends_without_pythons_own_end(way: str, code: int, said: str, thread: str) -> None:
    finished = subprocess.run([sys.executable, "-c", ENDS, way, thread], capture_output=True, text=True, timeout=30)
    assert (finished.returncode, finished.stderr) == (code, said)
    assert finished.stdout == ("out\n" if thread in READERS else "out\nPython's own end\n")
