"""What some tests ask of the machine, by marker."""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.devices.cuda.compilation import find_nvcc
from tests.kit.python_floor import floor_python

__all__ = ["NEEDS", "Need"]

STAND_IN = "stand-in"  # part of the name of a GPU that is none


@dataclass(frozen=True)
class Need:
    """What a marker asks for.

    Attributes:
        what: for people, with what to do where it is missing.
        is_met: whether it is here.
    """

    what: str
    is_met: Callable[[], bool]


def _variable(name: str) -> Callable[[], bool]:
    return lambda: bool(os.environ.get(name))


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is not None


def _system_python(line: str) -> Callable[[], bool]:
    return functools.partial(_system_python_runs, line)


@functools.cache
def _system_python_runs(line: str) -> bool:
    try:
        return subprocess.run(["/usr/bin/python3", "-c", line], capture_output=True, timeout=60, check=False).returncode == 0
    except FileNotFoundError:
        return False


@functools.cache
def _package_index() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        download = ["download", "-q", "--no-deps", "--no-cache-dir", "--retries", "0", "--timeout", "10", "-d", folder, "threadpoolctl"]
        return subprocess.run([sys.executable, "-m", "pip", *download], capture_output=True, timeout=60, check=False).returncode == 0


def _pycuda() -> bool:
    from tests.kit.pycuda_wheel import headers, is_installed

    try:
        return is_installed() and _program("g++")() and headers().is_dir()
    except (OSError, subprocess.SubprocessError):
        return False


def _nvcc() -> bool:
    return find_nvcc() is not None


def _tensorrt_bindings() -> bool:
    from tests.kit.tensorrt_bindings import are_available

    return are_available()


@functools.cache
def _gpu() -> bool:
    """A real one: the stand-in driver of some tests, once loaded, answers to the same name."""
    from edge_runtime.devices.gpu import find_gpu

    gpu = find_gpu()
    return gpu is not None and STAND_IN not in gpu.name


def _module_on_gpu(name: str) -> Callable[[], bool]:
    return lambda: _gpu() and _loads(name)


@functools.cache
def _loads(name: str) -> bool:
    """Found is not enough: bindings without their libraries raise all kinds of errors."""
    try:
        importlib.import_module(name)
    except (AttributeError, ImportError, OSError, RuntimeError):
        return False
    return True


@functools.cache
def _stand_in_driver() -> bool:
    """A process has one driver: where there is a GPU, its own."""
    if _gpu() or not _program("g++")():
        return False
    from tests.kit.cuda_driver.driver import library

    try:
        return library().exists()
    except (AssertionError, OSError, subprocess.SubprocessError):
        return False


@functools.cache
def _cuda_provider() -> bool:
    return _loads("onnxruntime") and "CUDAExecutionProvider" in importlib.import_module("onnxruntime").get_available_providers()


NEEDS = {
    "ped2": Need("UCSD Ped2 at PED2_DIR", _variable("PED2_DIR")),
    "footage": Need("the folder with vtest.avi at FOOTAGE_DIR", _variable("FOOTAGE_DIR")),
    "mosquitto": Need("the MQTT broker: apt-get install mosquitto", _program("mosquitto")),
    "rtsp": Need(
        "GStreamer's RTSP server and x264 for /usr/bin/python3: "
        "apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly",
        _system_python(
            "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; Gst.init(None); "
            "assert all(map(Gst.ElementFactory.find, ('x264enc', 'jpegdec', 'rtph264pay')))"
        ),
    ),
    "system_opencv": Need(
        "an OpenCV with GStreamer, and venv, for /usr/bin/python3: apt-get install python3-opencv python3-venv gstreamer1.0-plugins-good",
        _system_python("import cv2, re; assert re.search(r'GStreamer: +YES', cv2.getBuildInformation())"),
    ),
    "v4l2": Need(
        "what stands in for USB cameras: apt-get install gcc libc6-dev linux-libc-dev v4l-utils",
        lambda: _program("cc")() and _program("v4l2-ctl")() and Path("/usr/include/linux/videodev2.h").exists(),
    ),
    "package_index": Need("an answer from pip's package index", _package_index),
    "python3_10": Need("a Python 3.10 with venv, as python3.10 or pyenv's", lambda: floor_python() is not None),
    "pycuda": Need(
        "pycuda, which no GPU is needed for: python -m tests.kit.pycuda_wheel (two minutes; g++ and the package index)", _pycuda
    ),
    "cxx": Need("a compiler for C++20: apt-get install g++", _program("g++")),
    "nvcc": Need("NVIDIA's compiler, nvcc 12 or later, on the PATH, in CUDA_HOME or in /usr/local/cuda", _nvcc),
    "tensorrt_bindings": Need(
        "TensorRT's bindings for this Python (7 MB from the package index, kept in its environment), gcc and binutils", _tensorrt_bindings
    ),
    "stand_in": Need(
        "pycuda (python -m tests.kit.pycuda_wheel builds it), g++, CUDA's headers, and no GPU, whose driver the stand-in would replace",
        _stand_in_driver,
    ),
    "gpu": Need("an NVIDIA GPU that answers, and pycuda: pip install pycuda", _module_on_gpu("pycuda.driver")),
    "tensorrt": Need("a GPU and TensorRT: JetPack's, or pip install tensorrt", _module_on_gpu("tensorrt")),
    "tensorrt_rtx": Need("a GPU and TensorRT-RTX: pip install tensorrt-rtx-cu13", _module_on_gpu("tensorrt_rtx")),
    "onnxruntime": Need("ONNX Runtime: pip install onnxruntime", lambda: _loads("onnxruntime")),
    "onnxruntime_gpu": Need(
        "a GPU and ONNX Runtime with CUDA: pip install onnxruntime-gpu in the place of onnxruntime", lambda: _gpu() and _cuda_provider()
    ),
    "jetson": Need("a Jetson", lambda: os.path.exists("/etc/nv_tegra_release")),
}
