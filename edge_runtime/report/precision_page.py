"""The comparison of precisions as Markdown."""

from __future__ import annotations

from edge_runtime.report.precision import Compared, PrecisionReport

__all__ = ["precision_page"]

HEAD = ("precision", "memory", "paper", "causal", "rank", "flipped", "PSNR, dB", "gate differs", "least cosine", "ms")


def precision_page(report: PrecisionReport, words: list[str]) -> str:
    """A table, and in words what to ship."""
    rows = [[name, mode, *_figures(compared)] for name, modes in report.precisions.items() for mode, compared in modes.items()]
    lines = ["| " + " | ".join(row) + " |" for row in (list(HEAD), ["---"] * len(HEAD), *rows)]
    first = next(iter(report.precisions))
    title = f"{report.bundle}: precisions on {report.frames} frames, in {report.backend} on {report.device}. Changes are against {first}."
    trails = [
        f"{name}, memory updating, least cosine of an item to that of {first} after n frames: "
        + ", ".join(f"{frames}: {cosine:.4f}" for frames, cosine in sorted(modes["updating"].cosines.items()))
        for name, modes in report.precisions.items()
        if name != first and modes["updating"].cosines
    ]
    return "\n".join([title, "", *lines, "", *trails, *([""] if trails else []), *words, ""])


def _figures(compared: Compared) -> list[str]:
    auc = compared.auc
    return [
        *("–" if auc is None else f"{getattr(auc, protocol):.2f}" for protocol in ("paper", "causal")),
        f"{compared.rank_correlation:.4f}",
        f"{compared.alarm_flips:.2%}",
        f"{compared.psnr_change_db:.3f}",
        f"{compared.gates_differ:.2%}",
        f"{min(compared.cosines.values(), default=1.0):.4f}",
        f"{compared.ms:.1f}",
    ]
