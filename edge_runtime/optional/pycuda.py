"""The one place that imports pycuda, which drives NVIDIA GPUs."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import cast

from edge_runtime.errors import BackendUnavailable

__all__ = ["pycuda_driver", "reason"]


def pycuda_driver() -> ModuleType:
    """pycuda's driver module.

    Raises:
        BackendUnavailable: pycuda or NVIDIA's driver is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pycuda guesses at why the driver is missing, before it raises
            import pycuda
            import pycuda.driver
    except ModuleNotFoundError as error:
        raise BackendUnavailable(
            f"CUDA: expected the module pycuda, got '{error}'. Install it: pip install 'edge-runtime[cuda]'"
        ) from error
    except ImportError as error:
        raise BackendUnavailable(
            f"CUDA: expected NVIDIA's driver, pycuda says: {reason(error)}. Install the driver, or use --device cpu."
        ) from error
    return cast(ModuleType, pycuda.driver)


def reason(error: Exception) -> str:
    """What pycuda says, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
