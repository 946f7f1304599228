"""What the check needs and what it can use; asked before anything of the project is imported, so with the standard library alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

__all__ = ["ESSENTIAL", "OPTIONAL", "Package", "is_here", "missing_essentials", "version_of"]


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

Finder = Callable[[str], bool]


def is_here(module: str) -> bool:
    """The module can be found; whether it also loads is another question."""
    return importlib.util.find_spec(module) is not None


def missing_essentials(has: Finder = is_here) -> str | None:
    """One message that names all that is missing, with what to install; None where nothing is."""
    missing = [package for package in ESSENTIAL if not has(package.module)]
    if missing:
        names = ", ".join(package.module for package in missing)
        return (
            f"gpu-check: expected the modules {names}, not here. Install them: pip install {' '.join(package.pip for package in missing)}"
        )
    return None


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
