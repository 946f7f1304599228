"""Footage made on the spot: frames of the built-in scene as images or as a video."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.sources import open_source

__all__ = ["draw", "scene", "write_clip", "write_video"]

WIDTH, HEIGHT, FPS = 64, 48, 10


def scene(frames: int, seed: int = 0, *, width: int = WIDTH, height: int = HEIGHT) -> str:
    """The URI of a small scene at 10 frames per second, the rate of the toy bundles."""
    return f"synthetic:?seed={seed}&frames={frames}&width={width}&height={height}&fps={FPS}"


def draw(frames: int, seed: int = 0, *, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    """Its pictures, (H, W, 3) uint8 BGR."""
    return [frame.image for frame in open_source(scene(frames, seed, width=width, height=height))]


def write_clip(folder: Path, images: Iterable[np.ndarray]) -> Path:
    """Lay images as `0.png`, `1.png`, …: without leading zeros, so that only the natural order is the right one."""
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        assert cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


def write_video(path: Path, images: list[np.ndarray], fps: float = FPS) -> Path:
    """Write an .avi of JPEG frames."""
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(image)
    writer.release()
    return path
