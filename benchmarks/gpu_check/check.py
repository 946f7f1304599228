"""The check itself: part after part, the results file after each."""

from __future__ import annotations

import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from time import monotonic

from benchmarks.gpu_check.findings import read_findings
from benchmarks.gpu_check.machine import facts_of
from benchmarks.gpu_check.packages import why_not
from benchmarks.gpu_check.plan import PlannedPart, plan
from benchmarks.gpu_check.process import run_part
from benchmarks.gpu_check.report import FAILED, NotRun, Part, Report, results_file
from benchmarks.gpu_check.settings import Settings, encode_settings
from edge_runtime.devices.gpu import find_gpu
from edge_runtime.errors import BackendUnavailable

__all__ = ["check"]


def check(settings: Settings, results: Path, time_limit_s: float, footage: Path | None, bundle: Path | None) -> int:
    """Run every part that can run here within the limit. 0: all that ran passed; 1: a part or a test failed.

    Raises:
        BackendUnavailable: no GPU answers.
        ConfigError: the GPU is a stand-in, and the results folder that of real ones.
        SinkError: the results cannot be written.
    """
    began = monotonic()
    # Whoever ends this is to end the part at hand, too. What a script begins with & has SIGINT ignored.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    gpu = find_gpu()
    if gpu is None:
        raise BackendUnavailable("gpu-check: expected an NVIDIA GPU that answers, got none. Look at nvidia-smi and edge-doctor.")
    report = Report(results_file(gpu.name, results), facts_of(gpu), time_limit_s)
    settings = replace(settings, footage=_path(footage, _ped2()), bundle=_path(bundle, os.environ.get("GPU_CHECK_BUNDLE")))
    print(f"{gpu.name}, sm_{gpu.sm}; {time_limit_s:.0f} s at most; into {report.path}", flush=True)
    report.write()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as work:
        for part in plan(settings):
            _run(part, report, settings, Path(work), time_limit_s - (monotonic() - began))
            report.seconds = monotonic() - began
            report.write()
    report.has_finished = True
    report.write()
    _summarise(report)
    return 1 if report.has_failed else 0


def _run(part: PlannedPart, report: Report, settings: Settings, work: Path, left_s: float) -> None:
    why_not = _why_not(part, report, left_s)
    if why_not is not None:
        report.add(not_run=[NotRun(part.what, why_not)])
        report.parts.append(Part(part.name, "not run", 0.0, why_not))
        return
    print(f"{part.what} …", flush=True)
    ended = run_part(part.name, encode_settings(settings), work, min(part.limit_s, left_s))
    if ended.outcome == "out of time" and left_s < part.limit_s:  # the check's time, not the part's
        ended = replace(ended, outcome="cut short", text=f"the check's time limit ended it after {ended.seconds:.0f} s")
    found = read_findings(work / f"{part.name}.jsonl")
    unavailable = [NotRun(part.what, ended.text)] if ended.outcome in {"not run", "cut short"} else []
    report.add(found.rows, [*found.not_run, *unavailable], found.failures)
    report.parts.append(Part(part.name, ended.outcome, round(ended.seconds, 1), ended.text))
    if ended.outcome in FAILED:
        print(f"! {part.what}: {ended.outcome} after {ended.seconds:.0f} s\n{ended.text}", flush=True)


def _why_not(part: PlannedPart, report: Report, left_s: float) -> str | None:
    missing = part.missing(why_not)
    if missing:
        return f"cannot be imported: {', '.join(f'{package.pip} ({reason})' for package, reason in missing.items())}"
    outcomes = {done.name: done.outcome for done in report.parts}
    lacking = [f"{name} ({outcomes.get(name, 'not run')})" for name in part.after if outcomes.get(name) != "done"]
    if lacking:
        return f"it needs {', '.join(lacking)}"
    if left_s < part.least_s:
        return f"{max(left_s, 0):.0f} s are left of the time limit, it takes {part.least_s:.0f} s at least"
    return None


def _summarise(report: Report) -> None:
    missed = [row for row in report.rows if not row.is_reached]
    outcomes = [part.outcome for part in report.parts]
    print(
        f"{report.path}: {len(report.rows)} figures, {len(missed)} short of their reach, {len(report.failures)} tests failed, "
        f"{outcomes.count('done')} of {len(outcomes)} parts done, {report.seconds:.0f} s",
        flush=True,
    )


def _ped2() -> str | None:
    folder = os.environ.get("PED2_DIR")
    return str(Path(folder) / "training" / "frames") if folder else None


def _path(given: Path | None, otherwise: str | None) -> str | None:
    """Absolute, or None where neither is said."""
    chosen = given or (Path(otherwise) if otherwise else None)
    return str(chosen.resolve()) if chosen else None
