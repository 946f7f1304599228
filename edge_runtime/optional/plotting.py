"""The one place that imports matplotlib, which draws timelines and plots of scores."""

from __future__ import annotations

from typing import Any

from edge_runtime.errors import BackendUnavailable

__all__ = ["figure_class"]


def figure_class() -> Any:
    """matplotlib's Figure, which draws with Agg; pyplot would look for a screen.

    Raises:
        BackendUnavailable: it is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendUnavailable(
            f"plots: expected the module matplotlib, got '{error}'. Install it: pip install 'edge-runtime[report]'"
        ) from error
    return Figure
