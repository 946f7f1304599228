"""`edge-run` on a camera on the network that goes away and comes back, misbehaves and keeps a secret."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.bundle import Bundle
from tests.kit.cameras import RtspCamera
from tests.kit.commands import Results, edge_run, error_of, results_in
from tests.kit.drawn_footage import Reel, draw, write_reel
from tests.kit.mjpeg_server import MjpegCamera
from tests.kit.running import PATIENCE_S, SPAN, STALL_S, Running, assert_no_score_spans_a_gap
from tests.kit.wording import missing

pytestmark = [pytest.mark.rtsp, pytest.mark.waits]

SECRETS = ("operator-7", "hunter-2-secret")


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Reel:
    return write_reel(tmp_path_factory.mktemp("reel") / "small", draw(60, width=160, height=120), fps=15)


@pytest.fixture
def bundle(toy: Callable[[str], Bundle]) -> Path:
    return toy("one_pool").path


def test_no_score_spans_what_happened_to_the_camera(reel: Reel, bundle: Path, tmp_path: Path) -> None:
    larger = write_reel(tmp_path / "larger", draw(60, width=320, height=240), fps=15)
    with RtspCamera(reel) as camera, Running(tmp_path, "--source", camera.uri, "--bundle", bundle) as run:
        run.wait_for_scores()
        camera.kill()
        run.wait_for_event("source_lost")
        camera.start()
        run.wait_for_event("reconnect")
        run.wait_for_scores()
        camera.stall()
        run.wait_for_event("source_lost", 2)
        camera.resume()
        run.wait_for_event("reconnect", 2)
        run.wait_for_scores()
        camera.freeze()
        run.wait_for_event("picture_frozen")
        camera.thaw()
        run.wait_for_event("picture_moves")
        run.wait_for_scores()
        camera.black()
        run.wait_for_event("filler")
        camera.switch(larger)
        run.wait_for_event("reconnect", 3)
        run.wait_for_scores()
        finished = run.stop(signal.SIGINT)
    assert finished.code == 130 and "Traceback" not in finished.err
    results = results_in(tmp_path / "out")
    happened = [event["event"] for event in results.events if not event["event"].startswith("alarm")]
    away = ["source_lost", "reconnect", "gap"]
    assert happened == [*away, *away, "picture_frozen", "picture_moves", "gap", "filler", *away]
    assert_no_score_spans_a_gap(results)
    check_summary(results)


@pytest.mark.parametrize("make", [RtspCamera, MjpegCamera], ids=["rtsp", "mjpeg"])
def test_a_new_size_within_a_connection_is_a_gap_and_nothing_is_learned_across_it(
    reel: Reel, bundle: Path, tmp_path: Path, make: type[RtspCamera | MjpegCamera]
) -> None:
    larger = write_reel(tmp_path / "larger", draw(60, width=320, height=240), fps=15)
    with make(reel) as camera, Running(tmp_path, "--source", camera.uri, "--bundle", bundle) as run:
        run.wait_for_scores()
        camera.switch(larger, hang_up=False) if isinstance(camera, RtspCamera) else camera.show(larger)
        run.wait_for_event("gap")
        run.wait_for_scores()
        finished = run.stop(signal.SIGINT)
    assert finished.code == 130 and "Traceback" not in finished.err
    results = results_in(tmp_path / "out")
    [gap] = [event for event in results.events if not event["event"].startswith("alarm")]
    assert (gap["event"], gap["reason"]) == ("gap", "size changed to 320x240")
    # What is not scored is not learned: the next score, and with it the next update, is a whole window away.
    assert not set(results.frames) & set(range(gap["frame"], gap["frame"] + SPAN - 1))
    assert {gap["frame"] - 1, gap["frame"] + SPAN - 1} <= set(results.frames)
    assert results.summary["updates"] == sum(results.column("memory_updated"))
    assert (results.summary["source"]["connects"], results.summary["source"]["width"]) == (1, 320)


def check_summary(results: Results) -> None:
    source = results.summary["source"]
    assert (source["state"], source["connects"], source["losses"], source["width"]) == ("closed", 4, 3, 320)
    assert source["stalls"] >= 1 and source["filler"] >= 1 and source["down_s"] > 0
    assert results.summary["gaps"] == sum(event["event"] == "gap" for event in results.events)
    assert results.summary["updates"] == sum(results.column("memory_updated"))
    assert results.summary["scored"] == len(results.scores)


@pytest.mark.parametrize("harm", [RtspCamera.kill, RtspCamera.stall], ids=lambda harm: harm.__name__)
def test_stopped_while_the_camera_is_away_it_ends_in_order_and_soon(
    reel: Reel, bundle: Path, tmp_path: Path, harm: Callable[[RtspCamera], None]
) -> None:
    with RtspCamera(reel) as camera, Running(tmp_path, "--source", camera.uri, "--bundle", bundle) as run:
        run.wait_for_scores()
        harm(camera)
        run.wait_for_event("source_lost")
        finished = run.stop(signal.SIGTERM, STALL_S + 2.0)
        if harm is RtspCamera.kill:
            camera.start()
    assert finished.code == 130 and "Traceback" not in finished.err
    summary = results_in(tmp_path / "out").summary
    assert summary["ended_by"] == "interrupted"
    assert (summary["source"]["state"], summary["source"]["losses"]) == ("closed", 1)
    assert list((tmp_path / "state").glob("*.safetensors"))


def test_the_credentials_are_written_nowhere(reel: Reel, bundle: Path, tmp_path: Path) -> None:
    user, password = SECRETS
    with RtspCamera(reel, user=user, password=password) as camera:
        variables = {"EDGE_SOURCE": camera.uri}
        with Running(tmp_path, "--bundle", bundle, "--debug", variables=variables) as run:
            run.wait_for_scores()
            camera.kill()
            run.wait_for_event("source_lost")
            camera.start()
            run.wait_for_event("reconnect")
            run.wait_for_scores()
            assert run.stop(signal.SIGTERM).code == 130
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "bundle" not in path.parts]
    assert {"scores.jsonl", "summary.json", "stdout", "stderr"} <= {path.name for path in written}
    assert not [path for path in written for secret in SECRETS if secret.encode() in path.read_bytes() or secret in str(path)]


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
def test_a_wrong_password_is_told_without_it(reel: Reel, bundle: Path, debug: tuple[str, ...]) -> None:
    user, password = SECRETS
    with RtspCamera(reel, user=user, password="another") as camera:
        variables = {"EDGE_SOURCE": camera.uri.replace("another", password)}
        finished = edge_run("--bundle", bundle, "--stall-s", STALL_S, *debug, variables=variables)
    assert finished.code == 1
    assert not [secret for secret in SECRETS if secret in finished.out + finished.err]
    if not debug:
        assert not missing(error_of(finished), "401 … password")


def test_ctrl_c_does_not_wait_for_a_camera_that_does_not_answer(bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(PATIENCE_S)
        uri = f"rtsp://127.0.0.1:{mute.getsockname()[1]}/camera"
        with Running(tmp_path, "--bundle", bundle, "--source", uri, "--stall-s", 60) as running:
            asked, _ = mute.accept()
            with asked:
                finished = running.stop(signal.SIGINT, within_s=5)
    assert finished.code == 130 and finished.err.splitlines()[-1] == "interrupted"
    assert not (tmp_path / "out").exists()
