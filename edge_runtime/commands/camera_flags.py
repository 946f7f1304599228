"""The flags that say which camera, and how to ask it for pictures; the same in every command."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_runtime.sources.address import CameraOptions

__all__ = ["add_camera_flags", "camera_options", "source_uri"]


def add_camera_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--width` to `--wait`."""
    group = parser.add_argument_group("camera")
    group.add_argument("--width", type=int, metavar="PX", help="picture to ask the camera for (with --height; default: its own)")
    group.add_argument("--height", type=int, metavar="PX", help="")
    group.add_argument("--rate", type=float, metavar="X", help="frames per second to ask the camera for (default: its own)")
    group.add_argument("--flip", default="none", metavar="HOW", help="none, horizontal, vertical, rotate-180, clockwise, counterclockwise")
    group.add_argument("--codec", metavar="NAME", help="how pictures travel: h264, h265, mjpeg, yuyv, nv12 (default: found out)")
    group.add_argument("--stall-s", type=float, default=5.0, metavar="S", help="open it again after S seconds without a frame (default: 5)")
    group.add_argument("--wait", action="store_true", help="wait for a camera that is not there at the start, instead of an error")


def camera_options(arguments: argparse.Namespace) -> CameraOptions:
    """What the flags say.

    Raises:
        ConfigError: a value that is not possible.
    """
    from edge_runtime.sources.address import CameraOptions

    return CameraOptions(
        width=arguments.width,
        height=arguments.height,
        rate=arguments.rate,
        flip=arguments.flip,
        codec=arguments.codec,
        stall_s=arguments.stall_s,
        waits=arguments.wait,
    )


def source_uri(arguments: argparse.Namespace) -> str:
    """The source from `--camera`, `--source` or `$EDGE_SOURCE`.

    Raises:
        ConfigError: none of them says one.
    """
    if arguments.camera is not None:
        return f"camera:{arguments.camera}"
    if arguments.source is not None:
        return str(arguments.source)
    if os.environ.get("EDGE_SOURCE"):
        return os.environ["EDGE_SOURCE"]
    from edge_runtime.errors import ConfigError

    raise ConfigError("source: expected one of --camera, --source and $EDGE_SOURCE, got none. Say, for example: --camera 0")
