"""Opening a camera with OpenCV: through the system's GStreamer where OpenCV has it, else FFmpeg or V4L2."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edge_runtime.errors import BackendUnavailable, SourceOpenError
from edge_runtime.opencv import opencv
from edge_runtime.sources import gstreamer
from edge_runtime.sources.address import Address, CameraOptions

__all__ = ["Capture", "Opener"]

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
FOURCC = {"h264": "H264", "h265": "HEVC", "mjpeg": "MJPG", "yuyv": "YUYV", "nv12": "NV12"}
# By itself FFmpeg looks at twenty frames of a camera before it gives the first: seconds of a slow camera, after every loss.
FFMPEG_OPTIONS = ("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_flags;prefer_tcp|analyzeduration;500000")


@dataclass(frozen=True, eq=False)
class Capture:
    """An open camera.

    Through FFmpeg, pictures whose size changes within a connection come scaled to the size that it began with.

    Attributes:
        decoder: what decodes its pictures.
        fps: frames per second as it says, None where it says nothing.
    """

    decoder: str
    fps: float | None
    handle: Any
    flip: str = "none"

    def read(self) -> np.ndarray | None:
        """The next frame, (H, W, 3) uint8 BGR; None when there are no more, or none came in time."""
        cv2 = opencv()
        try:
            is_read, image = self.handle.read()
        except cv2.error:  # what a decoder makes of damaged data
            return None
        if not is_read or image is None or image.size == 0:
            return None
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        return _flipped(image[:, :, :3], self.flip)

    def close(self) -> None:
        """Give the camera back."""
        self.handle.release()


class Opener:
    """Opens one camera, again and again; begins with the way that worked the last time."""

    def __init__(self, address: Address, options: CameraOptions) -> None:
        self._address = address
        self._options = options
        self._ways = _ways(address, options)

    def open(self) -> Capture:
        """Open the camera.

        Raises:
            SourceOpenError: it is not there, or does not answer within `open_s`.
        """
        address = self._address
        if address.kind == "v4l2" and sys.platform == "linux" and not Path(address.target).exists():
            raise SourceOpenError(f"{address.shown}: expected a camera at {address.target}, found none. List them: ls /dev/video*")
        if address.kind == "network":
            _knock(address, self._options.open_s)
        for way in self._ways:
            handle = way.open()
            if handle.isOpened():
                self._ways = [way, *(other for other in self._ways if other is not way)]
                return _capture(address, way.decoder, handle, self._options)
            handle.release()
        tried = ", ".join(way.decoder for way in self._ways)
        raise SourceOpenError(f"{address.shown}: expected a camera, it cannot be opened (tried: {tried}). {_advice(address)}")


def _knock(address: Address, patience_s: float) -> None:
    """Find out why a camera cannot be reached: OpenCV does not say, and GStreamer may wait for ever at a port that refuses."""
    parts = urlsplit(address.target)
    port = parts.port or PORTS[parts.scheme.lower()]
    try:
        socket.create_connection((parts.hostname, port), timeout=patience_s).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise SourceOpenError(f"{address.shown}: expected a camera there, got '{reason}'. {_advice(address)}") from error


@dataclass(frozen=True)
class _Way:
    decoder: str
    open: Callable[[], Any]


def _ways(address: Address, options: CameraOptions) -> list[_Way]:
    ways: list[_Way] = []
    if gstreamer.has_gstreamer():
        found = gstreamer.pipelines(address, options)
        if address.kind == "v4l2":  # V4L2 itself is as good, but for pictures that the hardware can decode
            found = [(name, pipeline) for name, pipeline in found if "hardware" in name]
        ways += [_Way(name, _through_gstreamer(pipeline, options)) for name, pipeline in found]
    elif address.kind in ("gst", "csi"):
        raise BackendUnavailable(
            f"{address.shown}: expected an OpenCV with GStreamer, this one ({opencv().__version__}) was built without. Use the system's "
            "(apt install python3-opencv; JetPack has it) in a venv with --system-site-packages."
        )
    if address.kind == "v4l2":
        ways.append(_Way("V4L2", _through_v4l2(address, options)))
    if address.kind == "network":
        ways.append(_Way("FFmpeg", _through_ffmpeg(address, options)))
    return ways


def _through_gstreamer(pipeline: str, options: CameraOptions) -> Callable[[], Any]:
    cv2 = opencv()
    parameters = _timeouts(options) if gstreamer.has_read_timeout() else []
    return lambda: cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, parameters)


def _through_ffmpeg(address: Address, options: CameraOptions) -> Callable[[], Any]:
    cv2 = opencv()
    os.environ.setdefault(*FFMPEG_OPTIONS)
    parameters = [*_timeouts(options), cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_ANY]
    if hasattr(cv2, "CAP_PROP_N_THREADS"):  # each thread of the decoder holds a frame back: eight are 0.8 s at 10 fps
        parameters += [cv2.CAP_PROP_N_THREADS, 1]

    def open_stream() -> Any:
        began_s = monotonic()
        handle = cv2.VideoCapture(address.target, cv2.CAP_FFMPEG, parameters)
        if monotonic() - began_s >= options.open_s:  # OpenCV calls it open although nothing came in time
            handle.release()
        return handle

    return open_stream


def _through_v4l2(address: Address, options: CameraOptions) -> Callable[[], Any]:
    cv2 = opencv()
    is_linux = sys.platform == "linux"
    number = address.target.removeprefix("/dev/video")
    if not is_linux and not number.isdecimal():
        raise SourceOpenError(f"{address.shown}: expected a camera's number, as in camera:0, on a system that is not Linux.")
    device: str | int = address.target if is_linux else int(number)

    def open_device() -> Any:
        handle = cv2.VideoCapture(device, cv2.CAP_V4L2 if is_linux else cv2.CAP_ANY)
        if options.codec:  # before the size: a camera offers other sizes in other formats
            handle.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*FOURCC[options.codec]))
        for name, value in ((cv2.CAP_PROP_FRAME_WIDTH, options.width), (cv2.CAP_PROP_FRAME_HEIGHT, options.height)):
            if value:
                handle.set(name, value)
        if options.rate:
            handle.set(cv2.CAP_PROP_FPS, options.rate)
        return handle

    return open_device


def _timeouts(options: CameraOptions) -> list[int]:
    cv2 = opencv()
    open_ms, read_ms = round(1e3 * options.open_s), round(1e3 * options.stall_s)
    return [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]


def _capture(address: Address, decoder: str, handle: Any, options: CameraOptions) -> Capture:
    cv2 = opencv()
    if decoder == "FFmpeg":
        is_hardware = handle.get(cv2.CAP_PROP_HW_ACCELERATION) > 0
        decoder = f"FFmpeg, {'hardware' if is_hardware else 'software'}"
    fps = float(handle.get(cv2.CAP_PROP_FPS))
    if address.target.lower().startswith("http"):
        fps = 0.0  # pictures over HTTP carry no rate; FFmpeg makes up 25
    return Capture(decoder, fps if 0 < fps < 1000 else None, handle, options.flip)


def _flipped(image: np.ndarray, flip: str) -> np.ndarray:
    cv2 = opencv()
    if flip in ("clockwise", "counterclockwise"):
        return np.asarray(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE if flip == "clockwise" else cv2.ROTATE_90_COUNTERCLOCKWISE))
    if flip != "none":
        return np.asarray(cv2.flip(image, {"horizontal": 1, "vertical": 0, "rotate-180": -1}[flip]))
    return image


def _advice(address: Address) -> str:
    if address.kind == "network":
        return "Check that it is on, its address, user and password."
    if address.kind == "gst":
        return "Try the pipeline: gst-launch-1.0 … ! fakesink"
    if address.kind == "csi":
        return "Check the cable, and: sudo systemctl restart nvargus-daemon"
    return "Check that no other program uses it, and that this user is in the group video."
