"""The one place that imports OpenCV: on a Jetson it is JetPack's, elsewhere pip's."""

from __future__ import annotations

from types import ModuleType

from edge_runtime.errors import BackendUnavailable

__all__ = ["opencv"]


def opencv() -> ModuleType:
    """The cv2 module.

    Raises:
        BackendUnavailable: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise BackendUnavailable(
            f"OpenCV: expected the module cv2, got '{error}'. Install it: pip install 'edge-runtime[cpu]' (a Jetson has it from JetPack)."
        ) from error
    return cv2
