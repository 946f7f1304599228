from __future__ import annotations

import configparser
import subprocess
import sys
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), "."]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    [path] = folder.iterdir()
    assert path.name.startswith("edge_runtime-") and path.name.endswith("-py3-none-any.whl")
    return ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    [name] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    return message_from_bytes(wheel.read(name))


def test_it_holds_the_runtime_and_nothing_else(wheel: ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    [information] = tops - {"edge_runtime"}
    assert information.endswith(".dist-info")
    packed = {name for name in wheel.namelist() if name.startswith("edge_runtime/")}
    data = {"edge_runtime/py.typed", "edge_runtime/deploy/edge-run@.service", "edge_runtime/deploy/camera.conf"}
    kernels = {path.as_posix() for path in Path("edge_runtime/devices/cuda/kernels").iterdir()}
    assert packed == {path.as_posix() for path in Path("edge_runtime").rglob("*.py")} | kernels | data


def test_it_brings_its_commands(wheel: ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(name).decode())
    assert dict(parser["console_scripts"]) == {
        "edge-run": "edge_runtime.commands.edge_run:main",
        "edge-report": "edge_runtime.commands.edge_report:main",
        "edge-doctor": "edge_runtime.commands.edge_doctor:main",
        "edge-record": "edge_runtime.commands.edge_record:main",
    }


def test_it_needs_little_and_leaves_engines_to_extras(metadata: Message) -> None:
    assert metadata["Requires-Python"] == ">=3.10"
    needed = [need.name for need in map(Requirement, metadata.get_all("Requires-Dist")) if "extra ==" not in str(need.marker)]
    assert sorted(needed) == ["msgspec", "numpy", "safetensors", "threadpoolctl", "tqdm"]
    assert set(metadata.get_all("Provides-Extra")) == {"cpu", "gpu", "cuda", "video", "report", "alerts", "int8"}


@pytest.mark.parametrize(("extra", "library"), [("cpu", {"onnxruntime"}), ("gpu", {"onnxruntime-gpu"}), ("cuda", set())])
def test_an_extra_brings_one_onnx_runtime_at_most(metadata: Message, extra: str, library: set[str]) -> None:
    """The two overwrite each other's files; on a Jetson it is installed by itself."""
    needs = [need for need in map(Requirement, metadata.get_all("Requires-Dist")) if need.marker and need.marker.evaluate({"extra": extra})]
    names = {need.name for need in needs}
    assert {name for name in names if name.startswith("onnxruntime")} == library
    assert ("pycuda" in names) == (extra != "cpu")
