"""Which TensorRT there is: NVIDIA's own from JetPack or a workstation's packages, or TensorRT-RTX.

`python -m export.tensorrt_library` says which, and fails where there is none.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from edge_runtime.commands import run_command
from edge_runtime.engines import FLAVOURS
from edge_runtime.errors import BackendUnavailable
from export.gpu import Gpu, find_gpu

__all__ = ["BuildLog", "Library", "load_library", "open_log"]

REMEDIES = {
    "tensorrt": (
        "On a Jetson it comes with JetPack (sudo apt install nvidia-jetpack, and a venv with --system-site-packages); "
        "on a workstation: pip install tensorrt"
    ),
    "tensorrt-rtx": "Install it: pip install tensorrt-rtx-cu13",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Library:
    """A TensorRT that was imported.

    Attributes:
        flavour: a key of `FLAVOURS`.
        trt: the Python module.
    """

    flavour: str
    trt: ModuleType

    @property
    def version(self) -> str:
        return str(self.trt.__version__)

    @property
    def title(self) -> str:
        """Name and version, for people."""
        return f"{FLAVOURS[self.flavour]} {self.version}"


class BuildLog:
    """What TensorRT said that went wrong, newest last; everything goes to the debug log."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def take(self, message: str, *, is_error: bool) -> None:
        log.debug("%s", message)
        if is_error:
            self.errors.append(" ".join(message.split()))

    @property
    def reason(self) -> str:
        """The error to show: the last one that is about the build, not about the missing GPU."""
        telling = [error for error in self.errors if "cudaError" not in error] or self.errors
        return telling[-1].rstrip(".") if telling else "no reason given"


def load_library(flavour: str, gpu: Gpu | None) -> Library:
    """Import TensorRT; `auto` takes TensorRT where there is a GPU for it, else TensorRT-RTX, which builds without one.

    Raises:
        BackendUnavailable: what was asked for is not there; the message says what to install.
    """
    if flavour != "auto":
        return Library(flavour, _import(flavour))
    order = ("tensorrt", "tensorrt-rtx") if gpu else ("tensorrt-rtx", "tensorrt")
    missing = []
    for name in order:
        try:
            library = Library(name, _import(name))
        except BackendUnavailable as error:
            missing.append(str(error))
        else:
            log.debug("%s builds; a GPU is %s", library.title, gpu.name if gpu else "not there")
            return library
    raise BackendUnavailable(" ".join(missing))


def open_log(trt: Any) -> tuple[Any, BuildLog]:
    """A logger for TensorRT, and what it has heard. The logger must live as long as what it is given to."""
    heard = BuildLog()

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            heard.take(message, is_error=severity == trt.ILogger.ERROR)

    return Logger(), heard


def _import(flavour: str) -> ModuleType:
    try:
        return IMPORTS[flavour]()
    except (ImportError, OSError) as error:  # OSError: the bindings are there, NVIDIA's libraries are not
        raise BackendUnavailable(
            f"{FLAVOURS[flavour]}: expected the module {flavour.replace('-', '_')}, got '{error}'. {REMEDIES[flavour]}"
        ) from error


def _tensorrt() -> ModuleType:
    import tensorrt as trt

    return cast(ModuleType, trt)


def _tensorrt_rtx() -> ModuleType:
    import tensorrt_rtx as trt

    return cast(ModuleType, trt)


def _say_what_is_there() -> int:
    gpu = find_gpu()
    library = load_library("auto", gpu)
    print(f"{library.title}; {gpu.name if gpu else 'no NVIDIA GPU answers'}")
    return 0


IMPORTS: dict[str, Callable[[], ModuleType]] = {"tensorrt": _tensorrt, "tensorrt-rtx": _tensorrt_rtx}


if __name__ == "__main__":
    sys.exit(run_command(_say_what_is_there, is_debug=False))
