"""Local cameras: real OpenCV, v4l2-ctl and edge-run on a stand-in for the kernel's side of V4L2 (`tests/kit/v4l2_device.c`).

No USB camera was ever attached where these tests were written. What a driver does beyond what the stand-in knows, they do not show.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.doctor import Machine
from edge_runtime.doctor.cameras import find_cameras
from tests.kit.cameras import SYSTEM_PYTHON
from tests.kit.commands import edge_run, error_of, results_in
from tests.kit.running import SPAN, Running, assert_no_score_spans_a_gap
from tests.kit.v4l2_cameras import CameraBus, UsbCamera
from tests.kit.wording import missing

pytestmark = [pytest.mark.v4l2, pytest.mark.waits]

BACK_WITHIN_S = 5.0
FORMATS = [("YUYV", 160, 120, 30), ("YUYV", 320, 240, 10), ("MJPG", 160, 120, 30), ("MJPG", 320, 240, 15)]


@pytest.fixture
def bus(tmp_path: Path) -> CameraBus:
    return CameraBus(tmp_path)


@pytest.fixture
def gate(bus: CameraBus) -> UsbCamera:
    camera = bus.make("Gate_A1", *FORMATS)
    bus.plug(camera, 0)
    return camera


@pytest.fixture
def bundle(toy: Callable[[str], Bundle]) -> Path:
    return toy("one_pool").path


@pytest.mark.parametrize("source", ["camera:0", "/dev/video0", "v4l2:///dev/v4l/by-id/usb-Gate_A1-video-index0"])
def test_a_camera_is_scored_by_number_and_by_identity(bus: CameraBus, gate: UsbCamera, bundle: Path, tmp_path: Path, source: str) -> None:
    finished = edge_run("--source", source, "--bundle", bundle, "--out", tmp_path / "out", "--max-frames", 20, variables=bus.variables)
    assert finished.code == 0, finished.err
    results = results_in(tmp_path / "out")
    assert results.summary["frames"] == 20 and len(results.scores) >= 20 - SPAN
    health = results.summary["source"]
    assert (health["decoder"], health["connects"], health["losses"]) == ("V4L2", 1, 0)
    assert {call.partition(" ")[0] for call in gate.calls} >= {"S_FMT", "STREAMON"}


@pytest.mark.parametrize(
    ("flags", "size", "last"),
    [
        (("--width", 160, "--height", 120, "--rate", 12, "--codec", "mjpeg"), (160, 120), "STREAMON MJPG 160x120 12"),
        (("--width", 320, "--height", 240, "--rate", 15, "--codec", "mjpeg"), (320, 240), "STREAMON MJPG 320x240 15"),
        (("--width", 160, "--height", 120, "--rate", 20, "--codec", "yuyv"), (160, 120), "STREAMON YUYV 160x120 20"),
        (("--width", 160, "--height", 120), (160, 120), "STREAMON YUYV 160x120 30"),
        (("--codec", "mjpeg"), (320, 240), "STREAMON MJPG 320x240 15"),
    ],
    ids=["small mjpeg", "large mjpeg", "yuyv", "size alone", "codec alone"],
)
def test_size_rate_and_codec_reach_the_device(
    bus: CameraBus, gate: UsbCamera, bundle: Path, tmp_path: Path, flags: tuple[object, ...], size: tuple[int, int], last: str
) -> None:
    written = ("--out", tmp_path / "out", "--max-frames", 8)
    finished = edge_run("--camera", 0, "--bundle", bundle, *flags, *written, variables=bus.variables)
    assert finished.code == 0, finished.err
    assert gate.calls[-1] == last
    health = results_in(tmp_path / "out").summary["source"]
    assert (health["width"], health["height"], health["fps"]) == (*size, float(last.split()[-1]))


@pytest.mark.parametrize("number", [0, 1], ids=["the same number", "another number"])
def test_unplugged_and_plugged_in_again_it_is_back_by_its_identity(
    bus: CameraBus, gate: UsbCamera, bundle: Path, tmp_path: Path, number: int
) -> None:
    with Running(tmp_path, "--source", gate.uri, "--bundle", bundle, variables=bus.variables) as run:
        run.wait_for_scores()
        bus.unplug(gate)
        run.wait_for_event("source_lost")
        bus.plug(gate, number)
        plugged_s = monotonic()
        run.wait_for_event("reconnect")
        assert monotonic() - plugged_s < BACK_WITHIN_S
        run.wait_for_scores()
        finished = run.stop(signal.SIGINT)
    assert finished.code == 130 and "Traceback" not in finished.err
    results = results_in(tmp_path / "out")
    assert [event["event"] for event in results.events if "alarm" not in event["event"]] == ["source_lost", "reconnect", "gap"]
    assert_no_score_spans_a_gap(results)
    assert (results.summary["source"]["connects"], results.summary["source"]["losses"]) == (2, 1)


def test_another_camera_that_takes_the_number_is_not_taken_for_it(bus: CameraBus, gate: UsbCamera, bundle: Path, tmp_path: Path) -> None:
    other = bus.make("Yard_B2", *FORMATS, seed=5)
    with Running(tmp_path, "--source", gate.uri, "--bundle", bundle, variables=bus.variables) as run:
        run.wait_for_scores()
        bus.unplug(gate)
        bus.plug(other, 0)
        run.wait_for_event("source_lost")
        there = len(run.lines())
        Event().wait(2.5)  # some attempts, which the reconnect counts
        assert len(run.lines()) == there
        bus.plug(gate, 1)
        run.wait_for_event("reconnect")
        run.wait_for_scores()
        finished = run.stop(signal.SIGINT)
    assert finished.code == 130
    assert other.calls == []
    results = results_in(tmp_path / "out")
    [reconnect] = [event for event in results.events if event["event"] == "reconnect"]
    assert reconnect["attempts"] >= 3
    assert_no_score_spans_a_gap(results)


def test_an_unplugged_camera_is_an_error_that_names_it(bus: CameraBus, gate: UsbCamera, bundle: Path) -> None:
    bus.unplug(gate)
    finished = edge_run("--source", gate.uri, "--bundle", bundle, variables=bus.variables)
    assert finished.code == 1
    assert not missing(error_of(finished), f"{gate.uri} … /dev/v4l/by-id/{gate.identity}")


@pytest.mark.system_opencv
def test_the_systems_opencv_reads_it_too(bus: CameraBus, gate: UsbCamera) -> None:
    """JetPack's is of the same kind."""
    code = (
        "import cv2, sys; capture = cv2.VideoCapture(sys.argv[1], cv2.CAP_V4L2); "
        "print(*(capture.read()[1].shape for _ in range(5)), sep='\\n')"
    )
    path = gate.uri.removeprefix("v4l2://")
    read = subprocess.run([SYSTEM_PYTHON, "-c", code, path], env=os.environ | bus.variables, capture_output=True, text=True, timeout=60)
    assert read.stdout.splitlines() == ["(240, 320, 3)"] * 5, read.stderr


def test_the_doctor_lists_it_with_its_identity_and_formats(bus: CameraBus, gate: UsbCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = bus.make("Yard_B2", ("MJPG", 160, 120, 5))
    bus.plug(yard, 3)
    for name, value in bus.variables.items():
        monkeypatch.setenv(name, value)
    first, second = find_cameras(Machine(root=bus.root))
    assert (first.what, second.what) == ("/dev/video0: Gate_A1", "/dev/video3: Yard_B2")
    assert first.detail == f"--source {gate.uri}; MJPG 320x240@15, 160x120@30; YUYV 320x240@10, 160x120@30"
    assert second.detail == f"--source {yard.uri}; MJPG 160x120@5"
