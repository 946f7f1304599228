"""Cameras through OpenCV: the system's GStreamer where OpenCV has it, its FFmpeg, or V4L2."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edge_runtime.errors import SourceOpenError
from edge_runtime.optional.opencv import CAMERA_OPTIONS, FFMPEG_OPTIONS, opencv
from edge_runtime.sources.address import Address, CameraOptions
from edge_runtime.sources.cameras import gstreamer
from edge_runtime.sources.cameras.flip import flipped

__all__ = ["OpenCvCapture", "through_ffmpeg", "through_gstreamer", "through_v4l2"]

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
# What OpenCV asks of every camera; asked again, because the format and size it begins with may be slower than those that are wanted.
V4L2_RATE = 30.0
FOURCC = {"h264": "H264", "h265": "HEVC", "mjpeg": "MJPG", "yuyv": "YUYV", "nv12": "NV12"}


@dataclass(frozen=True, eq=False)
class OpenCvCapture:
    """A camera that OpenCV opened, as `Capture` says.

    Through FFmpeg, pictures whose size changes within a connection come scaled to the size that it began with, and damaged ones
    look like others.
    """

    decoder: str
    fps: float | None
    handle: Any
    flip: str = "none"

    is_damaged = False

    def read(self) -> np.ndarray | None:
        """As `Capture` says."""
        cv2 = opencv()
        try:
            is_read, image = self.handle.read()
        except cv2.error:  # what a decoder makes of damaged data
            return None
        if not is_read or image is None or image.size == 0:
            return None
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        return flipped(image[:, :, :3], self.flip)

    def close(self) -> None:
        """Give the camera back."""
        self.handle.release()


Opening = Callable[[], "OpenCvCapture | None"]


def through_gstreamer(decoder: str, pipeline: str, address: Address, options: CameraOptions) -> Opening:
    """How to open a camera by a pipeline; what is returned gives None where it does not open.

    Raises:
        SourceOpenError (when opening): nothing answers at a network camera's address.
    """
    cv2 = opencv()
    parameters = _timeouts(options) if gstreamer.has_read_timeout() else []

    def open_pipeline() -> OpenCvCapture | None:
        _knock(address, options.open_s)
        return _opened(cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER, parameters), decoder, address, options)

    return open_pipeline


def through_ffmpeg(address: Address, options: CameraOptions) -> Opening:
    """How to open a network camera by OpenCV's FFmpeg; as `through_gstreamer`."""
    cv2 = opencv()
    os.environ.setdefault(FFMPEG_OPTIONS, CAMERA_OPTIONS)
    parameters = [*_timeouts(options), cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_ANY]
    if hasattr(cv2, "CAP_PROP_N_THREADS"):  # each thread of the decoder holds a frame back: eight are 0.8 s at 10 fps
        parameters += [cv2.CAP_PROP_N_THREADS, 1]

    def open_stream() -> OpenCvCapture | None:
        _knock(address, options.open_s)
        began_s = monotonic()
        handle = cv2.VideoCapture(address.target, cv2.CAP_FFMPEG, parameters)
        if monotonic() - began_s >= options.open_s:  # OpenCV calls it open although nothing came in time
            handle.release()
        is_hardware = handle.get(cv2.CAP_PROP_HW_ACCELERATION) > 0
        return _opened(handle, f"FFmpeg (OpenCV), {'hardware' if is_hardware else 'software'}", address, options)

    return open_stream


def through_v4l2(address: Address, options: CameraOptions) -> Opening:
    """How to open a local camera; as `through_gstreamer`.

    Raises:
        SourceOpenError: not a number, on a system where cameras have numbers alone.
    """
    cv2 = opencv()
    is_linux = sys.platform == "linux"
    number = address.target.removeprefix("/dev/video")
    if not is_linux and not number.isdecimal():
        raise SourceOpenError(f"{address.shown}: expected a camera's number, as in camera:0, on a system that is not Linux.")
    device: str | int = address.target if is_linux else int(number)

    def open_device() -> OpenCvCapture | None:
        handle = cv2.VideoCapture(device, cv2.CAP_V4L2 if is_linux else cv2.CAP_ANY)
        if options.codec:  # before the size: a camera offers other sizes in other formats
            handle.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*FOURCC[options.codec]))
        for name, value in ((cv2.CAP_PROP_FRAME_WIDTH, options.width), (cv2.CAP_PROP_FRAME_HEIGHT, options.height)):
            if value:
                handle.set(name, value)
        rate = options.rate or V4L2_RATE
        if options.rate or handle.get(cv2.CAP_PROP_FPS) < rate:
            handle.set(cv2.CAP_PROP_FPS, rate)
        return _opened(handle, "V4L2", address, options)

    return open_device


def _knock(address: Address, patience_s: float) -> None:
    """Find out why a camera cannot be reached: OpenCV does not say, and GStreamer may wait for ever at a port that refuses."""
    if address.kind != "network":
        return
    parts = urlsplit(address.target)
    port = parts.port or PORTS[parts.scheme.lower()]
    try:
        socket.create_connection((parts.hostname, port), timeout=patience_s).close()
    except UnicodeError:
        raise SourceOpenError(f"{address.shown}: expected a camera there, got 'no name of a host'. Check its address.") from None
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise SourceOpenError(f"{address.shown}: expected a camera there, got '{reason}'. Check that it is on, and its address.") from error


def _opened(handle: Any, decoder: str, address: Address, options: CameraOptions) -> OpenCvCapture | None:
    cv2 = opencv()
    if not handle.isOpened():
        handle.release()
        return None
    fps = float(handle.get(cv2.CAP_PROP_FPS))
    if address.target.lower().startswith("http"):
        fps = 0.0  # pictures over HTTP carry no rate; FFmpeg makes up 25
    return OpenCvCapture(decoder, fps if 0 < fps < 1000 else None, handle, options.flip)


def _timeouts(options: CameraOptions) -> list[int]:
    cv2 = opencv()
    open_ms, read_ms = round(1e3 * options.open_s), round(1e3 * options.stall_s)
    return [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
