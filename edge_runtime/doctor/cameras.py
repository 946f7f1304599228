"""Local cameras: their lasting names, what they deliver, whether they may be opened; and GStreamer's decoders."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.doctor.findings import Finding
from edge_runtime.doctor.jetson import jetpack_of
from edge_runtime.doctor.machine import Machine

__all__ = ["CameraFormat", "find_cameras", "find_gstreamer", "parse_formats"]

JETSON_PLUGINS = ("nvv4l2decoder", "nvarguscamerasrc")
STREAM_PLUGINS = {"rtspsrc": "gstreamer1.0-plugins-good", "h264parse": "gstreamer1.0-plugins-bad", "avdec_h264": "gstreamer1.0-libav"}
HARDWARE_DECODERS = ("nvv4l2decoder", "nvh264dec", "vah264dec", "v4l2h264dec")


@dataclass(frozen=True)
class CameraFormat:
    """A pixel format at one size.

    Attributes:
        code: four characters, such as `MJPG`.
        size: such as `1280x720`.
        rate: the highest, in frames per second; None where the driver does not say.
    """

    code: str
    size: str
    rate: float | None

    @property
    def is_raw_bayer(self) -> bool:
        """Straight from the sensor; no picture yet."""
        return re.fullmatch(r"(RG|BG|GB|GR|BA)(10|12|14|16|81|G[8B])|BYR2", self.code) is not None

    def __str__(self) -> str:
        return f"{self.code} {self.size}" if self.rate is None else f"{self.code} {self.size} at {self.rate:g} fps"


def parse_formats(text: str) -> list[CameraFormat]:
    """Read what `v4l2-ctl --list-formats-ext` prints, best first: size, then rate."""
    formats = []
    for block in re.split(r"^\s*\[\d+\]: ", text, flags=re.MULTILINE)[1:]:
        code = block[1:].partition("'")[0].strip()
        for size in re.split(r"^\s*Size: ", block, flags=re.MULTILINE)[1:]:
            rates = [float(rate) for rate in re.findall(r"\(([\d.]+)(?:-[\d.]+)? fps\)", size)]
            formats.append(CameraFormat(code, re.findall(r"\d+x\d+", size.partition("\n")[0])[-1], max(rates, default=None)))
    return sorted(formats, key=_pixels_and_rate, reverse=True)


def find_cameras(machine: Machine) -> list[Finding]:
    """Every video device that delivers pictures."""
    devices = sorted(machine.root.glob("dev/video[0-9]*"), key=lambda path: int(path.name.removeprefix("video")))
    if not devices:
        detail = "rtsp:// and http:// need none; plug one in, then see what the kernel says:"
        return [Finding("Cameras", "warning", "no local camera", detail, "sudo dmesg | grep -iE 'video|uvc|camera'")]
    if not machine.has_tool("v4l2-ctl"):
        remedy = "sudo apt install v4l-utils"
        findings = [Finding("Cameras", "warning", "formats unknown", "v4l2-ctl is not installed", remedy)]
    else:
        findings = []
    return findings + [_camera(machine, device) for device in devices]


def find_gstreamer(machine: Machine) -> list[Finding]:
    """The elements that decode; an OpenCV without GStreamer does not use them."""
    is_jetson = jetpack_of(machine) is not None
    if not machine.has_tool("gst-inspect-1.0"):
        if not is_jetson:
            return [Finding("GStreamer", "ok", "no gst-inspect-1.0", "only csi:// and gst: sources need GStreamer")]
        return [Finding("GStreamer", "warning", "no gst-inspect-1.0", "decoders unknown", "sudo apt install gstreamer1.0-tools")]
    findings = [_stream_plugins(machine)]
    if is_jetson:
        return findings + [_jetson_plugin(machine, name) for name in JETSON_PLUGINS]
    hardware = [name for name in HARDWARE_DECODERS if _has_element(machine, name)]
    return [*findings, Finding("GStreamer", "ok", f"hardware decoders: {', '.join(hardware) or 'none'}")]


def _camera(machine: Machine, device: Path) -> Finding:
    place = f"/dev/{device.name}"
    name = machine.read(f"/sys/class/video4linux/{device.name}/name")
    source = _source_of(machine, device)
    what = f"{place}: {name}" if name else place
    if not os.access(device, os.R_OK | os.W_OK, effective_ids=True):
        return Finding("Cameras", "warning", what, "this user may not open it", "sudo usermod -aG video $USER  # then log in again")
    listing = machine.run("v4l2-ctl", "-d", str(device), "--list-formats-ext")
    if listing is None:
        return Finding("Cameras", "ok", what, f"--source {source}")
    formats = parse_formats(listing)
    if not formats:
        return Finding("Cameras", "ok", what, "no pictures: it describes another one's")
    if all(one.is_raw_bayer for one in formats):
        return Finding("Cameras", "ok", what, f"raw Bayer, {formats[0]}: not this node, but --source csi://0")
    return Finding("Cameras", "ok", what, f"--source {source}; {_describe(formats)}")


def _source_of(machine: Machine, device: Path) -> str:
    """By identity, which stays the same after a restart and in another socket; by number where it has none."""
    for link in sorted(machine.root.glob("dev/v4l/by-id/*")):
        if link.resolve() == device.resolve():
            return f"v4l2:///dev/v4l/by-id/{link.name}"
    return f"/dev/{device.name}"


def _describe(formats: list[CameraFormat], most: int = 3) -> str:
    """The best sizes of each pixel format."""
    lines = []
    for code in dict.fromkeys(one.code for one in formats):
        sizes = [f"{one.size}@{one.rate:g}" if one.rate else one.size for one in formats if one.code == code]
        lines.append(f"{code} {', '.join(sizes[:most])}" + (", …" if len(sizes) > most else ""))
    return "; ".join(lines)


def _pixels_and_rate(one: CameraFormat) -> tuple[int, float]:
    width, height = map(int, one.size.split("x"))
    return width * height, one.rate or 0.0


def _stream_plugins(machine: Machine) -> Finding:
    absent = {name: package for name, package in STREAM_PLUGINS.items() if not _has_element(machine, name)}
    if not absent:
        return Finding("GStreamer", "ok", ", ".join(STREAM_PLUGINS), "RTSP and H.264 in software")
    detail = "RTSP and H.264 by GStreamer; FFmpeg does it without them"
    return Finding("GStreamer", "ok", f"without {', '.join(absent)}", detail, f"sudo apt install {' '.join(absent.values())}")


def _jetson_plugin(machine: Machine, name: str) -> Finding:
    purpose = "hardware decoding" if name == "nvv4l2decoder" else "csi:// cameras"
    if _has_element(machine, name):
        return Finding("GStreamer", "ok", name, purpose)
    package = "nvidia-l4t-gstreamer" if name == "nvv4l2decoder" else "nvidia-l4t-camera"
    return Finding("GStreamer", "warning", f"without {name}", f"no {purpose}", f"sudo apt install {package}")


def _has_element(machine: Machine, name: str) -> bool:
    return machine.run("gst-inspect-1.0", "--exists", name) is not None
