"""USB cameras without any: a library that is preloaded stands in for the kernel, everything above it is real."""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.kit.drawn_footage import draw, write_reel

__all__ = ["CameraBus", "UsbCamera"]

SOURCE = Path(__file__).with_name("v4l2_device.c")
PICTURES = 60


@dataclass(frozen=True)
class UsbCamera:
    """A camera that may be plugged in.

    Attributes:
        folder: what the library knows of it.
        identity: the name of its link in /dev/v4l/by-id.
    """

    folder: Path
    identity: str

    @property
    def uri(self) -> str:
        """By identity."""
        return f"v4l2:///dev/v4l/by-id/{self.identity}"

    @property
    def calls(self) -> list[str]:
        """What it was asked for, in order: `S_FMT MJPG 320x240`, `S_PARM 10`, `STREAMON MJPG 320x240 10`."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


class CameraBus:
    """What cameras are plugged into.

    Args:
        folder: becomes the root below which `/dev/video0` and the like lie.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._library = folder / "v4l2_device.so"
        (self.root / "dev" / "v4l" / "by-id").mkdir(parents=True)
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", self._library, SOURCE, "-ldl", "-lpthread"], check=True, timeout=60)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a program that is to see the cameras."""
        return {"LD_PRELOAD": str(self._library), "V4L2_STAND_IN": str(self.root)}

    def make(self, name: str, *formats: tuple[str, int, int, int], seed: int = 0) -> UsbCamera:
        """A camera that shows the built-in scene.

        Args:
            formats: code (`MJPG` or `YUYV`), width, height, highest rate; it begins in the first.
        """
        camera = UsbCamera(self.root.parent / name, f"usb-{name}-video-index0")
        camera.folder.mkdir()
        (camera.folder / "card").write_text(f"{name}\n")
        (camera.folder / "formats").write_text("".join(f"{code} {width} {height} {rate}\n" for code, width, height, rate in formats))
        for code, width, height, _ in formats:
            pictures, path = draw(PICTURES, seed, width=width, height=height), camera.folder / f"{code}-{width}x{height}"
            if code == "MJPG":
                write_reel(path, pictures)
            else:
                path.write_bytes(b"".join(struct.pack(">I", 2 * width * height) + _yuyv(picture) for picture in pictures))
        return camera

    def plug(self, camera: UsbCamera, number: int) -> None:
        """Plug it in: it is /dev/video<number> from now on, and has the link with its identity."""
        uevent = self.root / "sys" / "dev" / "char" / f"81:{number}" / "uevent"
        name = self.root / "sys" / "class" / "video4linux" / f"video{number}" / "name"
        for path, text in ((uevent, f"MAJOR=81\nMINOR={number}\nDEVNAME=video{number}\n"), (name, (camera.folder / "card").read_text())):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        beside = self.root / "dev" / f".video{number}"
        beside.write_text(f"{camera.folder}\n")
        os.rename(beside, self.root / "dev" / f"video{number}")
        self._link(camera).symlink_to(f"../../video{number}")

    def unplug(self, camera: UsbCamera) -> None:
        """Pull it out: its number and its link are gone."""
        link = self._link(camera)
        device = link.resolve()
        link.unlink()
        device.unlink()

    def _link(self, camera: UsbCamera) -> Path:
        return self.root / "dev" / "v4l" / "by-id" / camera.identity


def _yuyv(picture: np.ndarray) -> bytes:
    """(H, W, 3) uint8 BGR as a camera sends it raw: two bytes a pixel, each colour for two pixels."""
    luma, red, blue = cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2YCrCb))
    packed = np.empty((*luma.shape, 2), np.uint8)
    packed[..., 0] = luma * (219 / 255) + 16
    packed[:, 0::2, 1] = blue[:, ::2]
    packed[:, 1::2, 1] = red[:, ::2]
    return packed.tobytes()
