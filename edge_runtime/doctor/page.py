"""The findings for a person, and for a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from edge_runtime.doctor.findings import Finding

__all__ = ["as_json", "as_text", "can_run"]

# A detail stands beside what was found, unless that is so long that the column would be lost.
WIDEST = 40


def can_run(findings: Sequence[Finding]) -> bool:
    """Nothing is missing that edge-run needs."""
    return not any(finding.status == "missing" for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """A block for each topic, a line for each finding and for each remedy, and a last line that counts."""
    width = min(WIDEST, max(len(finding.what) for finding in findings))
    lines = []
    for topic, group in groupby(findings, key=lambda finding: finding.topic):
        lines.append(topic)
        for finding in group:
            lines += _lines(finding, width)
    return "\n".join([*lines, "", _count(findings)])


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """`can_run`, `counts` by status, and `findings` with the fields of `Finding`."""
    return {"can_run": can_run(findings), "counts": _counts(findings), "findings": [asdict(finding) for finding in findings]}


def _lines(finding: Finding, width: int) -> list[str]:
    lines = [f"  {finding.status:<7}  {finding.what:<{width}}  {finding.detail}".rstrip()]
    if finding.remedy:
        lines.append(f"{'':9}  -> {finding.remedy}")
    return lines


def _count(findings: Sequence[Finding]) -> str:
    counts = _counts(findings)
    numbers = f"{counts['ok']} ok, {counts['warning']} {'warning' if counts['warning'] == 1 else 'warnings'}, {counts['missing']} missing"
    return f"{numbers}: edge-run {'can' if can_run(findings) else 'cannot'} run here"


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {status: sum(finding.status == status for finding in findings) for status in ("ok", "warning", "missing")}
