"""What the search found, as files: numbers, and the nodes by what they cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from calibration.int8.search import NodeCost, Search
from edge_runtime.files import replacing, write_atomically
from edge_runtime.optional.plotting import figure_class

__all__ = ["draw_costs", "write_numbers"]


def write_numbers(found: Search, path: Path) -> None:
    """JSON: the cost of all nodes, of the chosen ones, and of each."""
    write_atomically(path, (json.dumps(asdict(found), indent=2) + "\n").encode())


def draw_costs(by_node: list[NodeCost], path: Path) -> None:
    """A bar for each node, the costliest on top: by how much it alone in int8 changes the score.

    Raises:
        BackendUnavailable: there is no matplotlib.
    """
    figure = figure_class()(figsize=(8, 1 + 0.25 * len(by_node)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([f"{one.part} {one.node}" for one in by_node], [one.cost.score for one in by_node])
    axes.invert_yaxis()
    axes.set_xlabel("mean change of the score, this node alone in int8")
    with replacing(path) as beside:
        figure.savefig(beside)
