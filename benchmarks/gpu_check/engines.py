"""Engines of the full-size model, built and checked as `make engine` does it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.model import PRECISION, bundle_in
from benchmarks.gpu_check.settings import Settings
from edge_runtime.devices.gpu import find_gpu
from edge_runtime.errors import EngineMismatch
from export.engine.build import EngineBuild, make_engine
from export.engine.build_choice import EngineSettings
from export.engine.which_tensorrt import load_library

__all__ = ["measure"]


def measure(settings: Settings, work: Path, findings: Findings, flavour: str) -> None:
    """Rows: seconds of the build, and how far the engine is from the ONNX graphs."""
    gpu = find_gpu()
    library = load_library(flavour, gpu)
    build = EngineBuild(bundle_in(work), PRECISION, library, gpu, EngineSettings())
    try:
        made = make_engine(build, rebuild=False)  # a bundle made elsewhere may bring one that fits
    except EngineMismatch:
        made = make_engine(build, rebuild=True)
    sheet = made.engine.sheet
    seconds = sheet.encoder.seconds + sheet.decoder.seconds
    how = "both halves; kept, built before" if made.was_kept else "both halves"
    findings.row(f"{library.title}, build of the full-size {PRECISION} engines", seconds, None, "s", "lower", how)
    check = sheet.check
    if not check.was_run or check.psnr_change_db is None:
        findings.not_run(f"the check of {library.title}'s engines", check.why_not or "no windows")
        return
    how = f"{check.windows} windows of {check.clips}, against the {check.yardstick} ONNX graphs on the CPU"
    findings.row(f"{library.title}, change of PSNR", check.psnr_change_db, 0.1, "dB", "lower", how)
