"""One part in a process of its own, ended at its limit."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

__all__ = ["UNAVAILABLE", "Ended", "end_with_check", "run_part"]

UNAVAILABLE = 3
"""A part's exit code where a library, a compiler or a provider is not here; the last line it writes says which."""

ROOT = Path(__file__).parents[2]
LONGEST_TEXT = 3000  # characters
DECENT_S = 3.0  # to end in, when asked to
PR_SET_PDEATHSIG = 1  # sys/prctl.h
CHECK_PID = "GPU_CHECK_PID"


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        outcome: `done`, `not run`, `failed` or `out of time`.
        text: the end of what it wrote, where it is not done; where it was not run, why.
    """

    outcome: str
    seconds: float
    text: str


def run_part(name: str, settings: str, work: Path, limit_s: float) -> Ended:
    """Run `python -m benchmarks.gpu_check.part`; its findings are in `<work>/<name>.jsonl`.

    Args:
        settings: as `encode_settings` gives them.
        work: a folder that the parts share.
    """
    log = work / f"{name}.log"
    command = [sys.executable, "-m", "benchmarks.gpu_check.part", name, settings, str(work)]
    started = monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=_environment(work), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        outcome = _wait(process, limit_s)
    seconds = monotonic() - started
    written = log.read_text(encoding="utf-8", errors="replace").strip()
    texts = {"done": "", "not run": written.rpartition("\n")[2]}
    return Ended(outcome, seconds, texts.get(outcome, f"{written[-LONGEST_TEXT:]}\n({_how_ended(process.returncode)})".strip()))


def end_with_check() -> None:
    """Called by a part: when the check that began it goes, however it goes, the part goes, too."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.environ.get(CHECK_PID, str(os.getppid())) != str(os.getppid()):  # it is gone already
        os.kill(os.getpid(), signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> str:
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return _end(process)
    except BaseException:
        _end(process)
        raise
    return {0: "done", UNAVAILABLE: "not run"}.get(code, "failed")


def _end(process: subprocess.Popen[bytes]) -> str:
    """With everything it started: compilers and test runs have children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(DECENT_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    process.wait()
    return "out of time"


def _environment(work: Path) -> dict[str, str]:
    """No plug-in of another project's tests takes part, and what is compiled is kept for this check alone."""
    return os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))),
        "PYTHONUNBUFFERED": "1",
        CHECK_PID: str(os.getpid()),
        "XDG_CACHE_HOME": str(work / "cache"),
    }


def _how_ended(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
