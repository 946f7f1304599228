"""The one place that imports PyAV."""

from __future__ import annotations

from types import ModuleType

from edge_runtime.errors import BackendUnavailable

__all__ = ["has_pyav", "pyav"]


def has_pyav() -> bool:
    """Whether PyAV is here and loads."""
    try:
        pyav("a look", encodes=False)
    except BackendUnavailable:
        return False
    return True


def pyav(purpose: str, *, encodes: bool = True) -> ModuleType:
    """The av module.

    Args:
        purpose: what it is wanted for, in the error's words.
        encodes: H.264 is to be written, too.

    Raises:
        BackendUnavailable: it is not installed, or was built without an H.264 encoder that is wanted.
    """
    try:
        import av
    except ImportError as error:
        raise BackendUnavailable(
            f"{purpose}: expected the module av, got '{error}'. Install it: pip install 'edge-runtime[video]'"
        ) from error
    if encodes and "libx264" not in av.codecs_available:
        raise BackendUnavailable(
            f"{purpose}: expected a PyAV with the encoder libx264, got one without. "
            "Install the wheel, which has it: pip install --force-reinstall --only-binary av 'edge-runtime[video]'"
        )
    return av
