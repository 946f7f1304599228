"""When a precision may be used instead of another, and how that is said."""

from __future__ import annotations

from dataclasses import replace

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import Manifest, Precision, Verdict
from edge_runtime.bundle.manifest_file import encode_manifest, parse_manifest
from edge_runtime.files import write_atomically

__all__ = ["WITHOUT_LABELS", "WITH_LABELS", "budget_of", "in_words", "is_within", "store"]

WITH_LABELS = {"auc_loss": 0.5}
"""Points of AUC, of the protocols `paper` and `causal`, whichever loses more, in whichever memory mode."""

WITHOUT_LABELS = {"rank_correlation": 0.99, "alarm_flips": 0.01}
"""Least correlation of the scores, and the largest share of frames on another side of the threshold."""

AT_LEAST = ("rank_correlation",)  # the others are at most
NAMES = {"auc_loss": "points of AUC lost", "rank_correlation": "rank correlation of the scores", "alarm_flips": "share of frames flipped"}
FASTER = 1 / 1.02  # of the time, from which on a precision is worth its place


def budget_of(has_labels: bool) -> dict[str, float]:
    """What a precision may differ by."""
    return dict(WITH_LABELS if has_labels else WITHOUT_LABELS)


def is_within(budget: dict[str, float], measured: dict[str, float]) -> bool:
    """Every limit is kept."""
    return all(measured[name] >= limit if name in AT_LEAST else measured[name] <= limit for name, limit in budget.items())


def store(bundle: Bundle, verdicts: dict[str, Verdict]) -> None:
    """Write verdicts into a bundle's manifest, which makes it another bundle for saved memories.

    Raises:
        SinkError: it cannot be written; it stays as it was.
    """
    precisions = {
        name: replace(precision, verdict=verdicts.get(name, precision.verdict)) for name, precision in bundle.manifest.precisions.items()
    }
    path = bundle.path / "manifest.json"
    content = encode_manifest(replace(bundle.manifest, precisions=precisions))
    parse_manifest(content, str(path))
    write_atomically(path, content)


def in_words(manifest: Manifest, verdicts: dict[str, Verdict]) -> list[str]:
    """What to ship, and why; a line for each precision that was judged."""
    return [_in_words(name, manifest.precisions[name], verdict) for name, verdict in verdicts.items()]


def _in_words(name: str, precision: Precision, verdict: Verdict) -> str:
    limits = ", ".join(
        f"{NAMES[key]} {verdict.measured[key]:.4g} ({'at least' if key in AT_LEAST else 'at most'} {limit:g})"
        for key, limit in verdict.budget.items()
    )
    floats = [node for nodes in precision.quantisation.float_nodes.values() for node in nodes] if precision.quantisation else []
    what = f"{name} with {', '.join(floats)} in fp16" if floats else name
    advice = f"Ship {what}" if verdict.passed else f"Do not ship {what}: stay with {'fp16' if name == 'int8' else 'fp32'}"
    times = verdict.measured["time"]
    speed = f"{times:.2f} times as long as the first precision" if times > FASTER else f"{times:.2f} of the first precision's time"
    warning = " It is not faster here: where this machine runs the bundle, there is nothing to gain." if times > FASTER else ""
    return f"{advice}, because: {limits}. Here it takes {speed}.{warning}"
