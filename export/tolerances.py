"""How far apart two ways of computing the same may be, by precision: for exports, engines, devices, benchmarks and tests.

`fp32` and `fp16` are of the graphs; memory and scores are float32 in both. Engines that run the same graph may use other algorithms and
sum in another order, hence the room; the memory step alone keeps to `MEMORY_STEP`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MEMORY_STEP", "PARITY", "TOLERANCES", "Tolerance"]

PARITY = {"fp32": 1e-4, "fp16": 2e-2}
"""Exported graphs against PyTorch, the same reads in: in fp32 of the prediction and every score, in fp16 of the prediction."""

MEMORY_STEP = 1e-4
"""Items and reads on a GPU against NumPy, the same queries in: largest absolute difference."""


@dataclass(frozen=True)
class Tolerance:
    """Of an engine or a device against another.

    Attributes:
        query: largest absolute difference of a unit query's element.
        memory: of an item's element, after some frames.
        prediction: of a pixel, in [−1, 1].
        psnr_db: of a frame.
        score: relative, of regular score, local error and query distance.
        rank_correlation: least, of `local_error` over some frames.
    """

    query: float
    memory: float
    prediction: float
    psnr_db: float
    score: float
    rank_correlation: float


TOLERANCES = {
    "fp32": Tolerance(query=1e-4, memory=1e-4, prediction=1e-3, psnr_db=0.01, score=5e-3, rank_correlation=0.999),
    "fp16": Tolerance(query=1e-2, memory=1e-2, prediction=5e-2, psnr_db=0.1, score=5e-2, rank_correlation=0.99),
    "int8": Tolerance(query=1e-1, memory=1e-1, prediction=5e-1, psnr_db=0.5, score=5e-1, rank_correlation=0.95),
}
