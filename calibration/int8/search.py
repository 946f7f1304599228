"""What int8 costs the score: as a whole, node by node, and with the fewest nodes left in float that keep it within a budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import onnx

from calibration.int8.graphs import Convolution, quantise
from calibration.int8.measure import Session, WindowRun, run_windows
from calibration.int8.windows import ChosenWindows
from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import Precision
from edge_runtime.devices.host_memory import HostBank
from edge_runtime.evaluation.ranks import rank_correlation
from edge_runtime.report.verdict import WITHOUT_LABELS, is_within
from edge_runtime.stream import Arrays

__all__ = ["Cost", "Int8Model", "NodeCost", "Search", "node_costs", "search", "whole_cost"]

WHOLE_WINDOWS = 96
NODE_WINDOWS = 24  # all that the graphs are given stays in memory for these

log = logging.getLogger(__name__)

Tick = Callable[[], object]


@dataclass(frozen=True)
class Int8Model:
    """Both float32 graphs and what is needed to quantise any of their nodes.

    Attributes:
        models, convolutions, ranges, multiply_adds: by graph, `encoder` and `decoder`; the last by node.
    """

    models: Mapping[str, onnx.ModelProto]
    convolutions: Mapping[str, Sequence[Convolution]]
    ranges: Mapping[str, Mapping[str, float]]
    multiply_adds: Mapping[str, Mapping[str, int]]

    @property
    def nodes(self) -> list[tuple[str, str]]:
        """Graph and name of every node that can be quantised."""
        return [(part, conv.name) for part, found in self.convolutions.items() for conv in found if self.ranges[part][conv.data] > 0]

    def share(self, nodes: Sequence[tuple[str, str]]) -> float:
        """Of all multiply-adds of convolutions."""
        total = sum(sum(of_part.values()) for of_part in self.multiply_adds.values())
        return sum(self.multiply_adds[part][name] for part, name in nodes) / total if total else 0.0

    def quantised(self, part: str, nodes: Sequence[tuple[str, str]]) -> onnx.ModelProto:
        """One graph with those of the nodes that are its own in int8."""
        return quantise(self.models[part], self.ranges[part], [name for where, name in nodes if where == part])


@dataclass(frozen=True)
class Cost:
    """How far scores are from those of float32, on windows that are scored alone.

    Attributes:
        score: mean absolute change of the score; 0.3 is a factor of two in how rare a frame is held to be.
        rank_correlation: Spearman's, of the scores.
        alarm_flips: share of the windows that fall on another side of the threshold.
        psnr_change_db: mean absolute.
        gates: share of the windows that the memory learned in one and not in the other.
    """

    score: float
    rank_correlation: float
    alarm_flips: float
    psnr_change_db: float
    gates: float

    @property
    def is_within_budget(self) -> bool:
        """That of a verdict without labels."""
        return is_within(WITHOUT_LABELS, asdict(self))


@dataclass(frozen=True)
class NodeCost:
    """What one node in int8, all others in float32, costs.

    Attributes:
        share: of all multiply-adds.
    """

    part: str
    node: str
    operator: str
    share: float
    cost: Cost


@dataclass(frozen=True)
class Search:
    """What the search found.

    Attributes:
        nodes: graph and name of those to be int8; what is not here stays in float.
        cost: of these together.
        all_nodes: cost of all nodes together.
        by_node: the costliest first; empty where nobody asked and all together are within the budget.
    """

    nodes: list[tuple[str, str]]
    cost: Cost
    all_nodes: Cost
    by_node: list[NodeCost]


def search(bundle: Bundle, windows: ChosenWindows, model: Int8Model, tick: Tick, *, always_by_node: bool) -> Search:
    """Find the fewest nodes to leave in float.

    Nodes are left in float from the costliest on, as many as it takes (a bisection finds how many); then each of them is tried in int8
    once more, the cheapest first, and stays so where the budget allows it.

    Args:
        tick: called after each window.
    """
    few = _thinned(windows, WHOLE_WINDOWS)
    reference = _scores(bundle, few, model, [], tick)

    def cost_of(nodes: Sequence[tuple[str, str]]) -> Cost:
        return _cost(bundle, reference, _scores(bundle, few, model, nodes, tick))

    together = cost_of(model.nodes)
    by_node = node_costs(bundle, windows, model, tick) if always_by_node or not together.is_within_budget else []
    if together.is_within_budget:
        return Search(model.nodes, together, together, by_node)
    order = [(found.part, found.node) for found in by_node]
    costs = {0: together}
    low, high = 0, len(order)  # with `low` nodes in float it is too far, with all of them it is float32
    while high - low > 1:
        middle = (low + high) // 2
        costs[middle] = cost_of(order[middle:])
        low, high = (low, middle) if costs[middle].is_within_budget else (middle, high)
    left, cost = order[:high], costs.get(high) or cost_of(order[high:])
    for node in reversed(order[: high - 1]):
        tried = cost_of([other for other in order if other not in left or other == node])
        if tried.is_within_budget:
            left, cost = [other for other in left if other != node], tried
    return Search([node for node in model.nodes if node not in left], cost, together, by_node)


def whole_cost(bundle: Bundle, windows: ChosenWindows, model: Int8Model, nodes: Sequence[tuple[str, str]], tick: Tick) -> Cost:
    """What some nodes in int8 cost together, each precision with a memory of its own that moves."""
    few = _thinned(windows, WHOLE_WINDOWS)
    return _cost(bundle, _scores(bundle, few, model, [], tick), _scores(bundle, few, model, nodes, tick))


def node_costs(bundle: Bundle, windows: ChosenWindows, model: Int8Model, tick: Tick) -> list[NodeCost]:
    """What each node alone costs, with float32's memory: the costliest first."""
    kept = _float_runs(bundle, _thinned(windows, NODE_WINDOWS), model, tick)
    reference = [_Scored.of(run.decoded, run.read, run.is_updated) for run, _ in kept]
    decoder = Session(model.models["decoder"])
    found = []
    for part, name in model.nodes:
        session = Session(model.quantised(part, [(part, name)]))
        scored = []
        for run, bank in kept:
            if part == "encoder":
                encoded = session.run(run.inputs)
                read = bank.read(encoded)
                decoded = decoder.run({**run.inputs, **encoded, **read})
            else:
                read, decoded = run.read, session.run(run.inputs)
            is_updated = bool(decoded["score/regular_score"][0] < bundle.manifest.gate.limit)
            scored.append(_Scored.of(decoded, read, is_updated))
            tick()
        operator = next(conv.operator for conv in model.convolutions[part] if conv.name == name)
        found.append(NodeCost(part, name, operator, model.share([(part, name)]), _cost(bundle, reference, scored)))
    return sorted(found, key=lambda node: -node.cost.score)


def _float_runs(bundle: Bundle, windows: ChosenWindows, model: Int8Model, tick: Tick) -> list[tuple[WindowRun, HostBank]]:
    """Windows through the float32 graphs, each with the memory as it was when it was read."""
    sessions = [Session(model.models[part]) for part in ("encoder", "decoder")]
    kept = []
    items = bundle.read_items()
    clip = ""
    for run in run_windows(bundle, windows, *sessions):
        if run.clip != clip:
            clip, before = run.clip, items
        bank = HostBank(bundle.manifest, items)
        bank.restore(before)
        copied = {name: array.copy() for name, array in run.inputs.items()}  # the ring is written again
        kept.append((replace(run, inputs=copied), bank))
        before = run.bank.snapshot()
        tick()
    return kept


@dataclass(frozen=True)
class _Scored:
    """One window's quantities."""

    raw: dict[str, float]
    is_updated: bool

    @classmethod
    def of(cls, decoded: Arrays, read: Arrays, is_updated: bool) -> _Scored:
        raw = {name: float(decoded[f"score/{name}"][0]) for name in ("psnr_db", "regular_score", "local_error")}
        distances = [float(value[0]) for name, value in read.items() if name.startswith("distance/")]
        return cls(raw | ({"query_distance": float(np.mean(distances))} if distances else {}), is_updated)


def _scores(bundle: Bundle, windows: ChosenWindows, model: Int8Model, nodes: Sequence[tuple[str, str]], tick: Tick) -> list[_Scored]:
    encoder, decoder = (Session(model.quantised(part, nodes)) for part in ("encoder", "decoder"))
    found = []
    for run in run_windows(bundle, windows, encoder, decoder):
        found.append(_Scored.of(run.decoded, run.read, run.is_updated))
        tick()
    return found


def _cost(bundle: Bundle, reference: Sequence[_Scored], got: Sequence[_Scored]) -> Cost:
    precision: Precision = next(iter(bundle.manifest.precisions.values()))
    scale = precision.score_scale
    scores = [np.array([scale.score(scale.oddness(one.raw)) for one in side]) for side in (reference, got)]
    raised = [side >= precision.threshold.score for side in scores]
    psnr = [np.array([one.raw["psnr_db"] for one in side]) for side in (reference, got)]
    learned = [np.array([one.is_updated for one in side]) for side in (reference, got)]
    correlation = rank_correlation(*scores)
    return Cost(
        score=float(np.abs(scores[0] - scores[1]).mean()),
        rank_correlation=1.0 if correlation is None else correlation,
        alarm_flips=float((raised[0] != raised[1]).mean()),
        psnr_change_db=float(np.abs(psnr[0] - psnr[1]).mean()),
        gates=float((learned[0] != learned[1]).mean()),
    )


def _thinned(windows: ChosenWindows, most: int) -> ChosenWindows:
    """At most so many windows, evenly from all."""
    every = [(clip.name, frame) for clip in windows.clips for frame in windows.frames[clip.name]]
    at = np.unique(np.linspace(0, len(every) - 1, min(most, len(every))).astype(int))
    frames = {clip.name: tuple(every[i][1] for i in at if every[i][0] == clip.name) for clip in windows.clips}
    return replace(windows, clips=tuple(clip for clip in windows.clips if frames[clip.name]), frames=frames)
