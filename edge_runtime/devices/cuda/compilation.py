"""Kernels as machine code of one GPU architecture: compiled by nvcc the first time, kept for the next.

The names of kept files say what they were made from: sources, compiler and architecture. So nothing old is ever taken.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_runtime.errors import BackendUnavailable, SinkError
from edge_runtime.files import write_atomically

__all__ = ["KERNELS", "compiled_kernels", "find_nvcc"]

KERNELS = Path(__file__).parent / "kernels"
FLAGS = ("-O3", "-std=c++17")
TOOLKITS = Path("/usr/local")
QUIETLY: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
    "errors": "replace",
    "timeout": 300,
    "check": False,
}

log = logging.getLogger(__name__)


def compiled_kernels(sm: int, *, sources: Path = KERNELS) -> bytes:
    """The cubin of `kernels.cu` for an architecture, from the cache or compiled now.

    Args:
        sm: compute capability, 87 for 8.7.
        sources: the folder with kernels.cu and what it includes.

    Raises:
        BackendUnavailable: nvcc is missing, does not compile for this architecture, or has no folder to write to.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise BackendUnavailable(
            "CUDA: expected nvcc on PATH, in CUDA_HOME or in /usr/local/cuda, found none. It compiles the kernels once, for this GPU. "
            "On a Jetson: sudo apt-get install nvidia-jetpack; elsewhere CUDA's toolkit, or: pip install nvidia-cuda-nvcc nvidia-cuda-cccl"
        )
    kept = _cache() / f"kernels-sm{sm}-{_key(nvcc, sources)}.cubin"
    try:
        return kept.read_bytes()
    except OSError:
        log.info("compiling CUDA kernels for sm_%d with %s, once", sm, nvcc)
    with _scratch(kept.parent) as scratch:
        cubin = _compile(nvcc, sm, sources, scratch)
    try:
        write_atomically(kept, cubin)
    except SinkError as error:
        log.warning("compiled kernels cannot be kept, so that every start compiles them again: %s", error)
    return cubin


def find_nvcc() -> Path | None:
    """CUDA's compiler: on PATH, in CUDA_HOME, where JetPack and the toolkit put it, or as a Python package."""
    found = shutil.which("nvcc")
    if found is not None:
        return Path(found)
    homes = [Path(os.environ["CUDA_HOME"])] if os.environ.get("CUDA_HOME") else []
    homes += sorted(TOOLKITS.glob("cuda*"))
    homes += [home for folder in sys.path for home in sorted(Path(folder).glob("nvidia/cu*"))]
    return next((home / "bin/nvcc" for home in homes if os.access(home / "bin/nvcc", os.X_OK)), None)


@contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    """A folder for what nvcc leaves between its steps: in the cache, where it can be written, else in the system's.

    /tmp may be closed to a service, and nvcc looks nowhere else by itself.
    """
    try:
        beside.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".compiling-", dir=beside)
    except OSError:
        folder = _temporary_folder(beside)
    with folder as name:
        yield Path(name)


def _temporary_folder(beside: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="edge-runtime-")
    except OSError as error:
        raise BackendUnavailable(
            f"{beside}: expected a folder that can be written, or one for temporary files, to compile the kernels in, got: {error}. "
            "Set XDG_CACHE_HOME or TMPDIR to one."
        ) from error


def _compile(nvcc: Path, sm: int, sources: Path, scratch: Path) -> bytes:
    out = scratch / "kernels.cubin"
    said = _run([str(nvcc), "-cubin", f"-arch=sm_{sm}", *FLAGS, "-o", str(out), str(sources / "kernels.cu")], TMPDIR=str(scratch))
    if not out.exists():
        raise BackendUnavailable(
            f"{nvcc}: expected it to compile {sources / 'kernels.cu'} for sm_{sm}, it says: {_complaint(said)}. "
            f"It needs g++ (sudo apt-get install g++) and room in {scratch.parent}, and must know this GPU: a newer GPU wants a newer "
            "CUDA toolkit."
        )
    return out.read_bytes()


def _key(nvcc: Path, sources: Path) -> str:
    digest = hashlib.sha256(repr((FLAGS, _run([str(nvcc), "--version"]))).encode())
    for file in sorted(sources.glob("*.cu*")):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:32]


def _run(command: list[str], **environment: str) -> str:
    """All that a command says, whether it succeeds or not."""
    try:
        finished = subprocess.run(command, env=os.environ | environment, **QUIETLY)  # noqa: S603  (the compiler that the user installed, and no shell)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendUnavailable(f"{command[0]}: expected to run nvcc, got: {error}. Reinstall the CUDA toolkit.") from error
    return str(finished.stdout)


def _complaint(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line or "fatal" in line), lines[-1] if lines else "nothing").rstrip(".")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-runtime"
