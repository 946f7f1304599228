"""What was measured on: GPU, driver, clocks, power, versions. Read, never set."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.packages import ESSENTIAL, OPTIONAL, version_of
from benchmarks.rows import machine
from edge_runtime.devices.cuda.compilation import find_nvcc
from edge_runtime.devices.gpu import FoundGpu

__all__ = ["facts_of"]

NVIDIA_SMI = {
    "driver": "driver_version",
    "memory_mb": "memory.total",
    "power_limit_w": "power.limit",
    "power_w": "power.draw",
    "sm_clock_mhz": "clocks.sm",
    "sm_clock_max_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.mem",
    "temperature_c": "temperature.gpu",
    "persistence": "persistence_mode",
    "throttled": "clocks_throttle_reasons.active",
}


def facts_of(gpu: FoundGpu) -> dict[str, Any]:
    """For the results file; what nothing here can tell is left out."""
    return {
        "gpu": {"name": gpu.name, "sm": gpu.sm, **_nvidia_smi(), **_jetson()},
        "cuda": _cuda(),
        "machine": machine(),
        "versions": {package.module: found for package in (*ESSENTIAL, *OPTIONAL) if (found := version_of(package))},
    }


def _nvidia_smi() -> dict[str, str]:
    """All in one call; where a driver does not know one of them, which fails the whole call, each by itself."""
    if shutil.which("nvidia-smi") is None:
        return {}
    answers = _ask(NVIDIA_SMI) or {fact: value for fact, name in NVIDIA_SMI.items() for value in _ask({fact: name}).values()}
    return {fact: answer for fact, answer in answers.items() if answer and not answer.startswith("[") and answer != "N/A"}


def _ask(names: Mapping[str, str]) -> dict[str, str]:
    answer = _output("nvidia-smi", "-i", "0", "--format=csv,noheader,nounits", f"--query-gpu={','.join(names.values())}")
    return dict(zip(names, answer.split(", "), strict=False)) if answer else {}


def _jetson() -> dict[str, str]:
    release = Path("/etc/nv_tegra_release")
    if not release.exists():
        return {}
    mode = re.search(r"NV Power Mode: *(\S+)", _output("nvpmodel", "-q") or "")
    return {"jetson": release.read_text(encoding="utf-8").splitlines()[0].lstrip("# "), **({"power_mode": mode[1]} if mode else {})}


def _cuda() -> dict[str, str]:
    compiler = find_nvcc()
    found = re.search(r"release ([\d.]+)", _output(str(compiler), "--version") or "") if compiler else None
    return {"nvcc": found[1]} if found else {}


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
