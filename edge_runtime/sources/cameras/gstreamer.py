"""GStreamer pipelines for OpenCV: a Jetson's hardware decoder where it is, software elsewhere."""

from __future__ import annotations

import re
import subprocess
from functools import cache

from edge_runtime.optional.opencv import opencv
from edge_runtime.sources.address import Address, CameraOptions

__all__ = ["has_element", "has_gstreamer", "has_read_timeout", "pipelines"]

# The newest frame alone is kept, and frames are not held back to their time of display.
SINK = "appsink drop=true max-buffers=1 sync=false"
TO_BGR = f"videoconvert ! video/x-raw,format=BGR ! {SINK}"
FROM_DEVICE_MEMORY = f"nvvidconv ! video/x-raw,format=BGRx ! {TO_BGR}"
HARDWARE_DECODER = "nvv4l2decoder"
PARSERS = {"h264": "rtph264depay ! h264parse", "h265": "rtph265depay ! h265parse", "mjpeg": "rtpjpegdepay"}
FORMATS = {
    "yuyv": "video/x-raw,format=YUY2",
    "nv12": "video/x-raw,format=NV12",
    "mjpeg": "image/jpeg",
    "h264": "video/x-h264",
    "h265": "video/x-h265",
}
DECODED = ("yuyv", "nv12")
PROBE_TIMEOUT_S = 20


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer: JetPack's and Debian's are, pip's is not."""
    return re.search(r"GStreamer:\s+YES", opencv().getBuildInformation()) is not None


def has_read_timeout() -> bool:
    """Whether OpenCV's GStreamer reader gives up waiting for a frame; it does from 4.7 on."""
    major, minor = (int(part) for part in opencv().__version__.split(".")[:2])
    return (major, minor) >= (4, 7)


@cache
def has_element(name: str) -> bool:
    """Whether GStreamer has an element of this name, as far as `gst-inspect-1.0` can tell."""
    try:
        process = subprocess.run(["gst-inspect-1.0", "--exists", name], check=False, timeout=PROBE_TIMEOUT_S, capture_output=True)  # noqa: S603, S607
    except (OSError, subprocess.TimeoutExpired):
        return False
    return process.returncode == 0


def pipelines(address: Address, options: CameraOptions) -> list[tuple[str, str]]:
    """Pipelines to try in turn, each with the name of its decoder."""
    if address.kind == "gst":
        return [("GStreamer, own pipeline", _own(address.target))]
    if address.kind == "csi":
        return [("GStreamer, nvarguscamerasrc", _csi(address, options))]
    source = _network(address, options) if address.kind == "network" else f'v4l2src device="{address.target}" ! {_caps(options)}'
    found = [("GStreamer, software", f"{source} ! decodebin ! {TO_BGR}")]
    if options.codec not in DECODED and has_element(HARDWARE_DECODER):
        found.insert(0, (f"GStreamer, hardware ({HARDWARE_DECODER})", _hardware(source, address, options)))
    return found


def _own(pipeline: str) -> str:
    return pipeline if re.search(r"\bappsink\b", pipeline) else f"{pipeline} ! {TO_BGR}"


def _csi(address: Address, options: CameraOptions) -> str:
    size = f",width={options.width},height={options.height}" if options.width else ""
    rate = f",framerate={_fraction(options.rate)}" if options.rate else ""
    return f"nvarguscamerasrc sensor-id={address.target} ! video/x-raw(memory:NVMM){size}{rate} ! {FROM_DEVICE_MEMORY}"


def _network(address: Address, options: CameraOptions) -> str:
    location = address.target.replace("!", "%21")
    if address.target.lower().startswith("http"):
        return f'souphttpsrc location="{location}" is-live=true timeout={max(1, round(options.stall_s))} ! multipartdemux'
    patience_us = round(options.stall_s * 1e6)
    parser = f" ! {PARSERS[options.codec]}" if options.codec in PARSERS else ""
    return f'rtspsrc location="{location}" protocols=tcp latency=200 tcp-timeout={patience_us} timeout={patience_us}{parser}'


def _hardware(source: str, address: Address, options: CameraOptions) -> str:
    """With a known codec the decoder is named; else decodebin prefers the hardware by its rank."""
    is_jpeg = options.codec == "mjpeg" or (address.kind == "network" and address.target.lower().startswith("http"))
    decoder = f"{HARDWARE_DECODER} mjpeg=1" if is_jpeg else HARDWARE_DECODER if options.codec else "decodebin"
    return f"{source} ! {decoder} ! {FROM_DEVICE_MEMORY}"


def _caps(options: CameraOptions) -> str:
    caps = FORMATS.get(options.codec or "", "video/x-raw")
    if options.width:
        caps += f",width={options.width},height={options.height}"
    return caps + (f",framerate={_fraction(options.rate)}" if options.rate else "")


def _fraction(rate: float) -> str:
    return f"{round(rate)}/1" if float(rate).is_integer() else f"{round(rate * 1001)}/1001"
