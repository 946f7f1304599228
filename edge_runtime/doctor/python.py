"""Python itself, and the modules edge-run uses: each is imported in a process of its own, because a broken one may crash."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_runtime.doctor.findings import Finding
from edge_runtime.doctor.jetson import jetpack_of
from edge_runtime.doctor.machine import Machine, Probe

__all__ = ["OpenCvBuild", "find_extras", "find_numpy", "find_onnxruntime", "find_opencv", "find_python", "parse_build_information"]

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

OPENCV = """
import cv2
facts = {
    "version": cv2.__version__,
    "file": cv2.__file__,
    "build": cv2.getBuildInformation(),
    "packages": versions("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
"""

NUMPY = "import numpy; facts = {'version': numpy.__version__, 'file': numpy.__file__}"

ONNXRUNTIME = """
facts = {"packages": versions("onnxruntime", "onnxruntime-gpu")}
import onnxruntime
facts |= {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}
"""

# Module: the distribution, what it is for.
EXTRAS = {
    "av": ("av", "event clips, H.264 video"),
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
        return [
            Finding("Python", "missing", f"edge-run's own needs: {probe.failure}", machine.python, "pip install --upgrade edge-runtime")
        ]
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
    probe = machine.probe(NUMPY)
    if probe.failure:
        return [Finding("NumPy", "missing", _failure(probe, "numpy"), "", f"{machine.pip} install --force-reinstall numpy")]
    return [Finding("NumPy", "ok", f"NumPy {probe.facts['version']}", probe.facts["file"])]


@dataclass(frozen=True)
class OpenCvBuild:
    """What OpenCV's build information says of video: versions, or None where it was built without."""

    gstreamer: str | None
    ffmpeg: str | None


def parse_build_information(text: str) -> OpenCvBuild:
    """Read the lines `GStreamer: YES (1.20.3)` and `FFMPEG: YES`, `avcodec: YES (…)`; a `NO` is a no."""
    found = {name.lower(): version or "yes" for name, version in re.findall(r"^\s*(\w+):\s+YES(?:\s+\(([^)]*)\))?", text, re.MULTILINE)}
    avcodec = found.get("avcodec", "yes")
    ffmpeg = f"avcodec {avcodec}" if avcodec != "yes" else "yes"
    return OpenCvBuild(gstreamer=found.get("gstreamer"), ffmpeg=ffmpeg if "ffmpeg" in found else None)


def find_opencv(machine: Machine) -> list[Finding]:
    """OpenCV, where it is from, and what it reads video with."""
    is_jetson = jetpack_of(machine) is not None
    probe = machine.probe(OPENCV)
    install = "sudo apt install python3-opencv" if is_jetson else f"{machine.pip} install opencv-python-headless"
    if probe.lacks("cv2"):
        return [Finding("OpenCV", "missing", "not installed", "reads every camera and video", install)]
    if probe.failure:
        return [_broken_opencv(machine, probe, install)]
    packages = probe.facts["packages"]
    is_system = "dist-packages" in probe.facts["file"] and not packages
    origin = "the system's" if is_system else f"pip's {', '.join(packages) or 'or built by hand'}"
    findings = [Finding("OpenCV", "ok", f"OpenCV {probe.facts['version']}", f"{origin}, {probe.facts['file']}")]
    if len(packages) > 1:
        detail = f"{', '.join(packages)} write into one folder, and the last one wins"
        remedy = f"{machine.pip} uninstall -y {' '.join(packages)} && {install}"
        findings.append(Finding("OpenCV", "warning", "installed more than once", detail, remedy))
    return findings + _video_of(machine, parse_build_information(probe.facts["build"]), packages)


def _video_of(machine: Machine, build: OpenCvBuild, packages: dict[str, str]) -> list[Finding]:
    findings = []
    if build.gstreamer:
        findings.append(Finding("OpenCV", "ok", f"with GStreamer {build.gstreamer}", "csi:// and gst: sources"))
    elif jetpack_of(machine):
        remedy = f"{machine.pip} uninstall -y {' '.join(packages)}" if packages else "sudo apt install python3-opencv"
        findings.append(Finding("OpenCV", "warning", "no GStreamer", "no csi:// cameras and no hardware decoding", remedy))
    else:
        findings.append(Finding("OpenCV", "ok", "no GStreamer", "only csi:// and gst: sources need it; the system's python3-opencv has it"))
    if build.ffmpeg:
        findings.append(Finding("OpenCV", "ok", f"with FFmpeg ({build.ffmpeg})", "files, rtsp:// and http://"))
    elif not build.gstreamer:
        remedy = f"{machine.pip} install --force-reinstall opencv-python-headless"
        findings.append(Finding("OpenCV", "warning", "no FFmpeg", "no video files, rtsp:// or http://", remedy))
    return findings


def _broken_opencv(machine: Machine, probe: Probe, install: str) -> Finding:
    if re.search(r"numpy|_ARRAY_API|multiarray", probe.failure):
        return Finding(
            "OpenCV", "missing", "does not load with this NumPy", f"built for NumPy 1 ({probe.failure})", f"{machine.pip} install 'numpy<2'"
        )
    if re.search(r"lib(GL|gthread|glib|SM|Xext)\b", probe.failure):
        remedy = f"{machine.pip} uninstall -y opencv-python opencv-contrib-python && {install}"
        return Finding("OpenCV", "missing", "does not load: a library of the desktop is missing", probe.failure, remedy)
    return Finding("OpenCV", "missing", "does not load", probe.failure, f"{install} --force-reinstall" if "pip" in install else install)


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
