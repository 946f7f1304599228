"""`edge-doctor` as a user starts it; the unit as systemd reads it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.deploy import example_configuration, systemd_unit
from edge_runtime.doctor import Machine
from edge_runtime.doctor.opencv import find_opencv
from tests.kit.commands import ROOT, Finished, error_of, run_module
from tests.kit.wording import missing

pytestmark = pytest.mark.commands

TOPICS = [
    *("Python", "NumPy", "OpenCV", "ONNX Runtime", "Extras", "Jetson", "CUDA", "TensorRT", "pycuda"),
    *("Cameras", "GStreamer", "Disk", "Memory", "Bundle"),
]
SYSTEM_PYTHON = "/usr/bin/python3"


def edge_doctor(*arguments: object, modules: Path | None = None, **variables: str) -> Finished:
    """Run `edge-doctor` to its end; `modules` are found before the installed ones."""
    path = {"PYTHONPATH": f"{modules}:{ROOT}"} if modules else {}
    return run_module("edge_runtime.commands.edge_doctor", *arguments, variables=path | variables)


def findings_of(finished: Finished) -> dict[str, list[dict[str, Any]]]:
    """Findings by topic, from `--json`."""
    assert finished.err == ""
    by_topic: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(finished.out)["findings"]:
        by_topic.setdefault(finding["topic"], []).append(finding)
    return by_topic


def test_this_machine_can_run_the_tests_and_so_edge_run(toy: Callable[[str], Bundle]) -> None:
    finished = edge_doctor("--bundle", toy("one_pool").path)
    assert finished.code == 0, finished
    lines = finished.out.splitlines()
    assert [line for line in lines[:-1] if line and not line.startswith(" ")] == TOPICS
    assert re.match(r"\d+ ok, \d+ warnings?, 0 missing: ", lines[-1])


def test_json_is_one_document_with_the_same_topics(toy: Callable[[str], Bundle]) -> None:
    finished = edge_doctor("--json", EDGE_BUNDLE=str(toy("one_pool").path))
    assert finished.code == 0
    assert list(findings_of(finished)) == TOPICS
    assert json.loads(finished.out)["can_run"] is True


def test_a_missing_bundle_is_exit_code_1(tmp_path: Path) -> None:
    finished = edge_doctor("--json", "--bundle", tmp_path)
    assert finished.code == 1
    [bundle] = findings_of(finished)["Bundle"]
    assert bundle["status"] == "missing" and str(tmp_path) in bundle["detail"]


def test_libraries_that_raise_abort_and_hang_are_findings(tmp_path: Path, toy: Callable[[str], Bundle]) -> None:
    (tmp_path / "cv2.py").write_text("raise OSError('wrong ELF class')")
    (tmp_path / "onnxruntime.py").write_text("import os; os.abort()")
    (tmp_path / "tensorrt.py").write_text("import threading; threading.Event().wait()")
    finished = edge_doctor("--json", "--timeout-s", 5, "--bundle", toy("one_pool").path, modules=tmp_path)
    assert finished.code == 1
    found = findings_of(finished)
    assert list(found) == TOPICS
    assert (found["OpenCV"][0]["status"], found["OpenCV"][0]["detail"]) == ("missing", "OSError: wrong ELF class")
    assert found["ONNX Runtime"][0]["status"] == "missing" and not missing(found["ONNX Runtime"][0]["what"], "SIGABRT")
    assert not missing(found["TensorRT"][0]["what"], "TensorRT … 5 s")
    assert found["Bundle"][0]["status"] == "ok"


@pytest.mark.parametrize("timeout_s", ["0", "nan", "1e+300"])
def test_a_time_that_is_none_is_refused(timeout_s: str) -> None:
    assert not missing(error_of(edge_doctor("--timeout-s", timeout_s)), f"--timeout-s … 0 … 3600 … {timeout_s}")


def test_a_system_opencv_with_the_systems_python() -> None:
    opencv, *video = find_opencv(Machine(python=_system_python_with_opencv()))
    assert opencv.status == "ok" and opencv.detail.startswith("the system's, ")
    assert video[0].what.startswith("with GStreamer ")


def test_an_opencv_built_for_numpy_1_does_not_load_with_numpy_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy

    python = _system_python_with_opencv()
    version = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True).stdout
    if numpy.__version__ < "2" or tuple(map(int, version.split())) != sys.version_info[:2]:
        pytest.skip("needs NumPy 2 for the system's Python")
    for path in Path(numpy.__file__).parents[1].glob("numpy*"):
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [finding] = find_opencv(Machine(python=python))
    assert finding.status == "missing" and not missing(finding.what, "NumPy")
    assert finding.remedy == f"{python} -m pip install 'numpy<2'"


def _system_python_with_opencv() -> str:
    code = "import cv2, numpy, re; assert re.search('GStreamer: +YES', cv2.getBuildInformation()) and numpy.__version__ < '2'"
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, check=False).returncode:
        pytest.skip("the system has no python3-opencv with GStreamer, built for NumPy 1")
    return SYSTEM_PYTHON


# The service


def test_the_unit_starts_this_installations_edge_run() -> None:
    finished = edge_doctor("--systemd-unit")
    assert (finished.code, finished.err) == (0, "")
    [command] = re.findall(r"^ExecStart=(\S+)", finished.out, re.MULTILINE)
    assert Path(command).is_absolute() and Path(command).name == "edge-run"
    assert Path(command).parent == Path(sys.executable).parent
    assert "@" not in finished.out.replace("edge-run@", "")


def test_the_example_is_what_an_environment_file_may_hold() -> None:
    finished = edge_doctor("--systemd-conf")
    assert (finished.code, finished.out) == (0, example_configuration())
    lines = [line for line in finished.out.splitlines() if line and not line.startswith("# ")]
    assert [line for line in lines if not re.fullmatch(r"#?[A-Z_]+=\S.*", line)] == []
    assert {line.lstrip("#").partition("=")[0] for line in lines} == {
        *("EDGE_SOURCE", "EDGE_BUNDLE", "EDGE_EVENTS_MB", "EDGE_MQTT", "EDGE_WEBHOOK", "EDGE_RUN_FLAGS"),
    }


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    assert verified(tmp_path, systemd_unit(Path("/bin/true"))) == (0, "")


@pytest.mark.parametrize(
    ("line", "misspelled", "complaint"),
    [
        ("WatchdogSec=60", "WatchdogSeconds=60", "'WatchdogSeconds' in section [Service], ignoring"),
        ("Restart=always", "Restart=forever", "Failed to parse"),
        ("WatchdogSec=60", "WatchdogSec=soon", "Failed to parse"),
    ],
)
def test_systemd_would_complain_of_a_mistake(tmp_path: Path, line: str, misspelled: str, complaint: str) -> None:
    unit = systemd_unit(Path("/bin/true"))
    assert line in unit
    assert complaint in verified(tmp_path, unit.replace(line, misspelled))[1]


def verified(folder: Path, unit: str) -> tuple[int, str]:
    """What `systemd-analyze verify` says."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed (apt install systemd)")
    path = folder / "edge-run@.service"
    path.write_text(unit)
    finished = subprocess.run([tool, "verify", "--man=no", str(path)], capture_output=True, text=True, check=False, timeout=60)
    return finished.returncode, finished.stdout + finished.stderr
