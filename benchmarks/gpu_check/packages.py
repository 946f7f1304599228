"""What the check needs and what it can use; asked before anything of the project is imported, so with the standard library alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["ESSENTIAL", "OPTIONAL", "Package", "Probe", "missing_essentials", "version_of", "why_not"]


@dataclass(frozen=True)
class Package:
    """A module to import, and what pip calls it.

    Attributes:
        loss: what does not run without it.
    """

    module: str
    pip: str
    loss: str = "anything"


ESSENTIAL = (
    Package("numpy", "numpy"),
    Package("msgspec", "msgspec"),
    Package("safetensors", "safetensors"),
    Package("threadpoolctl", "threadpoolctl"),
    Package("tqdm", "tqdm"),
    Package("cv2", "opencv-python-headless"),
    Package("pycuda", "pycuda"),
    Package("pytest", "pytest"),
)
OPTIONAL = (
    Package("onnxruntime", "onnxruntime-gpu", "graphs in ONNX Runtime, and all that is held against them"),
    Package("torch", "torch", "the yardstick, and the export of the full-size model"),
    Package("onnx", "onnx", "the export of the full-size model"),
    Package("tensorrt", "tensorrt", "engines of TensorRT"),
    Package("tensorrt_rtx", "tensorrt-rtx-cu13", "engines of TensorRT-RTX"),
)

IMPORT_S = 120.0  # PyTorch from a cold disk

Probe = Callable[[str], "str | None"]


@cache
def why_not(module: str) -> str | None:
    """Why a module cannot be imported, None where it can. Tried in a process of its own: it may lack what it needs, or crash."""
    try:
        tried = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=IMPORT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"importing it takes more than {IMPORT_S:.0f} s"
    if tried.returncode < 0:
        return f"importing it ends the process by signal {-tried.returncode}"
    return (tried.stderr.strip().splitlines() or ["it ends the process"])[-1] if tried.returncode else None


def missing_essentials(probe: Probe = why_not) -> str | None:
    """One message that names all that is missing and why, with what to install; None where nothing is."""
    missing = {package: reason for package in ESSENTIAL if (reason := probe(package.module)) is not None}
    if not missing:
        return None
    names = ", ".join(f"{package.module} ({reason})" for package, reason in missing.items())
    install = " ".join(package.pip for package in missing)
    return f"gpu-check: expected modules that can be imported, cannot import {names}. Install them: pip install {install}"


def version_of(package: Package) -> str | None:
    """What is installed, by any of the names under which it is published; None where nothing says."""
    for name in (package.pip, package.module, *ALIASES.get(package.module, ())):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return None


ALIASES = {
    "cv2": ("opencv-python", "opencv-contrib-python"),
    "onnxruntime": ("onnxruntime",),
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt_rtx_cu13", "tensorrt-rtx"),
}
