"""Running one graph of a bundle. Each engine library is imported in its own module, and only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # modules below are asked where nothing is installed
    from edge_runtime.stream import Arrays

__all__ = ["Graph"]


class Graph(Protocol):
    """One half of the model, loaded in an engine."""

    def run(self, inputs: Arrays) -> Arrays:
        """Outputs by name for inputs by name; the batch axis is first."""
