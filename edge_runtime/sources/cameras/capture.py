"""Opening a camera, by the best of the ways that this machine has for it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edge_runtime.errors import BackendUnavailable, SourceOpenError
from edge_runtime.optional.opencv import opencv
from edge_runtime.optional.pyav import has_pyav
from edge_runtime.sources.address import Address, CameraOptions
from edge_runtime.sources.cameras import gstreamer, opencv_capture
from edge_runtime.sources.cameras.pyav_capture import through_pyav

__all__ = ["Capture", "Opener"]

log = logging.getLogger(__name__)


class Capture(Protocol):
    """An open camera.

    Attributes:
        decoder: what decodes its pictures.
        fps: frames per second as it says, None where it says nothing.
        is_damaged: the picture read last is not as the camera saw it, or nobody knows.
    """

    @property
    def decoder(self) -> str: ...

    @property
    def fps(self) -> float | None: ...

    @property
    def is_damaged(self) -> bool: ...

    def read(self) -> np.ndarray | None:
        """The next frame, (H, W, 3) uint8 BGR; None when there are no more, or none came in time."""

    def close(self) -> None:
        """Give the camera back."""


class Opener:
    """Opens one camera, again and again; begins with the way that worked the last time.

    Raises:
        BackendUnavailable: this OpenCV cannot open such a camera.
    """

    def __init__(self, address: Address, options: CameraOptions) -> None:
        self._address = address
        self._ways = _ways(address, options)

    def open(self) -> Capture:
        """Open the camera.

        Raises:
            SourceOpenError: it is not there, does not answer within `open_s`, or sends nothing that can be decoded.
        """
        address = self._address
        if address.kind == "v4l2" and sys.platform == "linux" and not Path(address.target).exists():
            raise SourceOpenError(f"{address.shown}: expected a camera at {address.target}, found none. List them: ls /dev/video*")
        for way in self._ways:
            capture = way.open()
            if capture is not None:
                self._ways = [way, *(other for other in self._ways if other is not way)]
                return capture
        tried = ", ".join(way.name for way in self._ways)
        raise SourceOpenError(f"{address.shown}: expected a camera, it cannot be opened (tried: {tried}). {_advice(address)}")


@dataclass(frozen=True)
class _Way:
    name: str
    open: Callable[[], Capture | None]


def _ways(address: Address, options: CameraOptions) -> list[_Way]:
    """The ways to open a camera, the best first: hardware that decodes, then what tells most of what goes wrong."""
    ways = _gstreamer_ways(address, options)
    if address.kind == "v4l2":
        ways.append(_Way("V4L2", opencv_capture.through_v4l2(address, options)))
    if address.kind == "network" and has_pyav():
        ways = [way for way in ways if "hardware" in way.name]
        ways.append(_Way("FFmpeg (PyAV)", through_pyav(address, options)))
    elif address.kind == "network":
        if not ways:
            log.warning(
                "%s: read by OpenCV's FFmpeg, which tells neither a new resolution nor damaged pictures. PyAV does: "
                "pip install 'edge-runtime[video]'",
                address.shown,
            )
        ways.append(_Way("FFmpeg (OpenCV)", opencv_capture.through_ffmpeg(address, options)))
    return ways


def _gstreamer_ways(address: Address, options: CameraOptions) -> list[_Way]:
    if not gstreamer.has_gstreamer():
        if address.kind in ("gst", "csi"):
            raise BackendUnavailable(
                f"{address.shown}: expected an OpenCV with GStreamer, this one ({opencv().__version__}) was built without. Use the "
                "system's (apt install python3-opencv; JetPack has it) in a venv with --system-site-packages."
            )
        return []
    found = gstreamer.pipelines(address, options)
    if address.kind == "v4l2":  # V4L2 itself is as good, but for pictures that the hardware can decode
        found = [(name, pipeline) for name, pipeline in found if "hardware" in name]
    return [_Way(name, opencv_capture.through_gstreamer(name, pipeline, address, options)) for name, pipeline in found]


def _advice(address: Address) -> str:
    if address.kind == "network":
        return "Check that it is on, its address, user and password."
    if address.kind == "gst":
        return "Try the pipeline: gst-launch-1.0 … ! fakesink"
    if address.kind == "csi":
        return "Check the cable, and: sudo systemctl restart nvargus-daemon"
    return "Check that no other program uses it, and that this user is in the group video."
