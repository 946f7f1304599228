"""Kernels compiled for the CPU: their own sources, as C++ against a header that stands for CUDA."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["KERNELS", "compile_for_cpu", "emulated_kernels", "kernel_names"]

HERE = Path(__file__).parent
KERNELS = HERE.parents[2] / "edge_runtime" / "devices" / "cuda" / "kernels"
NAME = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(')
FLAGS = ["-std=c++20", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-Wall", "-Werror", "-Wno-unknown-pragmas"]
FLAGS += ["-shared", "-fPIC", "-fvisibility=hidden", "-ftls-model=initial-exec", "-pthread"]
MAIN = """\
#include "emulation.h"
#include "kernels.cu"
#include "launcher.h"
const std::vector<emulation::Kernel> emulation::kernels = {%s};
"""


def kernel_names(sources: Path) -> list[str]:
    """All kernels in a folder of sources."""
    return [name for path in sorted(sources.glob("*.cu*")) for name in NAME.findall(path.read_text())]


def compile_for_cpu(sources: Path, out: Path) -> Path:
    """Compile `kernels.cu` of a folder to a shared library with `emulated_launch`; `out` is there whole or not at all.

    Raises:
        RuntimeError: they do not compile.
    """
    names = ", ".join(f'emulation::kernel<{name}>("{name}")' for name in kernel_names(sources))
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        built = Path(folder) / out.name
        command = ["g++", *FLAGS, f"-I{HERE}", f"-I{sources}", "-x", "c++", "-", "-o", built]
        result = subprocess.run(command, input=MAIN % names, capture_output=True, text=True, timeout=300, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"{sources}: expected kernels that g++ compiles, got:\n{result.stderr}")
        return built.replace(out)


@cache
def emulated_kernels() -> Path:
    """The project's kernels, compiled for the CPU; kept between runs, under the hash of all that went in."""
    files = [path for folder in (HERE, KERNELS) for path in sorted(folder.iterdir()) if path.is_file()]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    kept = Path(tempfile.gettempdir()) / f"edge-runtime-kernels-{os.getuid()}"
    kept.mkdir(mode=0o700, exist_ok=True)
    library = kept / f"{digest}.so"
    return library if library.exists() else compile_for_cpu(KERNELS, library)
