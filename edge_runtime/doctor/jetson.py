"""A Jetson: its model, JetPack and power mode. On any other machine there is nothing to find."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_runtime.doctor.findings import Finding
from edge_runtime.doctor.machine import Machine

__all__ = ["JetPack", "find_jetson", "jetpack_of"]

# Jetson Linux (L4T) release and revision from which on it is that JetPack.
JETPACKS = (((38, 0), 7, "7"), ((36, 4), 6, "6.1 or 6.2"), ((36, 2), 6, "6.0"), ((34, 0), 5, "5"))


@dataclass(frozen=True)
class JetPack:
    """The system of a Jetson.

    Attributes:
        l4t: Jetson Linux, as in `36.4.3`.
        major: of JetPack; 0 where it is older than 5.
        name: such as `JetPack 6.1 or 6.2`.
        is_package_installed: the package nvidia-jetpack, which brings CUDA, cuDNN and TensorRT, is there.
    """

    l4t: str
    major: int
    name: str
    is_package_installed: bool


def jetpack_of(machine: Machine) -> JetPack | None:
    """From /etc/nv_tegra_release and dpkg's list; None on a machine that is no Jetson."""
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", machine.read("/etc/nv_tegra_release") or "")
    if release is None:
        return None
    l4t = f"{release[1]}.{release[2]}"
    number = int(release[1]), int(release[2].partition(".")[0])
    major, name = next(((major, name) for since, major, name in JETPACKS if number >= since), (0, "4 or older"))
    package = _package_version(machine, "nvidia-jetpack")
    return JetPack(l4t, major, f"JetPack {package or name}", package is not None)


def find_jetson(machine: Machine) -> list[Finding]:
    """Model, JetPack, power mode and clocks."""
    jetpack = jetpack_of(machine)
    if jetpack is None:
        return [Finding("Jetson", "ok", "not a Jetson")]
    model = machine.read("/proc/device-tree/model") or "unknown model"
    return [Finding("Jetson", "ok", model), _jetpack(jetpack), _power_mode(machine), _clocks(machine)]


def _jetpack(jetpack: JetPack) -> Finding:
    detail = f"Jetson Linux {jetpack.l4t}"
    if jetpack.major < 6:
        return Finding("Jetson", "warning", jetpack.name, f"{detail}: its Python is older than 3.10", "Flash JetPack 6 or newer.")
    if not jetpack.is_package_installed:
        detail += "; the package nvidia-jetpack (CUDA, TensorRT) is not installed"
        return Finding("Jetson", "warning", jetpack.name, detail, "sudo apt install nvidia-jetpack")
    return Finding("Jetson", "ok", jetpack.name, detail)


def _power_mode(machine: Machine) -> Finding:
    mode = re.search(r"NV Power Mode:\s*(\S+)", machine.run("nvpmodel", "-q") or "")
    if mode is None:
        return Finding("Jetson", "warning", "power mode unknown", "nvpmodel does not answer", "sudo nvpmodel -q")
    modes = re.findall(r"POWER_MODEL ID=(\d+) NAME=(\S+?)\s*>", machine.read("/etc/nvpmodel.conf") or "")
    fastest = next((number for number, name in reversed(modes) if name.startswith("MAXN")), None)
    if mode[1].startswith("MAXN") or fastest is None:
        return Finding("Jetson", "ok", f"power mode {mode[1]}")
    return Finding(
        "Jetson", "ok", f"power mode {mode[1]}", "the fastest one, if power and cooling allow it:", f"sudo nvpmodel -m {fastest}"
    )


def _clocks(machine: Machine) -> Finding:
    """The GPU's lowest clock is its highest while jetson_clocks holds it."""
    for folder in machine.root.glob("sys/class/devfreq/*g[pv]*"):
        low, high = (machine.read(f"{folder.relative_to(machine.root)}/{name}") for name in ("min_freq", "max_freq"))
        if low is not None and low == high:
            return Finding("Jetson", "ok", "clocks held at their highest")
    return Finding("Jetson", "ok", "clocks follow the load", "steadier latency, at more power:", "sudo jetson_clocks")


def _package_version(machine: Machine, name: str) -> str | None:
    paragraph = re.search(rf"^Package: {re.escape(name)}\n(?:.+\n)*", (machine.read("/var/lib/dpkg/status") or "") + "\n", re.MULTILINE)
    if paragraph is None or "Status: install ok installed" not in paragraph[0]:
        return None
    version = re.search(r"^Version: (\S+)", paragraph[0], re.MULTILINE)
    return version[1] if version else None
