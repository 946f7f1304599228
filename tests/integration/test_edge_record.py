"""`edge-record` as a user starts it: on footage, and on cameras of the kit that go away and come back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.locks import locked_folder
from edge_runtime.sources import open_source
from edge_runtime.sources.footage import FootageSource, read_clip
from edge_runtime.sources.footage.clips import list_clips
from tests.kit.cameras import RtspCamera
from tests.kit.commands import Finished, command_line, environment, error_of, run_module
from tests.kit.drawn_footage import Reel, draw, number_in, write_clip, write_reel, write_video
from tests.kit.mjpeg_server import MjpegCamera
from tests.kit.timed_video import every, write_timed_video
from tests.kit.wording import missing

pytestmark = pytest.mark.waits

pytest.importorskip("av")

MODULE = "edge_runtime.commands.edge_record"
SECOND = 1 / 60
SCENE = "synthetic:?frames=90&fps=10&width=160&height=120&anomalies=off"
ENDLESS = "synthetic:?frames=10000000&fps=10&width=160&height=120"
PICTURES, FPS = 400, 10
PASSWORD = "a-secret"
WATCHED_S = 10.2


def edge_record(*arguments: object) -> Finished:
    return run_module(MODULE, *arguments)


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(command_line(MODULE, *arguments), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What a process writes to stderr up to the line with these words."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"ended before it wrote '{words}': {''.join(lines)}")


def clips_in(out: Path) -> dict[str, list[np.ndarray]]:
    """The frames of each clip as training reads them; recording.json must say the same of them."""
    clips = {clip.name: [image for image, _ in read_clip(clip)] for clip in list_clips(out)}
    rows = {row["name"]: row for row in recording(out)["clips"]}
    assert {name: len(images) for name, images in clips.items()} == {name: row["frames"] for name, row in rows.items()}
    assert [list(images[0].shape[1::-1]) for images in clips.values()] == [row["size_px"] for row in rows.values()]
    return clips


def recording(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "recording.json").read_text())
    return content


def test_help_is_there_without_numpy() -> None:
    code = "import sys; from edge_runtime.commands.edge_record import main\ntry: main(['--help'])\nfinally: print('numpy' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True, timeout=60)
    assert finished.stdout.startswith("usage: edge-record")
    assert finished.stdout.endswith("False\n")


def test_footage_becomes_clips_that_training_reads(tmp_path: Path) -> None:
    finished = edge_record("--source", SCENE, "--out", tmp_path, "--minutes", 8 * SECOND, "--clip-minutes", 3 * SECOND)
    assert finished.code == 0, finished.err
    clips = clips_in(tmp_path)
    assert [len(images) for images in clips.values()] == [30, 30, 20]
    assert FootageSource(str(tmp_path)).fps == FPS
    first = draw(1, width=160, height=120)[0]
    assert cv2.absdiff(next(iter(clips.values()))[0], first).mean() < 12
    assert "0.1 minutes in 3 clips" in finished.out
    assert not missing(finished.out, "100% … ended: 0.133333 minutes")
    assert recording(tmp_path)["warnings"] == []


def test_footage_whose_rate_varies_is_not_recorded_as_if_it_were_even(tmp_path: Path) -> None:
    even, slow, slower = every(0.1, 40), every(0.2, 20, start_s=4.0), every(0.4, 8, start_s=8.2)
    times_s = [*even, *slow, *slower]
    video = write_timed_video(tmp_path / "gate.mp4", draw(len(times_s), width=160, height=120), times_s)
    finished = edge_record("--source", video, "--out", tmp_path / "out")
    [row] = recording(tmp_path / "out")["clips"]
    assert (row["frames"], row["end"]) == (60, "no frame for 0.40 s")
    assert row["measured_fps"] == pytest.approx(59 / 7.8, abs=0.05)
    assert not missing(finished.out, f"{row['name']} … speed")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="not here: /dev/full")
def test_a_log_on_a_full_disk_does_not_end_the_recording(tmp_path: Path) -> None:
    run = ("--source", SCENE, "--out", tmp_path, "--minutes", 8 * SECOND, "--clip-minutes", 3 * SECOND, "--debug")
    with open("/dev/full", "w") as full:
        finished = subprocess.run(
            command_line(MODULE, *run), env=environment(), stdout=subprocess.PIPE, stderr=full, text=True, timeout=60, check=False
        )
    assert finished.returncode == 0
    assert finished.stdout.splitlines()[-1].startswith("ended: 0.133333 minutes")
    assert [len(images) for images in clips_in(tmp_path).values()] == [30, 30, 20]


def test_run_again_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    wish = ("--source", SCENE, "--out", tmp_path, "--clip-minutes", 3 * SECOND)
    assert edge_record(*wish, "--minutes", 3 * SECOND).code == 0
    again = edge_record(*wish, "--minutes", 9 * SECOND)
    assert not missing(again.err, f"{tmp_path} … 0.1 of 0.15")
    assert not missing(again.err, f"{SCENE} … frame 30")
    assert [row["first_frame"] for row in recording(tmp_path)["clips"]] == [0, 30, 60]
    frames = [image for images in clips_in(tmp_path).values() for image in images]
    whole = [frame.image for frame in open_source(SCENE)]
    assert max(float(cv2.absdiff(*pair).mean()) for pair in zip(frames, whole, strict=True)) < 6
    done = edge_record(*wish, "--minutes", 9 * SECOND)
    assert done.code == 0
    assert not missing(done.out, "0.15 minutes")


def test_two_recordings_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with locked_folder(tmp_path):
        refused = edge_record("--source", "camera:99", "--wait", "--out", tmp_path)
    assert not missing(error_of(refused), f"{tmp_path} … another run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_that_cannot_be_is_refused_before_a_camera_is_waited_for(below: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    refused = edge_record("--source", "camera:99", "--wait", "--out", tmp_path / "taken" / below)
    message = error_of(refused)
    assert message.startswith(f"{tmp_path / 'taken' / below}: ") and not missing(message, "folder … file")
    assert refused.err.splitlines() == [f"error: {message}"]
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_camera_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    assert "camera:99" in error_of(edge_record("--source", "camera:99", "--out", tmp_path / "footage" / "gate"))
    assert list(tmp_path.iterdir()) == []


def test_footage_of_another_rate_is_refused(tmp_path: Path) -> None:
    assert edge_record("--source", SCENE, "--out", tmp_path).code == 0
    refused = edge_record("--source", SCENE.replace("fps=10", "fps=15"), "--out", tmp_path)
    assert not missing(error_of(refused), f"{tmp_path} … 10 … 15")
    assert len(clips_in(tmp_path)) == 1


def test_the_size_cap_ends_it_in_order(tmp_path: Path) -> None:
    capped = edge_record("--source", ENDLESS, "--out", tmp_path, "--clip-minutes", 5 * SECOND, "--max-mb", 0.2)
    assert capped.code == 0
    assert not missing(capped.out, "ended … 0.2 MB … --max-mb")
    assert 0.2e6 <= recording(tmp_path)["totals"]["size_bytes"] < 0.35e6
    assert clips_in(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_finishes_the_clip_at_hand(tmp_path: Path, number: signal.Signals) -> None:
    with start("--source", ENDLESS, "--out", tmp_path, "--minutes", 600, "--clip-minutes", 20 * SECOND) as process:
        read_until(process, "ended: full length")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "ended: interrupted" in out
    assert "Traceback" not in err
    assert recording(tmp_path)["clips"][-1]["end"] in ("interrupted", "full length")  # the latter where it was under 2 s
    clips_in(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".json"}


def test_a_kill_leaves_whole_clips_alone(tmp_path: Path) -> None:
    wish = ("--source", ENDLESS, "--out", tmp_path, "--clip-minutes", 20 * SECOND)
    with start(*wish, "--minutes", 600) as process:
        read_until(process, "ended: full length")
        while not list(tmp_path.glob(".*.part")):
            assert process.poll() is None
        process.kill()
    assert all(sum(1 for _ in read_clip(clip)) == 200 for clip in list_clips(tmp_path))
    left = list(tmp_path.glob(".*.part"))
    again = edge_record(*wish, "--minutes", 21 * SECOND)
    assert again.code == 0
    assert all(f"{path}: removed" in again.err for path in left)
    assert list(tmp_path.glob(".*")) == []


def test_another_rate_than_the_footages_own_is_refused(tmp_path: Path) -> None:
    """It would be recorded in slow motion."""
    clip = write_video(tmp_path / "gate.avi", draw(30, width=160, height=120), fps=30)
    refused = edge_record("--source", clip, "--fps", 10, "--out", tmp_path / "out")
    assert not missing(error_of(refused), f"--fps 10 … {clip} … 30")
    assert not (tmp_path / "out").exists()


def test_dark_and_still_footage_is_warned_about(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    dark = [noise.normal(15, 2, (120, 160, 1)).clip(0, 255).repeat(3, 2).astype(np.uint8) for _ in range(30)]
    finished = edge_record("--source", write_clip(tmp_path / "dark", dark), "--fps", 10, "--out", tmp_path / "out")
    assert finished.code == 0
    too_dark, nothing_moves = recording(tmp_path / "out")["warnings"]
    assert not missing(too_dark, "dark … 255") and not missing(nothing_moves, "moves … 0.1 minutes")
    assert f"warning: {too_dark}\nwarning: {nothing_moves}\n" in finished.out
    [row] = recording(tmp_path / "out")["clips"]
    assert row["glance"]["mean_luminance"] == pytest.approx(15, abs=1)
    assert row["glance"]["moving_share"] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--source", "nowhere.mp4"), "nowhere.mp4 … expected"),
        (("--source", SCENE, "--minutes", 0), "--minutes … 0"),
        (("--source", SCENE, "--fps", 1e-300), "fps … 0.001 … 1000 … 1e-300"),
        (("--camera", 97), "camera:97 … ls /dev/video*"),
    ],
)
def test_what_cannot_be_recorded_is_one_line(tmp_path: Path, arguments: tuple[object, ...], words: str) -> None:
    assert not missing(error_of(edge_record("--out", tmp_path / "out", *arguments)), words)


@dataclass(frozen=True)
class Watched:
    """A recording of a camera that went away in the middle of its first clip and came back."""

    code: int
    out: str
    err: str
    folder: Path


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Reel:
    return write_reel(tmp_path_factory.mktemp("reel") / "numbered", draw(PICTURES, width=160, height=120), fps=FPS)


@pytest.fixture(scope="module", params=[pytest.param(RtspCamera, id="rtsp", marks=pytest.mark.rtsp), pytest.param(MjpegCamera, id="mjpeg")])
def watched(request: pytest.FixtureRequest, reel: Reel, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("camera")
    with request.param(reel, user="viewer", password=PASSWORD) as camera:
        with start("--source", camera.uri, "--out", folder, "--minutes", WATCHED_S * SECOND, "--stall-s", 2) as process:
            before = read_until(process, "0.1 of 0.17")  # at least three seconds, enough for a clip
            camera.restart()
            out, err = process.communicate(timeout=60)
        return Watched(process.returncode, out, before + err, folder)


def test_a_camera_that_was_away_makes_two_clips(watched: Watched) -> None:
    assert watched.code == 0, watched.err
    ends = [row["end"] for row in recording(watched.folder)["clips"]]
    assert len(ends) >= 2  # a busy machine makes more
    assert ends[-1] == "enough is recorded"
    assert recording(watched.folder)["totals"]["seconds"] == pytest.approx(WATCHED_S)
    assert "source lost" in watched.err and "reconnect" in watched.err
    assert not missing(watched.out, f"ended … {WATCHED_S * SECOND:g}")
    assert not missing(recording(watched.folder)["warnings"][0], "camera … lost")


def test_no_clip_spans_the_time_it_was_away(watched: Watched) -> None:
    for images in clips_in(watched.folder).values():
        numbers = [number_in(image) for image in images]
        steps = [(later - earlier) % PICTURES for earlier, later in pairwise(numbers)]
        assert set(steps) <= {1, 2}  # one may be missing where this machine is busy


def test_a_camera_is_recorded_on_at_the_rate_of_its_clips(watched: Watched, reel: Reel) -> None:
    with MjpegCamera(reel) as camera:
        refused = edge_record("--source", camera.uri, "--out", watched.folder, "--fps", 5)
    assert not missing(error_of(refused), f"{watched.folder} … 10 … 5")


def test_a_cameras_clips_have_its_true_rate(watched: Watched) -> None:
    assert {row["fps"] for row in recording(watched.folder)["clips"]} == {FPS}
    assert [row["measured_fps"] for row in recording(watched.folder)["clips"]] == pytest.approx(
        [FPS] * len(recording(watched.folder)["clips"]), rel=0.1
    )


def test_no_credential_is_told(watched: Watched) -> None:
    told = watched.out + watched.err + (watched.folder / "recording.json").read_text()
    assert "***@127.0.0.1" in told
    assert PASSWORD not in told and "viewer" not in told
