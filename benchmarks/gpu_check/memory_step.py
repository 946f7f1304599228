"""The memory step alone: reads, distance, gate and update, over and over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import safetensors.numpy

from benchmarks.full_size import full_size_manifest
from benchmarks.gpu_check.capture import captured
from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.settings import Settings
from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import FileSpec, TensorSpec
from edge_runtime.devices.cuda.device import CudaDevice
from edge_runtime.errors import BackendError
from edge_runtime.stream import Arrays

__all__ = ["measure", "pool_bundle", "unit_rows"]

REACH_US = 30.0
STEPS = 20  # in one recorded graph

Step = Callable[[], Arrays]


def measure(settings: Settings, work: Path, findings: Findings) -> None:
    """Rows for every pool shape; the first, with float32 queries, has the reach."""
    device = CudaDevice()
    for number, shape in enumerate(settings.pools):
        for dtype in ("float32", "float16"):
            reach = REACH_US if (number, dtype) == (0, "float32") else None
            _measure_pool(settings, work, findings, device, shape, dtype, reach)
    device.close()


def _measure_pool(
    settings: Settings, work: Path, findings: Findings, device: CudaDevice, shape: tuple[int, int, int], dtype: str, reach: float | None
) -> None:
    queries, size, items = shape
    step = _step(pool_bundle(work / f"pool-{queries}-{size}-{items}-{dtype}", shape, dtype), device, shape, dtype)
    step()
    what = f"memory step {queries:,}x{size} queries {dtype}, {items:,} items"
    how = f"softmax, ema: read + distance + gate + update; GPU events around back-to-back work, median of {settings.blocks} blocks"
    plain_us = 1e3 * _median_ms(device, step, settings.replays, settings.blocks)
    try:
        with captured(device.cuda_stream, lambda: [step() for _ in range(STEPS)]) as replay:
            replays = max(settings.replays // STEPS, 1)
            replayed_us = 1e3 * _median_ms(device, replay, replays, settings.blocks, after=step) / STEPS
    except BackendError as error:
        findings.not_run(f"{what}, replayed", str(error))
    else:
        findings.row(f"{what}, replayed", replayed_us, reach, "µs", "lower", f"{how} of {replays} replays of a CUDA graph of {STEPS} steps")
        reach = None
    findings.row(f"{what}, launched", plain_us, reach, "µs", "lower", f"{how} of {settings.replays} steps launched from Python")


def pool_bundle(
    folder: Path, shape: tuple[int, int, int], dtype: str, *, addressing: str = "softmax", rule: str = "ema", write_scale: str = "all"
) -> Bundle:
    """A bundle of nothing but a memory: (K, D, M) with random items; its gate lets everything below 2 pass."""
    queries, size, items = shape
    folder.mkdir(parents=True)
    memory = safetensors.numpy.save({"memory": unit_rows(items, size, 0)})
    (folder / "memory.safetensors").write_bytes(memory)
    manifest = full_size_manifest()
    only = manifest.precisions["fp32"]
    encoder = replace(only.encoder, outputs=(TensorSpec("query", dtype, ("batch", size, queries)),))
    return Bundle(
        folder,
        replace(
            manifest,
            pools=tuple(replace(pool, addressing=addressing, update=rule) for pool in manifest.pools),
            update=replace(manifest.update, write_scale=write_scale),
            memory=FileSpec("memory.safetensors", hashlib.sha256(memory).hexdigest()),
            precisions={"fp32": replace(only, encoder=encoder)},
        ),
        "-",
    )


def _step(bundle: Bundle, device: CudaDevice, shape: tuple[int, int, int], dtype: str) -> Step:
    queries, size, _ = shape
    bank = device.open_stream(bundle, "memory step", smoothing_frames=1).bank
    given = {"query": device.upload(unit_rows(queries, size, 1).T.reshape(1, size, queries).astype(dtype))}
    scores = {"score/regular_score": device.upload(np.zeros(1, np.float32))}

    def step() -> Arrays:
        bank.read(given)
        return bank.update(given, scores)

    return step


def _median_ms(device: CudaDevice, work: Callable[[], object], count: int, blocks: int, after: Step | None = None) -> float:
    """Milliseconds of the GPU for one of `count` in a row.

    Args:
        after: a step behind the last mark, for something to wait for; None: the work's own result is it.
    """
    times = []
    for _ in range(blocks + 1):  # the first one warms up
        first = device.mark()
        for _ in range(count):
            result = work()
        last = device.mark()
        updated = result if after is None else after()
        device.fetch([updated]).wait()
        times.append(device.ms_between(first, last) / count)
    return median(times[1:])


def unit_rows(count: int, size: int, seed: int) -> np.ndarray:
    """(count, size) float32, random directions."""
    rows = np.random.default_rng(seed).standard_normal((count, size), np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
