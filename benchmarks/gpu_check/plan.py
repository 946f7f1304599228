"""Which parts there are, in which order, and how long each may take."""

from __future__ import annotations

import os
from dataclasses import dataclass

from benchmarks.gpu_check.packages import OPTIONAL, Package, Probe
from benchmarks.gpu_check.settings import Settings

__all__ = ["BACKENDS", "PlannedPart", "plan"]

BACKENDS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx", "onnxruntime": "onnxruntime"}
"""Backend to the module it needs."""


@dataclass(frozen=True)
class PlannedPart:
    """A part to run.

    Attributes:
        name: of its module, with `:backend` where there is one for each.
        what: for people.
        limit_s: after which it is ended.
        least_s: with less time left it is not begun.
        needs: modules it cannot do without.
        after: parts that must have been done.
    """

    name: str
    what: str
    limit_s: float
    least_s: float
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def missing(self, probe: Probe) -> dict[Package, str]:
        """What cannot be imported, and why."""
        needed = (package for package in OPTIONAL if package.module in self.needs)
        return {package: reason for package in needed if (reason := probe(package.module)) is not None}


def plan(settings: Settings) -> list[PlannedPart]:
    """Every part, in order: what tells most comes early, what may take any time last."""
    export = () if settings.bundle else ("torch", "onnx")
    parts = [PlannedPart("kernels", "the kernels, compiled for this GPU", 90, 5)]
    if settings.runs_suite:
        parts.append(PlannedPart("suite:hardware", "the hardware suite", 120, 20, after=("kernels",)))
    parts += [
        PlannedPart("trajectory", "CUDA against NumPy over a trajectory", 60, 15, ("onnxruntime",), ("kernels",)),
        PlannedPart("memory_step", "the memory step alone", 40, 10, (), ("kernels",)),
        PlannedPart("model", "the full-size model as a bundle", 60, 10, export),
    ]
    for backend, module in BACKENDS.items():
        frames = f"frames:{backend}"
        if backend != "onnxruntime":
            parts.append(PlannedPart(f"engines:{backend}", f"engines of {backend}", 120, 15, (module,), ("model",)))
        built = () if backend == "onnxruntime" else (f"engines:{backend}",)
        parts.append(PlannedPart(frames, f"frames through {backend}", 60, 15, (module,), ("kernels", "model", *built)))
        parts.append(
            PlannedPart(f"yardstick:{backend}", f"PyTorch against {backend}", 120, 25, (module, "torch"), ("kernels", "model", *built))
        )
    if settings.runs_suite:
        toys = () if "TOYS_DIR" in os.environ else ("torch", "onnx")
        parts.append(PlannedPart("suite:detector", "the detector suite, which builds engines", 300, 30, ("onnxruntime",), ("kernels",)))
        parts.append(PlannedPart("suite:contract", "the contract suite", 180, 20, toys, ("kernels",)))
    return parts
