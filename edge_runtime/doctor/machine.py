"""A machine as the doctor may look at it: files, tools and Python modules, none of which can take the doctor down."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Machine", "Probe"]

# What a library prints stands before the answer, which is the last line; and one that crashes when the process ends has answered
# by then.
PROBE = """
import json, os, sys
from importlib.metadata import PackageNotFoundError, version

def versions(*names):
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found

sys.path[:] = [path for path in sys.path if path]
scope = {"versions": versions}
try:
    exec(sys.argv[1], scope)
    answer = {"facts": scope["facts"]}
except ModuleNotFoundError as error:
    answer = {"absent": error.name or "", "failure": str(error)}
except BaseException as error:
    answer = {"failure": f"{type(error).__name__}: {error}"}
os.write(1, b"\\n" + json.dumps(answer).encode())
os._exit(0)
"""


@dataclass(frozen=True)
class Probe:
    """What came of a piece of Python in a process of its own.

    Attributes:
        facts: what it found; empty if it failed.
        failure: why it failed; empty if it did not.
        absent: the module that is not installed, if that was the reason.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    absent: str = ""

    def lacks(self, module: str) -> bool:
        """The module itself is not installed; False where it is there and fails."""
        return self.absent == module.partition(".")[0] or self.absent == module


@dataclass(frozen=True)
class Machine:
    """The machine to examine.

    Args:
        root: where `/proc`, `/etc`, `/dev` and the like lie.
        search_path: folders of tools, as in PATH; None: this process's.
        python: the interpreter whose modules are looked at.
        folder: the folder in which edge-run would run.
        timeout_s: how long a tool or a module may take.
    """

    root: Path = Path("/")
    search_path: str | None = None
    python: str = sys.executable
    folder: Path = field(default_factory=Path)
    timeout_s: float = 20.0

    @property
    def pip(self) -> str:
        """The start of a command that changes this interpreter's packages, whichever environment is active."""
        return f"{self.python} -m pip"

    def path(self, place: str) -> Path:
        """A place such as `/proc/meminfo`, below the root."""
        return self.root / place.lstrip("/")

    def read(self, place: str) -> str | None:
        """The text of a file, without zero bytes and space around it; None if there is none, or it may not be read."""
        try:
            return self.path(place).read_text(encoding="utf-8", errors="replace").strip("\0\n\t ")
        except OSError:
            return None

    def has(self, place: str) -> bool:
        """There is such a file or folder, and this user may know."""
        return os.path.exists(self.path(place))  # Path.exists raises where a folder on the way is closed

    def has_tool(self, name: str) -> bool:
        return shutil.which(name, path=self.search_path) is not None

    def run(self, name: str, *arguments: str) -> str | None:
        """What a tool prints; None if it is not there, fails or takes too long."""
        tool = shutil.which(name, path=self.search_path)
        if tool is None:
            return None
        try:
            ended = _run([tool, *arguments], self.timeout_s)
        except OSError:  # built for another machine, or its interpreter is missing
            return None
        return ended.out if ended.code == 0 else None

    def probe(self, code: str) -> Probe:
        """Run Python code that sets `facts`, a dictionary; it may raise, crash or hang."""
        ended = _run([self.python, "-c", PROBE, code], self.timeout_s)
        if ended.code is None:
            return Probe(failure=f"no answer within {self.timeout_s:g} s")
        if ended.code < 0:
            return Probe(failure=f"crashed ({signal.Signals(-ended.code).name})")
        try:
            answer = Probe(**json.loads(ended.out.rpartition("\n")[2]))
        except (ValueError, TypeError):
            return Probe(failure=f"ended without an answer, exit code {ended.code}")
        return Probe(answer.facts, _one_line(answer.failure), answer.absent)


@dataclass(frozen=True)
class _Ended:
    """A process that ended; `code` is None if it had to be killed because it took too long."""

    code: int | None
    out: str


def _run(command: list[str], timeout_s: float) -> _Ended:
    # A session of its own: a tool that hangs is killed with the processes it started, which would keep the pipe open.
    with subprocess.Popen(  # noqa: S603  (no shell, and no command from outside)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return _Ended(None, "")
    return _Ended(process.returncode, out)


def _one_line(text: str, longest: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
