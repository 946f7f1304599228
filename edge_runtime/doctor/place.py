"""Where edge-run would run: disk, memory, and the bundle."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.doctor.findings import Finding, Status
from edge_runtime.doctor.machine import Machine

if TYPE_CHECKING:
    from edge_runtime.bundle import Bundle

__all__ = ["find_bundle", "find_disk", "find_memory"]

LEAST_DISK_MB = 1_000
LEAST_MEMORY_MB = 500
DEFAULT_PRECISION = "fp32"

# What reading a bundle imports; looked at in another process first, because a broken library would take the doctor down.
LIBRARIES = "import msgspec, numpy, safetensors.numpy; facts = {}"


def find_disk(machine: Machine) -> list[Finding]:
    """Room in the current folder, where --out, --events and --state would go."""
    try:
        folder = machine.folder.absolute()
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return [Finding("Disk", "warning", "unknown", f"the current folder: {error.strerror}", "cd")]
    what = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free"
    if usage.free < LEAST_DISK_MB * 1e6:
        return [Finding("Disk", "warning", what, f"at {folder}", f"du -xh --max-depth=1 {folder} | sort -h")]
    if not os.access(folder, os.W_OK, effective_ids=True):
        return [Finding("Disk", "ok", what, f"at {folder}, where this user may not write")]
    return [Finding("Disk", "ok", what, f"at {folder}")]


def find_memory(machine: Machine) -> list[Finding]:
    """RAM; a Jetson's GPU shares it."""
    sizes_kb = dict(re.findall(r"^(\w+):\s+(\d+) kB", machine.read("/proc/meminfo") or "", re.MULTILINE))
    if "MemTotal" not in sizes_kb or "MemAvailable" not in sizes_kb:
        return [Finding("Memory", "warning", "unknown", "/proc/meminfo does not say", "free -m")]
    total_mb, available_mb = (int(sizes_kb[name]) * 1024 / 1e6 for name in ("MemTotal", "MemAvailable"))
    what = f"{available_mb / 1e3:.1f} of {total_mb / 1e3:.1f} GB available"
    if available_mb < LEAST_MEMORY_MB:
        return [Finding("Memory", "warning", what, "edge-run needs a few hundred MB for each camera", "ps aux --sort=-rss | head")]
    return [Finding("Memory", "ok", what)]


def find_bundle(machine: Machine, path: Path) -> list[Finding]:
    """The bundle, and whether its files are those that its manifest describes."""
    libraries = machine.probe(LIBRARIES)
    if libraries.failure:
        return [
            Finding(
                "Bundle", "warning", "not checked", libraries.failure, f"{machine.pip} install --force-reinstall msgspec numpy safetensors"
            )
        ]
    from edge_runtime.bundle import Bundle
    from edge_runtime.errors import EdgeError, ManifestError

    try:
        bundle = Bundle.load(path)
    except ManifestError as error:
        remedy = f"Copy {path} again." if os.path.exists(path / "manifest.json") else "export EDGE_BUNDLE=DIR  # or say --bundle DIR"
        return [Finding("Bundle", "missing", "no usable bundle", str(error), remedy)]
    findings = [Finding("Bundle", "ok", bundle.manifest.name, f"{path}, SHA-256 {bundle.identity[:12]}…")]
    try:
        bundle.read_items()
    except EdgeError as error:
        findings.append(Finding("Bundle", "missing", "memory", str(error), f"Copy {path} again."))
    return findings + [_precision(bundle, name) for name in bundle.manifest.precisions]


def _precision(bundle: Bundle, name: str) -> Finding:
    from edge_runtime.errors import EdgeError
    from edge_runtime.loading import cpu_graphs

    precision = bundle.precision(name)
    try:
        for graph in (precision.encoder, precision.decoder):
            bundle.read(graph)
    except EdgeError as error:
        status: Status = "missing" if name == DEFAULT_PRECISION else "warning"
        return Finding("Bundle", status, name, str(error), f"Copy {bundle.path} again.")
    on_cpu = cpu_graphs(precision)
    try:
        for graph in (on_cpu.encoder, on_cpu.decoder) if on_cpu is not precision else ():
            bundle.read(graph)
    except EdgeError as error:
        return Finding("Bundle", "warning", name, f"slower on the CPU than it could be: {error}", f"Copy {bundle.path} again.")
    threshold = precision.threshold
    note = " (extrapolated)" if threshold.is_extrapolated else ""
    return Finding(
        "Bundle", "ok", name, f"threshold {threshold.score:.2f}, false alarms per hour: {threshold.false_alarms_per_hour:g}{note}"
    )
