"""Engines of the full-size model, built and checked as `make engine` does it."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.model import PRECISION, bundle_in
from benchmarks.gpu_check.settings import Settings
from edge_runtime.bundle import Bundle
from edge_runtime.bundle.engines import ENGINES
from edge_runtime.devices.gpu import find_gpu
from edge_runtime.errors import EngineMismatch
from export.engine.build import EngineBuild, make_engine
from export.engine.build_choice import EngineSettings
from export.engine.which_tensorrt import load_library
from export.tolerances import TOLERANCES

__all__ = ["measure"]


SHIPPED = Path("bundles/ped2-lite")


def measure(settings: Settings, work: Path, findings: Findings, flavour: str) -> None:
    """Rows: seconds of the build, and how far the engine is from the ONNX graphs."""
    gpu = find_gpu()
    library = load_library(flavour, gpu)
    _tell(EngineBuild(bundle_in(work), PRECISION, library, gpu, EngineSettings()), "full-size", findings)
    if not settings.runs_suite:
        return
    if not (SHIPPED / "manifest.json").exists() or "int8" not in Bundle.load(SHIPPED).manifest.precisions:
        findings.not_run(f"{library.title}, int8 engines", f"{SHIPPED} has no int8 graphs here")
        return
    shipped = Bundle.load(shutil.copytree(SHIPPED, work / f"{SHIPPED.name}-{flavour}", ignore=shutil.ignore_patterns(ENGINES)))
    _tell(EngineBuild(shipped, "int8", library, gpu, EngineSettings(), keeps_misfit=True), SHIPPED.name, findings)


def _tell(build: EngineBuild, model: str, findings: Findings) -> None:
    library, precision = build.library, build.precision
    try:
        made = make_engine(build, rebuild=False)  # a bundle made elsewhere may bring one that fits
    except EngineMismatch:
        made = make_engine(build, rebuild=True)
    sheet = made.engine.sheet
    seconds = sheet.encoder.seconds + sheet.decoder.seconds
    how = "both halves; kept, built before" if made.was_kept else "both halves"
    findings.row(f"{library.title}, build of the {model} {precision} engines", seconds, None, "s", "lower", how)
    check = sheet.check
    if not check.was_run or check.psnr_change_db is None:
        findings.not_run(f"the check of {library.title}'s {precision} engines", check.why_not or "no windows")
        return
    how = f"{check.windows} windows of {check.clips}, against the {check.yardstick} ONNX graphs on the CPU"
    allowed = TOLERANCES[precision].psnr_db
    findings.row(f"{library.title}, change of PSNR in {precision}", check.psnr_change_db, allowed, "dB", "lower", how)
