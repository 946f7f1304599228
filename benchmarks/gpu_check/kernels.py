"""The kernels, compiled for this GPU and loaded into it."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.settings import Settings
from edge_runtime.devices.cuda.compilation import compiled_kernels, find_nvcc
from edge_runtime.devices.cuda.device import CudaDevice
from edge_runtime.devices.gpu import find_gpu

__all__ = ["measure"]


def measure(settings: Settings, work: Path, findings: Findings) -> None:
    """Rows: seconds to compile, seconds until a device is open."""
    gpu = find_gpu()
    assert gpu is not None
    started = perf_counter()
    compiled_kernels(gpu.sm)
    findings.row(
        "kernels, compiled", perf_counter() - started, None, "s", "lower", f"{find_nvcc()}, for sm_{gpu.sm}, nothing kept from before"
    )
    started = perf_counter()
    CudaDevice().close()
    findings.row(
        "device, opened", perf_counter() - started, None, "s", "lower", "context, streams, kernels loaded from the cache; closed again"
    )
