"""The doctor on planted machines: file trees, tools and modules as they are there. None of it was seen on a real Jetson."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import FastGraphs
from edge_runtime.bundle.manifest_file import encode_manifest
from edge_runtime.doctor import Finding, Machine, as_json, as_text, can_run
from edge_runtime.doctor.cameras import find_cameras, find_gstreamer, parse_formats
from edge_runtime.doctor.jetson import JetPack, find_jetson, jetpack_of
from edge_runtime.doctor.nvidia import find_cuda, find_pycuda, find_tensorrt
from edge_runtime.doctor.opencv import find_opencv, parse_build_information
from edge_runtime.doctor.place import find_bundle, find_disk, find_memory
from edge_runtime.doctor.python import find_extras, find_numpy, find_onnxruntime, find_python
from tests.kit.wording import missing

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n"
DPKG = """Package: nvidia-jetpack-runtime
Status: install ok installed
Version: 9.9

Package: nvidia-jetpack
Status: install ok installed
Architecture: arm64
Version: 6.2+b77

"""
UVC = """ioctl: VIDIOC_ENUM_FMT
	Type: Video Capture

	[0]: 'YUYV' (YUYV 4:2:2)
		Size: Discrete 640x480
			Interval: Discrete 0.033s (30.000 fps)
			Interval: Discrete 0.040s (25.000 fps)
		Size: Discrete 1280x720
			Interval: Discrete 0.100s (10.000 fps)
	[1]: 'MJPG' (Motion-JPEG, compressed)
		Size: Discrete 1920x1080
			Interval: Discrete 0.033s (30.000 fps)
"""
BAYER = """ioctl: VIDIOC_ENUM_FMT
	Type: Video Capture

	[0]: 'RG10' (10-bit Bayer RGRG/GBGB)
		Size: Discrete 3280x2464
			Interval: Discrete 0.048s (21.000 fps)
"""
METADATA = "ioctl: VIDIOC_ENUM_FMT\n\tType: Video Capture\n\n"

Plant = Callable[..., Machine]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An empty one: no files, no tools but the shell, five seconds for everything."""
    (tmp_path / "root").mkdir()
    (tmp_path / "bin").mkdir()
    return Machine(root=tmp_path / "root", search_path=str(tmp_path / "bin"), folder=tmp_path, timeout_s=20.0)


def plant(machine: Machine, place: str, content: str = "") -> Path:
    path = machine.path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def plant_tool(machine: Machine, name: str, script: str) -> None:
    path = Path(machine.search_path or "") / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def plant_jetson(machine: Machine) -> None:
    plant(machine, "/etc/nv_tegra_release", RELEASE)
    plant(machine, "/var/lib/dpkg/status", DPKG)
    plant(machine, "/proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0")


@pytest.fixture
def plant_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A module that probes import before any installed one."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def plant(name: str, code: str) -> None:
        (folder / f"{name}.py").write_text(code)

    return plant


@pytest.fixture
def plant_package(tmp_path: Path) -> Callable[[str, str], None]:
    """What importlib.metadata finds of an installed distribution; after `plant_module`."""

    def plant(name: str, version: str) -> None:
        folder = tmp_path / "modules" / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    return plant


def by_what(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


# Modules that are broken


BROKEN = {
    "raises": ("raise RuntimeError('no such symbol')", "RuntimeError"),
    "aborts": ("import os; os.abort()", "SIGABRT"),
    "segfaults": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "exits": ("import os; os._exit(3)", "exit code 3"),
    "needs another": ("import a_module_that_nobody_has", "'a_module_that_nobody_has'"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_onnxruntime_is_a_finding(machine: Machine, plant_module: Callable[[str, str], None], how: str) -> None:
    code, what = BROKEN[how]
    plant_module("onnxruntime", code)
    [finding] = find_onnxruntime(machine)
    assert finding.status == "missing" and not missing(finding.what, what)
    assert finding.remedy == (
        f"{sys.executable} -m pip uninstall -y onnxruntime onnxruntime-gpu && {sys.executable} -m pip install onnxruntime"
    )


@pytest.mark.parametrize(
    ("module", "find"),
    [("cv2", find_opencv), ("numpy", find_numpy), ("tensorrt", find_tensorrt), ("pycuda", find_pycuda), ("av", find_extras)],
)
def test_every_native_library_may_crash(
    machine: Machine, plant_module: Callable[[str, str], None], module: str, find: Callable[[Machine], list[Finding]]
) -> None:
    plant_module(module, "import os; os.abort()")
    assert any("SIGABRT" in finding.what + finding.detail for finding in find(machine))


def test_a_module_that_hangs_is_given_up(tmp_path: Path, plant_module: Callable[[str, str], None]) -> None:
    plant_module("numpy", "import threading; threading.Event().wait()")
    [finding] = find_numpy(Machine(root=tmp_path, timeout_s=0.5))
    assert finding.status == "missing" and not missing(finding.what, "0.5 s")


def test_a_tool_of_another_machine_is_as_good_as_none(machine: Machine) -> None:
    plant_tool(machine, "nvpmodel", "")
    (Path(machine.search_path or "") / "nvpmodel").write_bytes(b"\x7fELF of somewhere else")
    assert machine.run("nvpmodel", "-q") is None


def test_a_tool_that_hangs_takes_its_children_with_it(machine: Machine, tmp_path: Path) -> None:
    plant_tool(machine, "nvpmodel", f"/bin/sleep 1000 &\necho $! > {tmp_path}/pid\nwait")
    hasty = Machine(root=machine.root, search_path=machine.search_path, timeout_s=0.5)
    assert hasty.run("nvpmodel", "-q") is None
    child = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    ends_s = time.monotonic() + 10  # a signal takes its time to arrive
    while is_running(child) and time.monotonic() < ends_s:
        time.sleep(0.01)
    assert not is_running(child)


def is_running(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_a_library_prints_is_not_taken_for_its_facts(machine: Machine, plant_module: Callable[[str, str], None]) -> None:
    plant_module("numpy", "import os\nprint('hello')\nos.write(1, b'{\"facts\": 1}')\n__version__ = '9.8.7'")
    [finding] = find_numpy(machine)
    assert (finding.status, finding.what) == ("ok", "NumPy 9.8.7")


def test_a_module_in_the_current_folder_is_not_taken_for_the_installed_one(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("__version__ = 'from here'")
    monkeypatch.chdir(tmp_path)
    [finding] = find_numpy(machine)
    assert finding.status == "ok" and "from here" not in finding.what


# Python, OpenCV, ONNX Runtime, extras


def test_the_real_libraries_are_found_whole(machine: Machine) -> None:
    import cv2
    import numpy
    import onnxruntime

    [python] = find_python(machine)
    assert (python.status, python.what) == ("ok", f"Python {'.'.join(map(str, sys.version_info[:3]))}")
    [array] = find_numpy(machine)
    assert (array.status, array.what) == ("ok", f"NumPy {numpy.__version__}")
    opencv, *video = find_opencv(machine)
    assert (opencv.status, opencv.what) == ("ok", f"OpenCV {cv2.__version__}")
    assert cv2.__file__ in opencv.detail
    assert any(finding.what.startswith("with FFmpeg") for finding in video)
    [runtime] = find_onnxruntime(machine)
    assert runtime.status == "ok" and onnxruntime.__version__ in runtime.what and "CPU" in runtime.detail


@pytest.mark.parametrize(
    ("lines", "gstreamer", "ffmpeg"),
    [
        (
            "    FFMPEG:                      YES\n      avcodec:                   YES (62.28.101)\n    GStreamer:        NO\n",
            None,
            "62.28.101",
        ),
        ("    FFMPEG:                      NO\n    GStreamer:                   YES (1.20.3)\n", "1.20.3", None),
        ("    FFMPEG:   YES\n    GStreamer:   YES\n", "yes", "yes"),
        ("", None, None),
    ],
)
def test_build_information_is_read_by_its_lines(lines: str, gstreamer: str | None, ffmpeg: str | None) -> None:
    build = parse_build_information(f"General configuration\n  Video I/O:\n{lines}    v4l/v4l2:   YES (linux/videodev2.h)\n")
    assert build.gstreamer == gstreamer
    assert build.ffmpeg == (f"avcodec {ffmpeg}" if ffmpeg and ffmpeg != "yes" else ffmpeg)


PIPS_OPENCV = """
__version__ = "4.11.0"
def getBuildInformation():
    return "  Video I/O:\\n    FFMPEG:   YES\\n    GStreamer:   NO\\n"
"""


def test_pips_opencv_on_a_jetson_hides_jetpacks(
    machine: Machine, plant_module: Callable[[str, str], None], plant_package: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_jetson(machine)
    plant_module("cv2", PIPS_OPENCV)
    plant_package("opencv-python", "4.11.0")
    found = by_what(find_opencv(without_installed(machine)))
    assert found["OpenCV 4.11.0"].detail.startswith("pip's opencv-python")
    assert found["no GStreamer"].status == "warning"
    assert found["no GStreamer"].remedy.endswith("-m pip uninstall -y opencv-python")


def test_two_opencvs_are_a_conflict(
    machine: Machine, plant_module: Callable[[str, str], None], plant_package: Callable[[str, str], None]
) -> None:
    plant_module("cv2", PIPS_OPENCV)
    plant_package("opencv-python", "4.11.0")
    plant_package("opencv-contrib-python", "4.10.0")
    found = by_what(find_opencv(without_installed(machine)))["installed more than once"]
    assert found.status == "warning"
    assert "pip uninstall -y opencv-python opencv-contrib-python && " in found.remedy


def test_an_opencv_without_any_video_is_told(machine: Machine, plant_module: Callable[[str, str], None]) -> None:
    plant_module("cv2", PIPS_OPENCV.replace("YES", "NO"))
    assert by_what(find_opencv(machine))["no FFmpeg"].status == "warning"


@pytest.mark.parametrize(
    ("error", "what", "remedy"),
    [
        ("ImportError('numpy.core.multiarray failed to import')", "this NumPy", "install 'numpy<2'"),
        ("AttributeError('_ARRAY_API not found')", "this NumPy", "install 'numpy<2'"),
        (
            "ImportError('libGL.so.1: cannot open shared object file')",
            "the desktop",
            "opencv-python-headless",
        ),
        ("ImportError('undefined symbol: x')", "load", "--force-reinstall"),
    ],
)
def test_why_opencv_does_not_load(machine: Machine, plant_module: Callable[[str, str], None], error: str, what: str, remedy: str) -> None:
    plant_module("cv2", f"raise {error}")
    [finding] = find_opencv(machine)
    assert finding.status == "missing" and not missing(finding.what, what)
    assert remedy in finding.remedy


def test_both_flavours_of_onnxruntime_are_a_conflict(
    machine: Machine, plant_module: Callable[[str, str], None], plant_package: Callable[[str, str], None]
) -> None:
    plant_module("onnxruntime", "__version__ = '1.23.2'\ndef get_available_providers(): return ['CUDAExecutionProvider']")
    plant_package("onnxruntime-gpu", "1.23.2")
    plant_package("onnxruntime", "1.23.2")
    found = by_what(find_onnxruntime(without_installed(machine)))
    assert found["onnxruntime and onnxruntime-gpu 1.23.2"].detail == "providers: CUDA"
    assert found["both installed"].status == "warning"


def without_installed(machine: Machine) -> Machine:
    """The same with an interpreter that has no packages but the planted ones."""
    python = Path(machine.search_path or "") / "bare-python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return Machine(machine.root, machine.search_path, str(python), machine.folder, machine.timeout_s)


def test_what_is_not_installed_is_named_with_the_command_that_brings_it(machine: Machine) -> None:
    bare = without_installed(machine)
    [python] = find_python(bare)
    assert (python.status, python.remedy) == ("missing", f"{bare.python} -m pip install msgspec")
    [opencv] = find_opencv(bare)
    assert (opencv.status, opencv.what, opencv.remedy) == (
        "missing",
        "not installed",
        f"{bare.python} -m pip install opencv-python-headless",
    )
    [runtime] = find_onnxruntime(bare)
    assert (runtime.status, runtime.what, runtime.remedy) == ("missing", "not installed", f"{bare.python} -m pip install onnxruntime")
    extras = find_extras(bare)
    assert {finding.status for finding in extras} == {"warning"}
    assert [finding.what for finding in extras] == [f"{name}: not installed" for name in ("av", "matplotlib", "paho-mqtt", "urllib3")]


# A Jetson


def test_a_jetson_is_known_by_its_files(machine: Machine) -> None:
    plant_jetson(machine)
    plant_tool(machine, "nvpmodel", 'test "$1" = -q && echo "NV Power Mode: 15W" && echo 0')
    plant(machine, "/etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n")
    found = by_what(find_jetson(machine))
    assert list(found) == ["NVIDIA Jetson Orin Nano Developer Kit", "JetPack 6.2+b77", "power mode 15W", "clocks follow the load"]
    assert {finding.status for finding in found.values()} == {"ok"}
    assert found["JetPack 6.2+b77"].detail == "Jetson Linux 36.4.3"
    assert found["power mode 15W"].remedy == "sudo nvpmodel -m 2"
    assert found["clocks follow the load"].remedy == "sudo jetson_clocks"


def test_the_fastest_mode_and_held_clocks_need_no_hint(machine: Machine) -> None:
    plant_jetson(machine)
    plant_tool(machine, "nvpmodel", 'echo "NV Power Mode: MAXN"')
    for name in ("min_freq", "max_freq"):
        plant(machine, f"/sys/class/devfreq/17000000.gpu/{name}", "1300500000\n")
    found = by_what(find_jetson(machine))
    assert [found[what].remedy for what in ("power mode MAXN", "clocks held at their highest")] == ["", ""]


@pytest.mark.parametrize(
    ("release", "revision", "name", "major"),
    [
        ("35", "4.1", "JetPack 5", 5),
        ("36", "2.0", "JetPack 6.0", 6),
        ("36", "3.0", "JetPack 6.0", 6),
        ("36", "4.0", "JetPack 6.1 or 6.2", 6),
        ("38", "2.0", "JetPack 7", 7),
        ("32", "7.1", "JetPack 4 or older", 0),
    ],
)
def test_jetpack_follows_from_jetson_linux_where_its_package_is_not_installed(
    machine: Machine, release: str, revision: str, name: str, major: int
) -> None:
    plant(machine, "/etc/nv_tegra_release", RELEASE.replace("R36", f"R{release}").replace("4.3", revision))
    assert jetpack_of(machine) == JetPack(f"{release}.{revision}", major, name, is_package_installed=False)
    finding = find_jetson(machine)[1]
    assert finding.status == "warning"
    assert finding.remedy == ("sudo apt install nvidia-jetpack" if major >= 6 else "Flash JetPack 6 or newer.")


def test_a_removed_package_is_not_installed(machine: Machine) -> None:
    plant(machine, "/etc/nv_tegra_release", RELEASE)
    plant(machine, "/var/lib/dpkg/status", DPKG.replace("Status: install ok installed\nArch", "Status: deinstall ok config-files\nArch"))
    jetpack = jetpack_of(machine)
    assert jetpack is not None and not jetpack.is_package_installed


@pytest.mark.parametrize(("release", "python"), [("36", "3.10"), ("38", "3.12")])
def test_another_python_than_jetpacks_sees_none_of_it(machine: Machine, release: str, python: str) -> None:
    plant(machine, "/etc/nv_tegra_release", RELEASE.replace("R36", f"R{release}"))
    [finding] = find_python(machine)
    if python == f"{sys.version_info[0]}.{sys.version_info[1]}":
        assert "Python 3" not in finding.detail
    else:
        assert finding.status == "warning"
        assert finding.remedy == f"python{python} -m venv --system-site-packages .venv"


def test_a_jetson_wants_its_gpus_libraries(machine: Machine) -> None:
    plant_jetson(machine)
    bare = without_installed(machine)
    tensorrt, rtx = find_tensorrt(bare)
    assert (tensorrt.status, tensorrt.remedy) == ("warning", "sudo apt install nvidia-jetpack python3-libnvinfer")
    assert rtx.status == "ok"
    [pycuda] = find_pycuda(bare)
    assert pycuda.status == "warning"
    assert pycuda.remedy.startswith("export PATH=/usr/local/cuda/bin:$PATH && ")


def test_jetpacks_tensorrt_out_of_this_pythons_sight_is_told(machine: Machine) -> None:
    plant_jetson(machine)
    plant(machine, "/usr/lib/python3.10/dist-packages/tensorrt/__init__.py")
    tensorrt, _ = find_tensorrt(without_installed(machine))
    assert not missing(tensorrt.detail, "JetPack … this Python")
    assert tensorrt.remedy == "python3 -m venv --system-site-packages .venv"


def test_gstreamers_plugins_of_a_jetson(machine: Machine) -> None:
    plant_jetson(machine)
    plant_tool(machine, "gst-inspect-1.0", 'test "$1" = --exists && test "$2" != nvarguscamerasrc')
    found = by_what(find_gstreamer(machine))
    assert found["nvv4l2decoder"].status == "ok"
    assert (found["without nvarguscamerasrc"].status, found["without nvarguscamerasrc"].detail) == ("warning", "no csi:// cameras")


# NVIDIA elsewhere


def test_without_a_gpu_nothing_of_nvidia_is_wanted(machine: Machine) -> None:
    bare = without_installed(machine)
    findings = [*find_cuda(bare), *find_tensorrt(bare), *find_pycuda(bare)]
    if findings[0].what == "no NVIDIA GPU":
        assert {finding.status for finding in findings} == {"ok"}
    else:
        pytest.skip("this machine has a GPU")


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.129.03  Release Build",
    ],
)
def test_the_drivers_version_and_the_compilers(machine: Machine, line: str) -> None:
    plant(machine, "/proc/driver/nvidia/version", f"{line}\nGCC version:  gcc version 12.3.0\n")
    plant_tool(machine, "nvcc", "echo 'Cuda compilation tools, release 12.6, V12.6.68'")
    driver, compiler = find_cuda(machine)
    assert "driver 535.129.03" in driver.what + driver.detail
    assert (compiler.status, compiler.what) == ("ok", "nvcc 12.6")


def test_a_tensorrt_that_loads_tells_its_version(machine: Machine, plant_module: Callable[[str, str], None]) -> None:
    plant_module("tensorrt", "__version__ = '10.3.0'")
    plant_module("tensorrt_rtx", "__version__ = '1.7.0'")
    assert [finding.what for finding in find_tensorrt(machine)] == ["TensorRT 10.3.0", "TensorRT-RTX 1.7.0"]


# Cameras


def plant_camera(machine: Machine, number: int, name: str, by_id: str | None = None) -> Path:
    device = plant(machine, f"/dev/video{number}")
    plant(machine, f"/sys/class/video4linux/video{number}/name", f"{name}\n")
    if by_id:
        link = machine.path(f"/dev/v4l/by-id/{by_id}")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../video{number}")
    return device


def plant_listing(machine: Machine, **listings: str) -> None:
    """A v4l2-ctl that lists formats by device."""
    for device, text in listings.items():
        plant(machine, f"/listings/{device}", text)
    plant_tool(machine, "v4l2-ctl", f'test "$1 $3" = "-d --list-formats-ext" && exec /bin/cat "{machine.root}/listings/${{2##*/}}"')


def test_cameras_are_listed_by_number_with_their_identity_and_formats(machine: Machine) -> None:
    plant_camera(machine, 10, "imx219")
    plant_camera(machine, 2, "USB Camera", "usb-Maker_USB_Camera_A1-video-index0")
    plant_camera(machine, 3, "USB Camera")
    plant_listing(machine, video2=UVC, video3=METADATA, video10=BAYER)
    usb, metadata, csi = find_cameras(machine)
    assert usb.what == "/dev/video2: USB Camera"
    assert usb.detail == (
        "--source v4l2:///dev/v4l/by-id/usb-Maker_USB_Camera_A1-video-index0; MJPG 1920x1080@30; YUYV 1280x720@10, 640x480@30"
    )
    assert not missing(metadata.detail, "no pictures")
    assert not missing(csi.detail, "RG10 3280x2464 … 21 fps … --source csi://0")
    assert {usb.status, metadata.status, csi.status} == {"ok"}


def test_a_stepwise_size_is_read_at_its_largest() -> None:
    [one] = parse_formats("\t[0]: 'GREY' (8-bit Greyscale)\n\t\tSize: Stepwise 32x32 - 1280x960 with step 8/8\n")
    assert str(one) == "GREY 1280x960"


def test_without_v4l2_ctl_cameras_are_listed_and_its_package_is_named(machine: Machine) -> None:
    plant_camera(machine, 0, "USB Camera")
    formats, camera = find_cameras(machine)
    assert (formats.status, formats.remedy) == ("warning", "sudo apt install v4l-utils")
    assert camera.detail == "--source /dev/video0"


def test_without_cameras_it_is_a_warning_not_a_lack(machine: Machine) -> None:
    [finding] = find_cameras(machine)
    assert (finding.status, finding.what) == ("warning", "no local camera")


def test_a_camera_that_this_user_may_not_open_names_the_group() -> None:
    with TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        Path(folder).chmod(0o755)
        machine = Machine(root=Path(folder), search_path="")
        plant_camera(machine, 0, "USB Camera").chmod(stat.S_IRUSR & 0)
        with as_nobody():
            finding = find_cameras(machine)[-1]
    assert finding.status == "warning" and not missing(finding.detail, "user")
    assert finding.remedy.startswith("sudo usermod -aG video $USER")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Not as root, who may open everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# The place


def test_disk_and_memory_are_told_and_warned_of(machine: Machine, tmp_path: Path) -> None:
    [disk] = find_disk(machine)
    assert disk.what.endswith("GB free") and str(tmp_path) in disk.detail
    plant(machine, "/proc/meminfo", "MemTotal:        8000000 kB\nMemFree:  1 kB\nMemAvailable:    4000000 kB\n")
    assert find_memory(machine) == [Finding("Memory", "ok", "4.1 of 8.2 GB available")]
    plant(machine, "/proc/meminfo", "MemTotal:        4000000 kB\nMemAvailable:    100000 kB\n")
    [memory] = find_memory(machine)
    assert (memory.status, memory.what) == ("warning", "0.1 of 4.1 GB available")


def test_a_whole_bundle_is_told_with_its_precisions(machine: Machine, toy: Callable[[str], Bundle]) -> None:
    bundle = toy("one_pool")
    findings = find_bundle(machine, bundle.path)
    assert {finding.status for finding in findings} == {"ok"}
    assert [finding.what for finding in findings] == [bundle.manifest.name, *bundle.manifest.precisions]


def test_a_changed_graph_or_memory_is_missing(machine: Machine, toy: Callable[[str], Bundle]) -> None:
    bundle = toy("one_pool")
    for file in (bundle.manifest.memory.file, bundle.precision("fp32").decoder.file):
        with open(bundle.path / file, "ab") as content:
            content.write(b"!")
    found = by_what(find_bundle(machine, bundle.path))
    assert [(what, "SHA-256" in found[what].detail) for what in found if found[what].status == "missing"] == [
        ("memory", True),
        ("fp32", True),
    ]


@pytest.mark.parametrize(("processor", "status"), [("x86_64", "warning"), ("aarch64", "ok")])
def test_fast_graphs_are_missed_only_where_they_would_run(
    machine: Machine, toy: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch, processor: str, status: str
) -> None:
    bundle = toy("one_pool")
    fp32 = bundle.precision("fp32")
    fast = FastGraphs(replace(fp32.encoder, file="gone.onnx"), fp32.decoder, {})
    manifest = replace(bundle.manifest, precisions={"fp32": replace(fp32, fast=fast)})
    (bundle.path / "manifest.json").write_bytes(encode_manifest(manifest))
    monkeypatch.setattr("platform.machine", lambda: processor)
    assert by_what(find_bundle(machine, bundle.path))["fp32"].status == status


def test_no_bundle_is_missing(machine: Machine, tmp_path: Path) -> None:
    [finding] = find_bundle(machine, tmp_path / "none")
    assert (finding.status, finding.what) == ("missing", "no usable bundle")


def test_what_this_user_may_not_look_at_is_not_there() -> None:
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        machine = Machine(root=Path(folder))
        closed = plant(machine, "/proc/driver/nvidia/version").parent
        assert machine.has("/proc/driver/nvidia/version")
        closed.chmod(0)
        with as_nobody():
            assert not machine.has("/proc/driver/nvidia/version")
            assert machine.read("/proc/driver/nvidia/version") is None
        closed.chmod(0o755)


def test_with_a_broken_numpy_the_bundle_is_not_checked(machine: Machine, tmp_path: Path, plant_module: Callable[[str, str], None]) -> None:
    plant_module("numpy", "import os; os.abort()")
    [finding] = find_bundle(machine, tmp_path)
    assert (finding.status, finding.what, finding.detail) == ("warning", "not checked", "crashed (SIGABRT)")


# The report


FINDINGS = [
    Finding("OpenCV", "ok", "OpenCV 4.8.0", "the system's"),
    Finding("OpenCV", "warning", "no GStreamer", "no csi://", "sudo apt install python3-opencv"),
    Finding("Bundle", "missing", "no bundle"),
]


def test_the_text_is_grouped_aligned_and_counted() -> None:
    assert as_text(FINDINGS).splitlines() == [
        "OpenCV",
        "  ok       OpenCV 4.8.0  the system's",
        "  warning  no GStreamer  no csi://",
        "           -> sudo apt install python3-opencv",
        "Bundle",
        "  missing  no bundle",
        "",
        "1 ok, 1 warning, 1 missing: edge-run cannot run here",
    ]


def test_only_what_is_missing_keeps_edge_run_from_running() -> None:
    assert can_run(FINDINGS[:2]) and not can_run(FINDINGS)
    assert not missing(as_text(FINDINGS[:2]).splitlines()[-1], "1 ok, 1 warning, 0 missing")


def test_the_document_has_every_field() -> None:
    document = as_json(FINDINGS)
    assert document["can_run"] is False
    assert document["counts"] == {"ok": 1, "warning": 1, "missing": 1}
    assert document["findings"][1] == {
        "topic": "OpenCV",
        "status": "warning",
        "what": "no GStreamer",
        "detail": "no csi://",
        "remedy": "sudo apt install python3-opencv",
    }
