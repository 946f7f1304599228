"""Footage made on the spot: frames of the built-in scene as images, as a video, or as the reel of a camera on the network."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from edge_runtime.sources import open_source

__all__ = ["Reel", "black_reel", "draw", "number_in", "reel_pictures", "scene", "video_frames", "write_clip", "write_reel", "write_video"]

WIDTH, HEIGHT, FPS = 64, 48, 10
NUMBER_BITS, BITS_IN_A_ROW = 16, 8


@dataclass(frozen=True)
class Reel:
    """What a camera of the kit shows: a file of JPEG pictures of one size, each after its length in four bytes (big-endian)."""

    path: Path
    width: int
    height: int
    fps: int


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


def write_reel(path: Path, images: Iterable[np.ndarray], fps: int = FPS, *, numbered: bool = True) -> Reel:
    """Write the reel of a camera.

    Args:
        images: (H, W, 3) uint8 BGR, of one size, H and W even and at least 32.
        numbered: each says in its upper left corner which it is, for `number_in`.
    """
    size = (0, 0)
    with path.open("wb") as file:
        for number, image in enumerate(images):
            jpeg = cv2.imencode(".jpg", _with_number(image, number) if numbered else image)[1].tobytes()
            file.write(struct.pack(">I", len(jpeg)) + jpeg)
            size = image.shape[:2]
    return Reel(path, width=size[1], height=size[0], fps=fps)


def reel_pictures(reel: Reel) -> list[bytes]:
    """Its JPEG pictures."""
    data = reel.path.read_bytes()
    pictures, position = [], 0
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        pictures.append(data[position + 4 : position + 4 + length])
        position += 4 + length
    return pictures


def black_reel(like: Reel) -> Reel:
    """One black picture of another reel's size and rate, beside it."""
    black = np.zeros((like.height, like.width, 3), np.uint8)
    return write_reel(like.path.with_suffix(".black"), [black], like.fps, numbered=False)


def video_frames(path: Path, frames: int | None = None) -> Iterator[np.ndarray]:
    """The first frames of a video, or all of it."""
    return (frame.image for frame in islice(open_source(str(path)), frames))


def number_in(image: np.ndarray) -> int:
    """The number that `write_reel` put into a picture; it survives any codec that a human could bear to look at."""
    block = _block_px(image)
    centres = [(row * block + block // 2, column * block + block // 2) for row, column in _places()]
    return sum(1 << bit for bit, (y, x) in enumerate(centres) if image[y, x].mean() > 127)


def _with_number(image: np.ndarray, number: int) -> np.ndarray:
    """A copy with 16 blocks in its corner, the lowest bit first, white for 1."""
    block = _block_px(image)
    marked = image.copy()
    for bit, (row, column) in enumerate(_places()):
        marked[row * block : (row + 1) * block, column * block : (column + 1) * block] = 255 * (number >> bit & 1)
    return marked


def _block_px(image: np.ndarray) -> int:
    return max(4, image.shape[1] // 32)


def _places() -> list[tuple[int, int]]:
    return [divmod(bit, BITS_IN_A_ROW) for bit in range(NUMBER_BITS)]
