from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), "."]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    [path] = folder.iterdir()
    assert path.name.startswith("edge_runtime-") and path.name.endswith("-py3-none-any.whl")
    return ZipFile(path)


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


def test_it_needs_little_and_leaves_engines_to_extras(wheel: ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    lines = wheel.read(name).decode().splitlines()
    assert "Requires-Python: >=3.10" in lines
    needed = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    assert sorted(text.split(">")[0] for text in needed) == ["msgspec", "numpy", "safetensors", "threadpoolctl", "tqdm"]
    assert {line for line in lines if line.startswith("Provides-Extra")} >= {"Provides-Extra: cpu", "Provides-Extra: video"}
