"""The stand-in for nvcc: it compiles kernels for the CPU, into what the stand-in driver loads as a cubin."""

from __future__ import annotations

import hashlib
import stat
import struct
import sys
import tempfile
from pathlib import Path

from tests.kit.cuda_emulation.compilation import HERE, compile_for_cpu

__all__ = ["write_nvcc"]

ROOT = Path(__file__).parents[3]


def write_nvcc(folder: Path) -> Path:
    """An executable `nvcc` in a folder."""
    path = folder / "nvcc"
    path.write_text(f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' -m tests.kit.cuda_driver.nvcc \"$@\"\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def main(arguments: list[str]) -> int:
    """What `nvcc --version` and `nvcc -cubin -arch=sm_NN … -o OUT SOURCE` do."""
    if arguments == ["--version"]:
        emulation = b"".join(path.read_bytes() for path in sorted(HERE.iterdir()) if path.is_file())
        print("stand-in nvcc", hashlib.sha256(emulation).hexdigest()[:16])
        return 0
    sm = next(argument.removeprefix("-arch=sm_") for argument in arguments if argument.startswith("-arch=sm_"))
    if int(sm) > 120:
        print(f"nvcc fatal   : Value 'sm_{sm}' is not defined for option 'gpu-architecture'", file=sys.stderr)
        return 1
    out, source = Path(arguments[arguments.index("-o") + 1]), Path(arguments[-1])
    with tempfile.TemporaryDirectory() as folder:
        try:
            library = compile_for_cpu(source.parent, Path(folder) / "kernels.so").read_bytes()
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 2
    out.write_bytes(struct.pack("<8sII", b"STANDIN1", int(sm), len(library)) + library)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
