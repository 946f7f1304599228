"""The full-size model in fp16, as a bundle that every later part loads.

`python -m benchmarks.gpu_check.model DIR` makes it for a machine that cannot.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.full_size import full_size_bundle, random_model
from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.settings import FULL, Settings
from edge_runtime.bundle import Bundle

__all__ = ["PRECISION", "bundle_in", "make_bundle", "measure"]

PRECISION = "fp16"
FOLDER = "full-size"


def measure(settings: Settings, work: Path, findings: Findings) -> None:
    """Export it, or copy the one that was made elsewhere: engines are written into it."""
    if settings.bundle is None:
        make_bundle(settings, work / FOLDER)
    else:
        shutil.copytree(settings.bundle, work / FOLDER)
        findings.not_run("the export of the full-size model", f"{settings.bundle} was given")
    bundle = bundle_in(work)
    for spec in (bundle.precision(PRECISION).encoder, bundle.precision(PRECISION).decoder):
        bundle.read(spec)


def make_bundle(settings: Settings, folder: Path) -> Bundle:
    """Export the model with random weights into a new folder."""
    folder.mkdir(parents=True)
    return full_size_bundle(random_model(side=settings.side, width=settings.width), folder, ("fp32", PRECISION))


def bundle_in(work: Path) -> Bundle:
    """The bundle that `measure` left."""
    return Bundle.load(work / FOLDER)


if __name__ == "__main__":
    print(make_bundle(FULL, Path(sys.argv[1])).path)
