"""Fixtures that several folders share; and `--require`, which turns a skip into a failure."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.bundle import Bundle

NEEDS = {"ped2": ("PED2_DIR", "UCSD Ped2"), "footage": ("FOOTAGE_DIR", "the folder with vtest.avi")}
# Marker → a line that the system's Python runs where it has what is needed, what that is, and the packages of Debian with it.
SYSTEM_PYTHON_NEEDS = {
    "rtsp": (
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; Gst.init(None); "
        "assert all(map(Gst.ElementFactory.find, ('x264enc', 'jpegdec', 'rtph264pay')))",
        "GStreamer's RTSP server and x264",
        "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly",
    ),
    "system_opencv": (
        "import cv2, re; assert re.search(r'GStreamer: +YES', cv2.getBuildInformation())",
        "an OpenCV with GStreamer, and venv",
        "python3-opencv python3-venv gstreamer1.0-plugins-good",
    ),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", default="", metavar="NAMES", help="comma-separated markers that must run: a skip of theirs fails")


def pytest_configure(config: pytest.Config) -> None:
    for name, (variable, what) in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: needs {what} at {variable}")
    for name, (_, what, _packages) in SYSTEM_PYTHON_NEEDS.items():
        config.addinivalue_line("markers", f"{name}: needs {what} for /usr/bin/python3")


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = item.config.getoption("--require").split(",")
    for name, (variable, what) in NEEDS.items():
        if item.get_closest_marker(name) and not os.environ.get(variable):
            reason = f"{what} is not at {variable}"
            if name in required:
                pytest.fail(f"--require={name}: {reason}")
            pytest.skip(reason)
    for name, (line, what, packages) in SYSTEM_PYTHON_NEEDS.items():
        if item.get_closest_marker(name) and not system_python_runs(line):
            reason = f"/usr/bin/python3 has no {what}: apt-get install {packages}"
            if name in required:
                pytest.fail(f"--require={name}: {reason}")
            pytest.skip(reason)


@functools.cache
def system_python_runs(line: str) -> bool:
    try:
        return subprocess.run(["/usr/bin/python3", "-c", line], capture_output=True, timeout=60, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="session")
def ped2() -> Path:
    """The folder of UCSD Ped2; for tests with the marker `ped2`."""
    return Path(os.environ["PED2_DIR"])


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder with vtest.avi; for tests with the marker `footage`."""
    return Path(os.environ["FOOTAGE_DIR"])


@pytest.fixture(scope="session")
def toy_originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three toy bundles; not to be changed, see `toy`."""
    from tests.kit.toy_bundles import TOYS

    root = tmp_path_factory.mktemp("toys")
    return {name: make(root / name).path for name, make in TOYS.items()}


@pytest.fixture
def toy(toy_originals: dict[str, Path], tmp_path: Path) -> Callable[[str], Bundle]:
    """A copy of a toy bundle by name, to do with as one likes."""

    def copy(name: str) -> Bundle:
        return Bundle.load(shutil.copytree(toy_originals[name], tmp_path / f"bundle-{name}"))

    return copy
