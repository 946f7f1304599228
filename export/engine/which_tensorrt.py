"""Which TensorRT builds here. `python -m export.engine.which_tensorrt` says which, and fails where there is none."""

from __future__ import annotations

import logging
import sys

from edge_runtime.commands import run_command
from edge_runtime.devices.gpu import FoundGpu, find_gpu
from edge_runtime.errors import BackendUnavailable
from edge_runtime.graphs.tensorrt_library import Library, load_flavour

__all__ = ["load_library"]

log = logging.getLogger(__name__)


def load_library(flavour: str, gpu: FoundGpu | None) -> Library:
    """Import TensorRT; `auto` takes TensorRT where there is a GPU for it, else TensorRT-RTX, which builds without one.

    Raises:
        BackendUnavailable: what was asked for is not there; the message says what to install.
    """
    if flavour != "auto":
        return load_flavour(flavour)
    order = ("tensorrt", "tensorrt-rtx") if gpu else ("tensorrt-rtx", "tensorrt")
    missing = []
    for name in order:
        try:
            library = load_flavour(name)
        except BackendUnavailable as error:
            missing.append(str(error))
        else:
            log.debug("%s builds; a GPU is %s", library.title, gpu.name if gpu else "not there")
            return library
    raise BackendUnavailable(" ".join(missing))


def _say_what_is_there() -> int:
    gpu = find_gpu()
    library = load_library("auto", gpu)
    print(f"{library.title}; {gpu.name if gpu else 'no NVIDIA GPU answers'}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(_say_what_is_there, is_debug=False))
