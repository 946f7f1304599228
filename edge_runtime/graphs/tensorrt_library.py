"""NVIDIA's TensorRT from JetPack or a workstation's packages, or TensorRT-RTX: imported when it is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from edge_runtime.bundle.engines import FLAVOURS
from edge_runtime.errors import BackendUnavailable

__all__ = ["Library", "TensorRtLog", "load_flavour", "open_log"]

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


class TensorRtLog:
    """What TensorRT said that went wrong, newest last; everything goes to the debug log."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def take(self, message: str, *, is_error: bool) -> None:
        log.debug("%s", message)
        if is_error:
            self.errors.append(" ".join(message.split()))

    @property
    def reason(self) -> str:
        """The error to show: the last one that is about the engine, not about the missing GPU."""
        telling = [error for error in self.errors if "cudaError" not in error] or self.errors
        return telling[-1].rstrip(".") if telling else "no reason given"


def load_flavour(flavour: str) -> Library:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        BackendUnavailable: it is not there; the message says what to install.
    """
    try:
        return Library(flavour, IMPORTS[flavour]())
    except (ImportError, OSError) as error:  # OSError: the bindings are there, NVIDIA's libraries are not
        raise BackendUnavailable(
            f"{FLAVOURS[flavour]}: expected the module {flavour.replace('-', '_')}, got '{error}'. {REMEDIES[flavour]}"
        ) from error


def open_log(trt: Any) -> tuple[Any, TensorRtLog]:
    """A logger for TensorRT, and what it has heard. The logger must live as long as what it is given to."""
    heard = TensorRtLog()

    class Logger(trt.ILogger):  # type: ignore[misc]  # TensorRT's class, known when it is imported
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            heard.take(message, is_error=severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR))

    return Logger(), heard


def _tensorrt() -> ModuleType:
    import tensorrt as trt

    return cast(ModuleType, trt)


def _tensorrt_rtx() -> ModuleType:
    import tensorrt_rtx as trt

    return cast(ModuleType, trt)


IMPORTS: dict[str, Callable[[], ModuleType]] = {"tensorrt": _tensorrt, "tensorrt-rtx": _tensorrt_rtx}
