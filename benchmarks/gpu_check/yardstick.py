"""A frame through one backend against the same frame in PyTorch, block by block in turn, in one process on one GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from benchmarks.full_size import random_model
from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.frames import camera, open_bench
from benchmarks.gpu_check.model import PRECISION, bundle_in
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.torch_model import TorchModel, Variant
from edge_runtime.detector import Detector
from edge_runtime.frames import Frame
from train.models import Mnad

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

TOLERANCE_DB = 0.1

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
        our_ms, *their_ms = _in_turn(settings, [ours, *theirs.values()])
        for (variant, reach), times_ms in zip(group.items(), their_ms, strict=True):
            _tell(settings, findings, backend, variant, reach, our_ms, times_ms)
    detector.device.close()


def _tell(
    settings: Settings, findings: Findings, backend: str, variant: Variant, reach: float, our_ms: list[float], their_ms: list[float]
) -> None:
    how = (
        f"{settings.side}x{settings.side}x3, host frame in to score out, memory read, update and scores included; PyTorch "
        f"{torch.__version__} on {settings.yardstick}, inference mode, cudnn.benchmark, preprocessing on the device; ours {PRECISION}; "
        f"{settings.blocks} blocks of {settings.block_frames} frames in turn after one that warms up; median of the blocks' ratios of "
        "median frames"
    )
    ratio = median(theirs / ours for theirs, ours in zip(their_ms, our_ms, strict=True))
    findings.row(f"{variant.name} ÷ frame through {backend}", ratio, reach, "ratio", "higher", how)
    findings.row(f"{variant.name}, frame beside {backend}", median(their_ms), None, "ms", "lower", how)
    findings.row(f"{backend}, frame beside {variant.name}", median(our_ms), None, "ms", "lower", how)


def _in_turn(settings: Settings, steps: Sequence[Step]) -> list[list[float]]:
    """Each step's median milliseconds by block, over the same frames; the first block warms up and is left out.

    Raises:
        RuntimeError: they do not compute the same.
    """
    cameras = [camera() for _ in steps]
    times_ms: list[list[float]] = [[] for _ in steps]
    for _ in range(settings.blocks + 1):
        psnr_db = []
        for step, frames, times in zip(steps, cameras, times_ms, strict=True):
            block = [_timed(step, frame) for frame in islice(frames, settings.block_frames)]
            times.append(median(passed for passed, _ in block))
            psnr_db.append([value for _, value in block if value is not None])
        if any(abs(theirs - ours) > TOLERANCE_DB for others in psnr_db[1:] for theirs, ours in zip(others, psnr_db[0], strict=True)):
            raise RuntimeError(f"expected the same PSNR of all, got {psnr_db} dB")
    return [times[1:] for times in times_ms]


def _timed(step: Step, frame: Frame) -> tuple[float, float | None]:
    started = perf_counter()
    psnr_db = step(frame)
    return 1e3 * (perf_counter() - started), psnr_db


def _step_of(detector: Detector) -> Step:
    stream = detector.open_stream()

    def step(frame: Frame) -> float | None:
        [score] = detector.step([(stream, frame)])
        return None if score is None else score.psnr_db

    return step


def _model(settings: Settings) -> Mnad:
    return random_model(side=settings.side, width=settings.width)
