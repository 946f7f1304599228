"""The full-size model in fp16, as a bundle that every later part loads."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.full_size import full_size_bundle, random_model
from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.settings import Settings
from edge_runtime.bundle import Bundle

__all__ = ["PRECISION", "bundle_in", "measure"]

PRECISION = "fp16"
FOLDER = "full-size"


def measure(settings: Settings, work: Path, findings: Findings) -> None:
    """Export it, or copy the one that was made elsewhere: engines are written into it."""
    if settings.bundle is None:
        folder = work / FOLDER
        folder.mkdir()
        full_size_bundle(random_model(side=settings.side, width=settings.width), folder, ("fp32", PRECISION))
    else:
        shutil.copytree(settings.bundle, work / FOLDER)
        findings.not_run("the export of the full-size model", f"{settings.bundle} was given")
    bundle = bundle_in(work)
    for spec in (bundle.precision(PRECISION).encoder, bundle.precision(PRECISION).decoder):
        bundle.read(spec)


def bundle_in(work: Path) -> Bundle:
    """The bundle that `measure` left."""
    return Bundle.load(work / FOLDER)
