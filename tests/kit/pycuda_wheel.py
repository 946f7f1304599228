"""pycuda for the Python that runs this, built without a GPU, a driver or a CUDA toolkit: `python -m tests.kit.pycuda_wheel` installs it.

pycuda is published as source only. Its build wants CUDA's headers, which the package index has, and a driver's library to link to,
for which an empty one of the same name stands. What comes out is the pycuda that runs on a GPU: it finds the driver when it is
imported. Takes g++ and two minutes; the wheel is kept with the environment.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from zipfile import ZipFile

__all__ = ["headers", "is_installed", "wheel"]

PYCUDA = "pycuda==2026.1"
HEADERS = ("nvidia-cuda-runtime==13.0.*", "nvidia-cuda-profiler-api==13.0.*", "nvidia-cuda-crt==13.0.*")
CACHE = Path(sys.prefix) / "cuda-kit"

# What its configure script would write: no OpenGL, no random numbers, Boost from its own sources.
CONFIGURATION = """
USE_SHIPPED_BOOST = True
BOOST_INC_DIR = BOOST_LIB_DIR = BOOST_PYTHON_LIBNAME = BOOST_THREAD_LIBNAME = []
BOOST_COMPILER = 'gcc43'
CUDA_TRACE = CUDA_ENABLE_GL = CUDA_ENABLE_CURAND = False
CUDA_INC_DIR = [{headers!r}]
CUDADRV_LIB_DIR = [{libraries!r}]
CUDADRV_LIBNAME = ['cuda']
CUDART_LIB_DIR = CUDART_LIBNAME = CURAND_LIB_DIR = CURAND_LIBNAME = CXXFLAGS = LDFLAGS = []
"""


def main() -> None:
    """Install pycuda into this environment, if it is not there."""
    if not is_installed():
        _run(*PIP, "install", "-q", wheel())


def is_installed() -> bool:
    """Whether this Python has pycuda; whether it finds a driver is another question."""
    return importlib.util.find_spec("pycuda") is not None


def wheel() -> Path:
    """The wheel, built the first time.

    Raises:
        OSError, subprocess.SubprocessError: the package index does not answer, or g++ is missing.
    """
    folder = CACHE / f"{PYCUDA}-{sys.implementation.cache_tag}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=_cache()) as scratch:
            _build(Path(scratch)).rename(folder)
    [built] = folder.glob("*.whl")
    return built


def headers() -> Path:
    """The folder with `cuda.h`, fetched the first time; 2 MB.

    Raises:
        OSError, subprocess.SubprocessError: the package index does not answer.
    """
    folder = CACHE / "headers"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=_cache()) as scratch:
            _fetch(Path(scratch), "--only-binary=:all:", *HEADERS)
            for package in Path(scratch).glob("*.whl"):
                ZipFile(package).extractall(Path(scratch) / "unpacked")
            [include] = Path(scratch).glob("unpacked/nvidia/*/include")
            include.rename(folder)
    return folder


def _build(scratch: Path) -> Path:
    _run(*PIP, "install", "-q", "setuptools>=70", "wheel")
    _fetch(scratch, "--no-binary=:all:", "--no-build-isolation", PYCUDA)
    [archive] = scratch.glob("pycuda-*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(scratch, filter="data")
    [folder] = [path for path in scratch.glob("pycuda-*") if path.is_dir()]
    driver = scratch / "libcuda.so"
    _run("g++", "-shared", "-xc++", os.devnull, "-Wl,-soname,libcuda.so.1", "-o", driver)
    (folder / "siteconf.py").write_text(CONFIGURATION.format(headers=str(headers()), libraries=str(scratch)))
    # The linker is to note the driver's name although the empty library has nothing that is used.
    flags = {"CFLAGS": "-O1 -g0 -w", "LDFLAGS": "-Wl,--no-as-needed"}
    _run(*PIP, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", scratch / "wheel", folder, **flags)
    return scratch / "wheel"


def _fetch(folder: Path, *arguments: str) -> None:
    _run(*PIP, "download", "-q", "--no-deps", "-d", folder, *arguments)


PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def _cache() -> Path:
    CACHE.mkdir(exist_ok=True)
    return CACHE


def _run(*command: object, **environment: str) -> None:
    subprocess.run([*map(str, command)], env=os.environ | environment, check=True, stdin=subprocess.DEVNULL, timeout=900)


if __name__ == "__main__":
    main()
