"""NVIDIA's driver, CUDA, TensorRT and pycuda. Without a GPU none of them is needed: the graphs run on the CPU."""

from __future__ import annotations

import re

from edge_runtime.doctor.findings import Finding
from edge_runtime.doctor.jetson import jetpack_of
from edge_runtime.doctor.machine import Machine, Probe

__all__ = ["find_cuda", "find_pycuda", "find_tensorrt"]

CUDA_DRIVER = """
import ctypes

cuda = ctypes.CDLL("libcuda.so.1")
version, count, names = ctypes.c_int(), ctypes.c_int(), []
code = cuda.cuInit(0) or cuda.cuDriverGetVersion(ctypes.byref(version)) or cuda.cuDeviceGetCount(ctypes.byref(count))
for number in range(count.value):
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, 256, number)
    names.append(name.value.decode(errors="replace"))
facts = {"code": code, "version": version.value, "names": names}
"""

PYCUDA = """
import pycuda
import pycuda.driver
pycuda.driver.init()
facts = {"version": pycuda.VERSION_TEXT, "devices": pycuda.driver.Device.count()}
"""

TENSORRT = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}


def find_cuda(machine: Machine) -> list[Finding]:
    """Driver, GPUs and the compiler."""
    return [_driver(machine), _compiler(machine)]


def find_tensorrt(machine: Machine) -> list[Finding]:
    """TensorRT, from JetPack or NVIDIA's packages, and TensorRT-RTX."""
    return [_tensorrt(machine, module, name) for module, name in TENSORRT.items()]


def find_pycuda(machine: Machine) -> list[Finding]:
    probe = machine.probe(PYCUDA)
    if not probe.failure:
        return [Finding("pycuda", "ok", f"pycuda {probe.facts['version']}", f"{probe.facts['devices']} GPU")]
    if not has_gpu(machine):
        return [Finding("pycuda", "ok", _absence(probe, "pycuda"), "only a GPU needs it")]
    remedy = f"{machine.pip} install --no-cache-dir --force-reinstall pycuda"
    if not machine.has_tool("nvcc"):
        remedy = f"export PATH=/usr/local/cuda/bin:$PATH && {remedy}"
    return [Finding("pycuda", "warning", _absence(probe, "pycuda"), "nothing runs on the GPU without it", remedy)]


def has_gpu(machine: Machine) -> bool:
    """A driver's files are there: NVIDIA's for cards, or a Jetson's."""
    return jetpack_of(machine) is not None or machine.has("/proc/driver/nvidia/version")


def _driver(machine: Machine) -> Finding:
    release = re.search(r"Kernel Module\S*(?: for \S+)?\s+([\d.]+)", machine.read("/proc/driver/nvidia/version") or "")
    installed = f"driver {release[1]}" if release else "driver"
    probe = machine.probe(CUDA_DRIVER)
    if probe.facts and not probe.facts["code"]:
        version = probe.facts["version"]
        return Finding("CUDA", "ok", ", ".join(probe.facts["names"]), f"{installed}, CUDA {version // 1000}.{version % 1000 // 10}")
    if not has_gpu(machine):
        return Finding("CUDA", "ok", "no NVIDIA GPU", "the graphs run on the CPU")
    reason = f"CUDA's error {probe.facts['code']}" if probe.facts else probe.failure
    remedy = "sudo usermod -aG video,render $USER  # then log in again" if jetpack_of(machine) else "nvidia-smi"
    return Finding("CUDA", "warning", f"{installed} is there, but does not answer", reason, remedy)


def _compiler(machine: Machine) -> Finding:
    place = "nvcc" if machine.has_tool("nvcc") else str(machine.path("/usr/local/cuda/bin/nvcc"))
    release = re.search(r"release ([\d.]+)", machine.run(place, "--version") or "")
    if release:
        return Finding("CUDA", "ok", f"nvcc {release[1]}", place if place != "nvcc" else "")
    if not has_gpu(machine):
        return Finding("CUDA", "ok", "no nvcc", "only a GPU needs it")
    remedy = "sudo apt install nvidia-jetpack" if jetpack_of(machine) else "sudo apt install nvidia-cuda-toolkit"
    return Finding("CUDA", "warning", "no nvcc", "pycuda and its kernels are compiled with it", remedy)


def _tensorrt(machine: Machine, module: str, name: str) -> Finding:
    probe = machine.probe(f"import {module}; facts = {{'version': {module}.__version__}}")
    if not probe.failure:
        return Finding("TensorRT", "ok", f"{name} {probe.facts['version']}")
    what = f"{name}: {_absence(probe, module)}"
    if not has_gpu(machine):
        return Finding("TensorRT", "ok", what, "only a GPU needs it")
    if jetpack_of(machine):
        return _tensorrt_of_jetson(machine, module, what)
    if module == "tensorrt_rtx" and probe.lacks(module):
        return Finding("TensorRT", "ok", what, "another way to engines, for RTX GPUs")
    return Finding(
        "TensorRT", "warning", what, "engines are several times faster than the CPU", f"{machine.pip} install {module.replace('_', '-')}"
    )


def _tensorrt_of_jetson(machine: Machine, module: str, what: str) -> Finding:
    if module == "tensorrt_rtx":
        return Finding("TensorRT", "ok", what, "a Jetson uses TensorRT")
    if any(machine.root.glob("usr/lib/python3*/dist-packages/tensorrt")):
        detail = "JetPack has it, this Python does not see it"
        return Finding("TensorRT", "warning", what, detail, "python3 -m venv --system-site-packages .venv")
    return Finding("TensorRT", "warning", what, "pip cannot install it on a Jetson", "sudo apt install nvidia-jetpack python3-libnvinfer")


def _absence(probe: Probe, module: str) -> str:
    return "not installed" if probe.lacks(module) else f"does not load: {probe.failure}"
