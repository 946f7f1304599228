"""A Python 3.10 of this machine, if it has one, with the newest packages that the runtime can have there.

None comes from a package index: Debian has others, and what the indexes of Python and Node list fetches its files from elsewhere.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["floor_environment", "floor_python"]

PACKAGES = ["-e", ".[cpu,video,report,alerts]", "hypothesis", "onnx", "pytest"]


@functools.cache
def floor_python() -> Path | None:
    """Python 3.10 on the PATH, or one of pyenv's."""
    found = shutil.which("python3.10")
    candidates = [*([Path(found)] if found else []), *sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))]
    return next((python for python in candidates if _has_venv(python)), None)


def floor_environment() -> Path:
    """The `python` of a virtual environment with the runtime and what its tests need; kept beside the one that runs the tests.

    Raises:
        CalledProcessError: a package has nothing for Python 3.10; its output tells which.
    """
    folder = Path(sys.prefix) / "python3.10"
    stamp, wanted = folder / "ready", hashlib.sha256(Path("pyproject.toml").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        _run(floor_python(), "-m", "venv", "--clear", folder)
        _run(folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES)
        stamp.write_text(wanted)
    return folder / "bin" / "python"


def _has_venv(python: Path) -> bool:
    """pyenv's shim is on the PATH even where it leads nowhere."""
    return subprocess.run([python, "-c", "import ensurepip, venv"], capture_output=True, timeout=60, check=False).returncode == 0


def _run(*command: object) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, timeout=580)
