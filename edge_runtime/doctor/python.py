"""Python itself, and the modules edge-run uses: each is imported in a process of its own, because a broken one may crash."""

from __future__ import annotations

from edge_runtime.doctor.findings import Finding
from edge_runtime.doctor.jetson import jetpack_of
from edge_runtime.doctor.machine import Machine, Probe

__all__ = ["find_extras", "find_numpy", "find_onnxruntime", "find_python"]

PYTHON = """
import sys
facts = {
    "version": list(sys.version_info[:3]),
    "is_venv": sys.prefix != sys.base_prefix,
    "prefix": sys.prefix,
    "sees_system": any("dist-packages" in path for path in sys.path),
}
"""

NEEDS = ("msgspec", "safetensors", "threadpoolctl", "tqdm")

NUMPY = "import numpy; facts = {'version': numpy.__version__, 'file': numpy.__file__}"

ONNXRUNTIME = """
import os
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
facts = {"packages": versions("onnxruntime", "onnxruntime-gpu")}
import onnxruntime
facts |= {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}
"""

# Module: the distribution, what it is for.
EXTRAS = {
    "av": ("av", "event clips, H.264 video; without it rtsp:// and http:// cameras tell less"),
    "matplotlib": ("matplotlib", "timeline.png, score plots"),
    "paho.mqtt": ("paho-mqtt", "--mqtt"),
    "urllib3": ("urllib3", "--webhook"),
}

# JetPack's own modules (tensorrt, cv2) are for its own Python.
JETPACK_PYTHON = {5: (3, 8), 6: (3, 10), 7: (3, 12)}


def find_python(machine: Machine) -> list[Finding]:
    """The interpreter, and whether it sees what JetPack brought."""
    probe = machine.probe(PYTHON + f"import {', '.join(NEEDS)}")
    if probe.failure:
        remedy = f"{machine.pip} install {probe.absent or '--force-reinstall ' + ' '.join(NEEDS)}"
        return [Finding("Python", "missing", "cannot import what edge-run needs", f"{machine.python}: {probe.failure}", remedy)]
    version = tuple(probe.facts["version"][:2])
    what = "Python " + ".".join(map(str, probe.facts["version"]))
    place = f"virtual environment {probe.facts['prefix']}" if probe.facts["is_venv"] else machine.python
    jetpack = jetpack_of(machine)
    wanted = JETPACK_PYTHON.get(jetpack.major) if jetpack else None
    if wanted is not None and version != wanted:
        detail = f"JetPack's TensorRT and OpenCV are for Python {wanted[0]}.{wanted[1]}"
        if wanted < (3, 10):
            return [Finding("Python", "warning", what, f"{detail}, edge-run needs 3.10", "Flash JetPack 6 or newer.")]
        return [Finding("Python", "warning", what, detail, f"python{wanted[0]}.{wanted[1]} -m venv --system-site-packages .venv")]
    if wanted is not None and not probe.facts["sees_system"]:
        detail = f"{place} does not see JetPack's TensorRT and OpenCV"
        return [Finding("Python", "warning", what, detail, "python3 -m venv --system-site-packages .venv")]
    return [Finding("Python", "ok", what, place)]


def find_numpy(machine: Machine) -> list[Finding]:
    """NumPy, which everything else stands on."""
    probe = machine.probe(NUMPY)
    if probe.failure:
        return [Finding("NumPy", "missing", _failure(probe, "numpy"), "", f"{machine.pip} install --force-reinstall numpy")]
    return [Finding("NumPy", "ok", f"NumPy {probe.facts['version']}", probe.facts["file"])]


def find_onnxruntime(machine: Machine) -> list[Finding]:
    """Which of the two packages of ONNX Runtime, and what it can run on."""
    probe = machine.probe(ONNXRUNTIME)
    if probe.failure:
        remedy = f"{machine.pip} install onnxruntime"
        if not probe.lacks("onnxruntime"):
            remedy = f"{machine.pip} uninstall -y onnxruntime onnxruntime-gpu && {machine.pip} install onnxruntime"
        return [Finding("ONNX Runtime", "missing", _failure(probe, "onnxruntime"), "runs the graphs", remedy)]
    packages = probe.facts["packages"]
    providers = [name.removesuffix("ExecutionProvider") for name in probe.facts["providers"]]
    what = f"{' and '.join(packages) or 'onnxruntime'} {probe.facts['version']}"
    findings = [Finding("ONNX Runtime", "ok", what, f"providers: {', '.join(providers)}")]
    if len(packages) > 1:
        remedy = f"{machine.pip} uninstall -y onnxruntime onnxruntime-gpu && {machine.pip} install onnxruntime"
        findings.append(Finding("ONNX Runtime", "warning", "both installed", "they overwrite each other's files: keep one", remedy))
    return findings


def find_extras(machine: Machine) -> list[Finding]:
    """What only some flags need."""
    return [_extra(machine, module, *facts) for module, facts in EXTRAS.items()]


def _extra(machine: Machine, module: str, package: str, purpose: str) -> Finding:
    probe = machine.probe(f"import {module}; facts = versions({package!r})")
    if not probe.failure:
        return Finding("Extras", "ok", f"{package} {probe.facts.get(package, '')}".strip(), purpose)
    remedy = f"{machine.pip} install {'' if probe.lacks(module) else '--force-reinstall '}{package}"
    return Finding("Extras", "warning", f"{package}: {_failure(probe, module)}", f"for {purpose}", remedy)


def _failure(probe: Probe, module: str) -> str:
    return "not installed" if probe.lacks(module) else f"does not load: {probe.failure}"
