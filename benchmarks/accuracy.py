"""AUC of the shipped bundle on UCSD Ped2, and what the gate lets pass."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.rows import Row
from edge_runtime.bundle import Bundle
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation import MemoryModeResult
from edge_runtime.report.accuracy import measure_accuracy

__all__ = ["measure"]

BUNDLES = Path(__file__).parent.parent / "bundles"
REACH = {"paper": 95.0, "causal": 94.0}


def measure() -> list[Row]:
    """Both memory modes of ped2-lite in fp32, and `updating` in fp16."""
    if "PED2_DIR" not in os.environ:
        raise ConfigError("benchmark accuracy: expected UCSD Ped2 at PED2_DIR, the variable is not set. Set it, or name other benchmarks.")
    testing = Path(os.environ["PED2_DIR"]) / "testing"
    bundle = Bundle.load(BUNDLES / "ped2-lite")
    rows = []
    for precision in ("fp32", "fp16"):
        report = measure_accuracy(bundle, str(testing / "frames"), str(testing / "labels.csv"), precision=precision)
        how = f"Ped2's 12 test clips, ped2-lite, {precision}, memory reset before each clip"
        for mode, part in report.memory.items():
            rows += [
                _auc_row(part.result, protocol, mode, precision, how) for protocol in ("paper", "pooled_psnr", "pooled_local", "causal")
            ]
            if precision == "fp32":
                rows += _gate_rows(part.result, mode, how)
                how_alarms = f"{how}, threshold {report.threshold:.2f}"
                rows.append(
                    Row(f"anomalous events with an alarm, {mode}", part.alarms.hits, None, f"of {part.alarms.events}", "higher", how_alarms)
                )
                rows.append(Row(f"false alarms, {mode}", part.alarms.false_alarms, None, "alarms", "lower", how_alarms))
    return rows


def _auc_row(result: MemoryModeResult, protocol: str, mode: str, precision: str, how: str) -> Row:
    reach = REACH.get(protocol) if (mode, precision) == ("updating", "fp32") else None
    return Row(f"AUC {protocol}, {mode}, {precision}", getattr(result, protocol), reach, "%", "higher", how)


def _gate_rows(result: MemoryModeResult, mode: str, how: str) -> list[Row]:
    normal = result.frames - result.anomalous
    learned_normal = 100 * (result.updates - result.updates_anomalous) / normal
    learned_anomalous = 100 * result.updates_anomalous / result.anomalous
    is_learning = mode == "updating"
    return [
        Row(
            f"gate: normal frames learned, {mode}",
            learned_normal,
            50.0 if is_learning else 0.0,
            "%",
            "higher" if is_learning else "lower",
            how,
        ),
        Row(f"gate: anomalous frames learned, {mode}", learned_anomalous, 35.0 if is_learning else 0.0, "%", "lower", how),
    ]
