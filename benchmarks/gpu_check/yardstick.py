"""A frame through one backend against the same frame in PyTorch, block by block in turn, in one process on one GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch

from benchmarks.full_size import random_model
from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.frames import camera, open_bench
from benchmarks.gpu_check.model import PRECISION, bundle_in
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.torch_model import TorchModel, Variant
from edge_runtime.detector import Detector
from edge_runtime.frames import Frame
from export.tolerances import TOLERANCES
from train.models.mnad_prediction import MnadPrediction

__all__ = ["measure"]

EAGER = {
    Variant("PyTorch eager, TF32 on", torch.float32, has_tf32=True): 3.0,
    Variant("PyTorch eager, TF32 off", torch.float32, has_tf32=False): 5.0,
}
COMPILED = {
    Variant("torch.compile fp16", torch.float16, has_tf32=True, compiled="default"): 1.2,
    Variant("torch.compile fp16, reduce-overhead", torch.float16, has_tf32=True, compiled="reduce-overhead"): 1.2,
}
"""Variant to how many times as long as ours its frame should take."""

Step = Callable[[Frame], float | None]


def measure(settings: Settings, work: Path, findings: Findings, backend: str) -> None:
    """Rows: PyTorch's frame ÷ ours, eager first: compiling takes long and may fail."""
    if settings.yardstick == "cuda" and not torch.cuda.is_available():
        findings.not_run(f"PyTorch against {backend}", f"PyTorch {torch.__version__} has no CUDA here")
        return
    torch.backends.cudnn.benchmark = True
    bundle = bundle_in(work)
    items = torch.from_numpy(bundle.read_items()["memory"])
    detector = open_bench(bundle, backend).detector
    for group in (EAGER, *({variant: reach} for variant, reach in COMPILED.items())):
        ours = _step_of(detector)
        theirs = {variant: TorchModel(_model(settings), items, settings.yardstick, variant).step for variant in group}
        our_run, *their_runs = _in_turn(settings, [ours, *theirs.values()])
        for (variant, reach), run in zip(group.items(), their_runs, strict=True):
            _tell(settings, findings, backend, variant, reach, our_run, run)
    detector.device.close()


def _tell(settings: Settings, findings: Findings, backend: str, variant: Variant, reach: float, ours: _Run, theirs: _Run) -> None:
    how = (
        f"{settings.side}x{settings.side}x3, host frame in to score out, memory read, update and scores included; PyTorch "
        f"{torch.__version__} on {settings.yardstick}, inference mode, cudnn.benchmark, preprocessing on the device; ours {PRECISION}; "
        f"{settings.blocks} blocks of {settings.block_frames} frames in turn after one that warms up; median of the blocks' ratios of "
        "median frames"
    )
    ratio = median(their_ms / our_ms for their_ms, our_ms in zip(theirs.ms, ours.ms, strict=True))
    apart_db = np.abs(np.subtract(theirs.psnr_db, ours.psnr_db)).max()
    findings.row(f"{variant.name} ÷ frame through {backend}", ratio, reach, "ratio", "higher", how)
    findings.row(f"{variant.name}, frame beside {backend}", median(theirs.ms), None, "ms", "lower", how)
    findings.row(f"{backend}, frame beside {variant.name}", median(ours.ms), None, "ms", "lower", how)
    same = (
        f"{how}; the largest at any of {len(ours.psnr_db)} frames, each learning from its own; past the reach the times are of two things"
    )
    findings.row(
        f"{variant.name} against {backend}, difference of PSNR", float(apart_db), TOLERANCES[PRECISION].psnr_db, "dB", "lower", same
    )


@dataclass(frozen=True)
class _Run:
    """What one way of running the model took and told.

    Attributes:
        ms: median milliseconds of a frame, by block; the first block warms up and is left out.
        psnr_db: of every frame that was scored.
    """

    ms: list[float] = field(default_factory=list)
    psnr_db: list[float] = field(default_factory=list)


def _in_turn(settings: Settings, steps: Sequence[Step]) -> list[_Run]:
    """All steps over the same frames, block by block."""
    runs = [(step, camera(), _Run()) for step in steps]
    for number in range(settings.blocks + 1):
        for step, frames, run in runs:
            block = [_timed(step, frame) for frame in islice(frames, settings.block_frames)]
            run.psnr_db.extend(value for _, value in block if value is not None)
            if number > 0:
                run.ms.append(median(passed for passed, _ in block))
    return [run for _, _, run in runs]


def _timed(step: Step, frame: Frame) -> tuple[float, float | None]:
    started = perf_counter()
    psnr_db = step(frame)
    return 1e3 * (perf_counter() - started), psnr_db


def _step_of(detector: Detector) -> Step:
    stream = detector.open_stream()

    def step(frame: Frame) -> float | None:
        [step] = detector.step([(stream, frame)])
        return None if step.score is None else step.score.psnr_db

    return step


def _model(settings: Settings) -> MnadPrediction:
    return random_model(side=settings.side, width=settings.width)
