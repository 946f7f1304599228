"""The one place that imports PyAV."""

from __future__ import annotations

from types import ModuleType

from edge_runtime.errors import BackendUnavailable

__all__ = ["pyav"]


def pyav(purpose: str) -> ModuleType:
    """The av module.

    Raises:
        BackendUnavailable: it is not installed, or was built without an H.264 encoder.
    """
    try:
        import av
    except ImportError as error:
        raise BackendUnavailable(
            f"{purpose}: expected the module av, got '{error}'. Install it: pip install 'edge-runtime[video]'"
        ) from error
    if "libx264" not in av.codecs_available:
        raise BackendUnavailable(
            f"{purpose}: expected a PyAV with the encoder libx264, got one without. "
            "Install the wheel, which has it: pip install --force-reinstall --only-binary av 'edge-runtime[video]'"
        )
    return av
