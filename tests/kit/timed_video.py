"""Video files whose frames have any time stamps: as cameras write them that record where something moves."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

__all__ = ["every", "write_timed_video"]


def every(step_s: float, count: int, *, start_s: float = 0.0) -> list[float]:
    """Evenly spaced times in seconds."""
    return [start_s + i * step_s for i in range(count)]


def write_timed_video(
    path: Path, images: Sequence[np.ndarray], times_s: Sequence[float], *, codec: str = "libx264", declared_fps: int = 30
) -> Path:
    """Write images, (H, W, 3) uint8 BGR, with their times, in milliseconds; an .avi keeps hundredths.

    Args:
        codec: `libx264` stores its frames in another order than they are shown in; `mjpeg` does not.
        declared_fps: what a Matroska header says, whatever the times are.
    """
    import av

    height, width = images[0].shape[:2]
    unit = Fraction(1, 100 if path.suffix == ".avi" else 1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=100 if path.suffix == ".avi" else declared_fps)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = unit
        for image, time_s in zip(images, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = round(time_s / unit), unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
