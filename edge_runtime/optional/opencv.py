"""The one place that imports OpenCV: on a Jetson it is JetPack's, elsewhere pip's."""

from __future__ import annotations

import os
from types import ModuleType

from edge_runtime.errors import BackendUnavailable

__all__ = ["CAMERA_OPTIONS", "FFMPEG_OPTIONS", "opencv"]

# OpenCV and FFmpeg report a camera that is away on stderr, line after line and with its password; the sources say it once, without.
# V4L2 waits ten seconds for a frame by itself. What the environment says goes first.
ENVIRONMENT = {"OPENCV_LOG_LEVEL": "FATAL", "OPENCV_FFMPEG_LOGLEVEL": "-8", "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "5"}

FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
"""The variable in which OpenCV takes what FFmpeg is asked for; of everything that it opens."""

# By itself FFmpeg looks at twenty frames of a camera before it gives the first: seconds of a slow camera, after every loss.
CAMERA_OPTIONS = "rtsp_flags;prefer_tcp|analyzeduration;500000"


def opencv() -> ModuleType:
    """The cv2 module.

    Raises:
        BackendUnavailable: it is not installed.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import cv2
    except ImportError as error:
        raise BackendUnavailable(
            f"OpenCV: expected the module cv2, got '{error}'. Install it: pip install 'edge-runtime[cpu]' (a Jetson has it from JetPack)."
        ) from error
    return cv2
