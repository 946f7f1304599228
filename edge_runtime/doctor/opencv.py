"""OpenCV: whose it is, and what it was built with to read video."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_runtime.doctor.findings import Finding
from edge_runtime.doctor.jetson import jetpack_of
from edge_runtime.doctor.machine import Machine, Probe

__all__ = ["OpenCvBuild", "find_opencv", "parse_build_information"]

OPENCV = """
import cv2
facts = {
    "version": cv2.__version__,
    "file": cv2.__file__,
    "build": cv2.getBuildInformation(),
    "packages": versions("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
}
"""


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
    probe = machine.probe(OPENCV)
    install = "sudo apt install python3-opencv" if jetpack_of(machine) else f"{machine.pip} install opencv-python-headless"
    if probe.lacks("cv2"):
        return [Finding("OpenCV", "missing", "not installed", "reads every camera and video", install)]
    if probe.failure:
        return [_broken_opencv(machine, probe, install)]
    packages = probe.facts["packages"]
    by_hand = "the system's" if "dist-packages" in probe.facts["file"] else "built by hand"
    origin = f"pip's {', '.join(packages)}" if packages else by_hand
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
        findings.append(Finding("OpenCV", "ok", f"with FFmpeg ({build.ffmpeg})", "files; rtsp:// and http:// where PyAV is not installed"))
    elif not build.gstreamer:
        remedy = f"{machine.pip} install --force-reinstall opencv-python-headless"
        findings.append(Finding("OpenCV", "warning", "no FFmpeg", "no video files, rtsp:// or http://", remedy))
    return findings


def _broken_opencv(machine: Machine, probe: Probe, install: str) -> Finding:
    if re.search(r"numpy|_ARRAY_API|multiarray", probe.failure):
        detail = f"it was built for NumPy 1 ({probe.failure})"
        return Finding("OpenCV", "missing", "does not load with this NumPy", detail, f"{machine.pip} install 'numpy<2'")
    if re.search(r"lib(GL|gthread|glib|SM|Xext)\b", probe.failure):
        remedy = f"{machine.pip} uninstall -y opencv-python opencv-contrib-python && {install}"
        return Finding("OpenCV", "missing", "does not load: a library of the desktop is missing", probe.failure, remedy)
    again = "--reinstall" if jetpack_of(machine) else "--force-reinstall"
    return Finding("OpenCV", "missing", "does not load", probe.failure, f"{install} {again}")
