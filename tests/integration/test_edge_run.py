"""`edge-run` as a user starts it, on footage of every kind and on all toy bundles."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from edge_runtime.bundle import Bundle
from edge_runtime.sources import open_source
from tests.kit.commands import Finished, Results, command_line, edge_run, environment, error_of, results_in
from tests.kit.drawn_footage import draw, scene, write_clip, write_video
from tests.kit.running import Running
from tests.kit.wording import missing

pytestmark = pytest.mark.commands

KEYS = [
    *("stream", "frame", "time_s", "wall_time_s", "score", "threshold", "is_anomalous"),
    *("psnr_db", "local_error", "query_distance", "regular_score", "memory_updated", "latency_ms"),
]
STAGES = ["grab", "preprocess", "encoder", "memory", "decoder", "sinks", "total"]
SUMMARY_KEYS = {"frames", "scored", "alarms", "updates", "fps", "latency_ms", "bundle", "backend", "device", "precision"}

CLIP = 14
SCENE = scene(70, seed=1)


@dataclass(frozen=True)
class Toy:
    """What a run of a toy bundle must look like.

    Attributes:
        unscored_first, unscored_last: frames of every clip without a score.
        extra: what its rows add.
    """

    name: str
    unscored_first: int
    unscored_last: int
    learns: bool
    extra: tuple[str, ...]

    def scored(self, start: int, stop: int) -> list[int]:
        """The frames with a score in a clip of frames start ≤ i < stop."""
        return list(range(start + self.unscored_first, stop - self.unscored_last))


TOYS = [
    Toy("one_pool", 4, 0, True, ("drift",)),
    Toy("two_banks", 2, 1, False, ("query_distance/normal", "query_distance/anomalous", "drift")),
    Toy("three_pools", 2, 0, True, ("query_distance/level_1", "query_distance/level_2", "query_distance/level_3", "drift")),
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clips 9 and 10, in this order."""
    folder = tmp_path_factory.mktemp("footage") / "gate"
    write_clip(folder / "9", draw(CLIP, seed=3))
    write_clip(folder / "10", draw(CLIP, seed=4))
    return folder


@pytest.fixture(scope="module")
def one_pool(toy_originals: dict[str, Path]) -> Path:
    return toy_originals["one_pool"]


def results_of(out: Path, *arguments: object) -> Results:
    """The files of a run that must succeed."""
    finished = edge_run("--out", out, *arguments)
    assert finished.code == 0, finished.err
    return results_in(out)


# every toy bundle


@dataclass(frozen=True)
class ToyRun:
    toy: Toy
    results: Results


@pytest.fixture(scope="module", params=TOYS, ids=lambda toy: toy.name)
def toy_run(
    request: pytest.FixtureRequest, toy_originals: dict[str, Path], clips: Path, tmp_path_factory: pytest.TempPathFactory
) -> ToyRun:
    """Both clips, scored by one of the bundles."""
    out = tmp_path_factory.mktemp("runs") / "out"
    return ToyRun(request.param, results_of(out, "--bundle", toy_originals[request.param.name], "--source", clips, "--fps", 10))


def test_a_scored_frame_has_the_keys_of_the_contract(toy_run: ToyRun) -> None:
    for row in toy_run.results.scores:
        assert list(row) == [*KEYS, "extra"]
        assert list(row["latency_ms"]) == STAGES
        assert tuple(row["extra"]) == toy_run.toy.extra


def test_every_number_of_a_score_is_one(toy_run: ToyRun) -> None:
    for row in toy_run.results.scores:
        numbers = [row[name] for name in KEYS if name not in ("stream", "is_anomalous", "memory_updated", "latency_ms")]
        assert np.isfinite([*numbers, *row["latency_ms"].values(), *row["extra"].values()]).all()


def test_a_frame_is_anomalous_from_the_bundles_threshold_on(toy_run: ToyRun) -> None:
    assert all(row["is_anomalous"] is (row["score"] >= row["threshold"]) for row in toy_run.results.scores)
    assert set(toy_run.results.column("threshold")) == {1.5}


def test_a_clip_border_is_a_gap_and_the_window_fills_again(toy_run: ToyRun) -> None:
    toy, results = toy_run.toy, toy_run.results
    assert results.frames == toy.scored(0, CLIP) + toy.scored(CLIP, 2 * CLIP)
    [gap] = [event for event in results.events if event["event"] == "gap"]
    assert (gap["frame"], gap["time_s"], gap["reason"]) == (CLIP, CLIP / 10, "next clip after 9")
    place = results.lines.index(gap)
    assert all(line["frame"] < CLIP for line in results.lines[:place])
    assert all(line["frame"] >= CLIP for line in results.lines[place:])


def test_the_memory_learns_where_its_rule_says_so(toy_run: ToyRun) -> None:
    assert set(toy_run.results.column("memory_updated")) == {toy_run.toy.learns}


def test_the_summary_counts_what_the_lines_say(toy_run: ToyRun) -> None:
    summary, results = toy_run.results.summary, toy_run.results
    assert set(summary) >= SUMMARY_KEYS
    assert (summary["frames"], summary["scored"]) == (2 * CLIP, len(results.scores))
    assert summary["updates"] == sum(results.column("memory_updated"))
    assert summary["alarms"] == sum(event["event"] == "alarm_start" for event in results.events)
    assert summary["fps"] > 0
    assert list(summary["latency_ms"]) == ["p50", "p95", "p99"]
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"] <= summary["latency_ms"]["p99"]
    assert [summary[name] for name in ("bundle", "backend", "device", "precision")] == [toy_run.toy.name, "onnxruntime", "cpu", "fp32"]
    assert summary["ended_by"] == "end of source"


# sources


@pytest.fixture(scope="module")
def scene_run(one_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The built-in scene, nothing more."""
    return results_of(tmp_path_factory.mktemp("scene") / "out", "--bundle", one_pool, "--source", SCENE)


def test_the_scene_knows_its_truth(scene_run: Results) -> None:
    truth = [frame.truth for frame in open_source(SCENE)]
    assert set(truth) == {False, True}
    assert scene_run.column("truth") == [truth[frame] for frame in scene_run.frames]
    assert set(scene_run.scores[0]) == {*KEYS, "truth", "extra"}


@pytest.mark.parametrize("wildcard", ["", "*.png"])
def test_images_score_as_the_scene_they_are_of(wildcard: str, one_pool: Path, scene_run: Results, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "9", draw(CLIP, seed=1))
    images = results_of(tmp_path / "out", "--bundle", one_pool, "--source", clip / wildcard, "--fps", 10)
    drawn = Results(scene_run.lines[: len(images.lines)], scene_run.summary)
    assert images.frames == drawn.frames == list(range(4, CLIP))
    assert set(images.column("stream")) == {"9"}
    assert images.column("time_s") == [frame / 10 for frame in range(4, CLIP)]
    assert images.column("score") == pytest.approx(drawn.column("score"), abs=1e-6)
    assert images.column("psnr_db") == pytest.approx(drawn.column("psnr_db"), abs=1e-4)


def test_a_wildcard_over_folders_does_not_mix_their_frames(one_pool: Path, clips: Path, tmp_path: Path) -> None:
    results = results_of(tmp_path / "out", "--bundle", one_pool, "--source", clips / "*" / "*.png", "--fps", 10)
    assert results.frames == [*range(4, CLIP), *range(CLIP + 4, 2 * CLIP)]


def test_a_video_has_its_own_rate(one_pool: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "gate ü [1].avi", draw(12), fps=12.5)
    results = results_of(tmp_path / "out", "--bundle", one_pool, "--source", video)
    assert results.frames == list(range(4, 12))
    assert results.column("time_s") == pytest.approx([frame / 12.5 for frame in range(4, 12)])
    assert set(results.column("stream")) == {video.name}


@pytest.mark.parametrize("name", ["synthetic", "new [2]"])
def test_a_folder_may_be_called_as_it_likes(name: str, one_pool: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / name, draw(5))
    finished = edge_run("--bundle", one_pool, "--source", name, "--fps", 10, "--out", "out", cwd=tmp_path)
    assert finished.code == 0, finished.err
    assert [(row["stream"], row["frame"]) for row in results_in(tmp_path / "out").scores] == [(name, 4)]


def test_the_folder_one_is_in_names_the_stream(one_pool: Path, clips: Path, tmp_path: Path) -> None:
    finished = edge_run("--bundle", one_pool, "--source", ".", "--fps", 10, "--max-frames", 5, "--out", tmp_path, cwd=clips / "9")
    assert finished.code == 0, finished.err
    assert results_in(tmp_path).column("stream") == ["9"]


def test_images_need_a_frame_rate(one_pool: Path, clips: Path) -> None:
    message = error_of(edge_run("--bundle", one_pool, "--source", clips))
    assert str(clips) in message and "--fps 10" in message


def test_another_rate_than_the_calibrated_one_is_said(one_pool: Path, clips: Path) -> None:
    finished = edge_run("--bundle", one_pool, "--source", clips, "--fps", 30, "--max-frames", 1)
    [warning] = [line for line in finished.err.splitlines() if line.startswith("warning: ") and "per second" in line]
    assert not missing(warning, "30 frames … calibrated at 10 … ffmpeg -i IN -vf fps=10 OUT … model at 30")
    assert "make calibrate" not in warning  # it would refuse the footage, too


def test_a_loop_begins_again_with_a_gap_until_max_frames(one_pool: Path, clips: Path, tmp_path: Path) -> None:
    results = results_of(tmp_path, "--bundle", one_pool, "--source", clips / "9", "--fps", 10, "--loop", "--max-frames", 2 * CLIP + 3)
    assert [(event["event"], event["frame"], event["reason"]) for event in results.events] == [
        ("gap", CLIP, "loop"),
        ("gap", 2 * CLIP, "loop"),
    ]
    assert results.frames == [*range(4, CLIP), *range(CLIP + 4, 2 * CLIP)]
    assert (results.summary["frames"], results.summary["ended_by"]) == (2 * CLIP + 3, "max frames")


# flags


def test_without_update_nothing_is_learned(one_pool: Path, scene_run: Results, tmp_path: Path) -> None:
    results = results_of(tmp_path, "--bundle", one_pool, "--source", SCENE, "--update", "off")
    assert results.summary["updates"] == 0 and results.summary["memory_frozen"] is True
    assert set(results.column("memory_updated")) == {False}
    distances = np.array([results.column("query_distance"), scene_run.column("query_distance")])  # (2, N)
    assert distances[0, 0] == pytest.approx(distances[1, 0])  # the first frame is read before anything is learned
    assert (np.abs(np.diff(distances, axis=0))[0, 1:] > 1e-6).all()


@dataclass(frozen=True)
class Filmed:
    threshold: float
    finished: Finished
    out: Path
    results: Results


@pytest.fixture(scope="module")
def filmed(one_pool: Path, scene_run: Results, tmp_path_factory: pytest.TempPathFactory) -> Filmed:
    """The scene again, with a threshold that half of its frames reach, a video and a timeline."""
    threshold = float(np.median(scene_run.column("score")))
    out = tmp_path_factory.mktemp("filmed") / "new" / "folder"
    finished = edge_run("--bundle", one_pool, "--source", SCENE, "--threshold", repr(threshold), "--out", out, "--save-video", "--timeline")
    return Filmed(threshold, finished, out, results_in(out))


def test_another_threshold_changes_who_is_anomalous_and_not_the_score(filmed: Filmed, scene_run: Results) -> None:
    assert set(filmed.results.column("threshold")) == {filmed.threshold}
    assert filmed.results.column("is_anomalous") == [score >= filmed.threshold for score in filmed.results.column("score")]
    assert 0.4 < np.mean(filmed.results.column("is_anomalous")) < 0.6
    assert filmed.results.column("score") == pytest.approx(scene_run.column("score"), abs=1e-6)


def test_alarms_begin_and_end_and_are_counted(filmed: Filmed) -> None:
    alarms = [event for event in filmed.results.events if event["event"].startswith("alarm")]
    starts = alarms[::2]
    assert [event["event"] for event in alarms] == ["alarm_start", "alarm_end"] * len(starts)
    assert len(starts) == filmed.results.summary["alarms"] > 0
    anomalous = {row["frame"] for row in filmed.results.scores if row["is_anomalous"]}
    assert {event["frame"] for event in starts} <= anomalous
    assert min(anomalous) == starts[0]["frame"]


def test_alarms_are_shown_as_they_come(filmed: Filmed) -> None:
    assert filmed.finished.err.count("synthetic: alarm start") == filmed.results.summary["alarms"]


def test_the_last_line_says_what_came_of_it(filmed: Filmed) -> None:
    summary = filmed.results.summary
    [line] = filmed.finished.out.splitlines()
    assert line.startswith(f"one_pool: scored {summary['scored']} of {summary['frames']} frames at ")
    assert f"{summary['alarms']} alarms, {summary['updates']} memory updates" in line
    assert line.endswith(f"-> {filmed.out}")


def test_the_video_shows_every_frame(filmed: Filmed) -> None:
    av = pytest.importorskip("av")
    with av.open(str(filmed.out / "annotated.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 10)
        assert sum(1 for _ in container.decode(video=0)) == filmed.results.summary["frames"]


def test_only_whole_files_are_left(filmed: Filmed) -> None:
    pytest.importorskip("matplotlib")
    assert sorted(os.listdir(filmed.out)) == ["annotated.mp4", "scores.jsonl", "summary.json", "timeline.png"]
    assert (filmed.out / "timeline.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("flag", ["--save-video", "--timeline"])
def test_pictures_need_a_folder(flag: str, one_pool: Path) -> None:
    assert "--out DIR" in error_of(edge_run("--bundle", one_pool, "--source", SCENE, flag))


@pytest.mark.parametrize("default", ["EDGE_BUNDLE", "bundle"])
def test_without_bundle_there_are_two_defaults(default: str, one_pool: Path, toy_originals: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(one_pool, tmp_path / "bundle")
    variables = {"EDGE_BUNDLE": str(toy_originals["three_pools"])} if default == "EDGE_BUNDLE" else {}
    finished = edge_run("--source", SCENE, "--max-frames", 1, "--out", "out", cwd=tmp_path, variables=variables)
    assert finished.code == 0, finished.err
    assert results_in(tmp_path / "out").summary["bundle"] == ("three_pools" if default == "EDGE_BUNDLE" else "one_pool")


# state


def items_in(state: Path) -> np.ndarray:
    """(M, D), of the one_pool bundle."""
    return load_file(state / "gate.safetensors")["memory"]


def test_a_second_run_begins_where_the_first_ended(one_pool: Path, clips: Path, tmp_path: Path) -> None:
    common = ("--bundle", one_pool, "--fps", 10, "--stream", "gate")
    whole = results_of(tmp_path / "whole", *common, "--source", clips, "--state", tmp_path / "once")
    first = results_of(tmp_path / "first", *common, "--source", clips / "9", "--state", tmp_path / "twice")
    halfway = items_in(tmp_path / "twice")
    second = results_of(tmp_path / "second", *common, "--source", clips / "10", "--state", tmp_path / "twice")
    assert np.abs(halfway - load_file(one_pool / "memory.safetensors")["memory"]).max() > 1e-3
    assert first.column("query_distance") + second.column("query_distance") == pytest.approx(whole.column("query_distance"), abs=1e-6)
    np.testing.assert_allclose(items_in(tmp_path / "twice"), items_in(tmp_path / "once"), atol=1e-6)


def test_a_run_without_update_leaves_the_state_alone(one_pool: Path, clips: Path, tmp_path: Path) -> None:
    common = ("--bundle", one_pool, "--fps", 10, "--stream", "gate", "--source", clips / "9", "--state", tmp_path / "state")
    results_of(tmp_path / "1", *common)
    before = (tmp_path / "state" / "gate.safetensors").read_bytes()
    frozen = results_of(tmp_path / "2", *common, "--update", "off")
    assert frozen.summary["updates"] == 0
    assert (tmp_path / "state" / "gate.safetensors").read_bytes() == before
    assert results_of(tmp_path / "3", *common).summary["updates"] == CLIP - 4


# progress


def test_a_long_run_writes_plain_lines_where_there_is_no_terminal(one_pool: Path) -> None:
    arguments = command_line("edge_runtime.commands.edge_run", "--bundle", one_pool, "--source", SCENE, "--loop", "--max-frames", 50_000)
    with subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next((line for line in process.stderr if line.startswith("frame ")), "")
        process.terminate()
        rest = process.communicate(timeout=30)[1]
    assert re.fullmatch(r"frame \d+, [\d.]+ fps, (score [\d.]+|window fills), 0 alarms\n", line)
    assert "\r" not in rest and process.returncode == 130


def test_a_terminal_has_live_progress(one_pool: Path) -> None:
    terminal, its_end = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    arguments = command_line("edge_runtime.commands.edge_run", "--bundle", one_pool, "--source", SCENE, "--threshold", 0)
    with subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=its_end) as process:
        os.close(its_end)
        shown = read_all(terminal)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert "\r" in shown
    assert "70/70" in shown and "1 alarms" in shown
    assert re.search(r"score \d", shown)
    assert "synthetic: alarm start" in shown


def test_a_terminal_that_goes_away_does_not_end_the_run(one_pool: Path, tmp_path: Path) -> None:
    terminal, its_end = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 120, 0, 0))
    run = ("--bundle", one_pool, "--source", SCENE, "--threshold", 0, "--loop", "--max-frames", 1000, "--out", tmp_path)
    with subprocess.Popen(
        command_line("edge_runtime.commands.edge_run", *run), env=environment(), stdout=its_end, stderr=its_end
    ) as process:
        os.close(its_end)
        shown = b""
        while b"alarm start" not in shown:
            shown += os.read(terminal, 65536)
        os.close(terminal)
    assert process.returncode == 0
    summary = results_in(tmp_path).summary
    assert (summary["frames"], summary["ended_by"], summary["lost"]) == (1000, "max frames", {})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="not here: /dev/full")
@pytest.mark.parametrize(("stream", "code"), [("stderr", 0), ("stdout", 1)])
def test_a_full_disk_below_what_is_printed_does_not_end_the_run(stream: str, code: int, one_pool: Path, tmp_path: Path) -> None:
    run = ("--bundle", one_pool, "--source", SCENE, "--threshold", 0, "--csv", "--out", tmp_path)
    with open("/dev/full", "w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full}
        command = command_line("edge_runtime.commands.edge_run", *run)
        finished = subprocess.run(command, env=environment(), text=True, timeout=60, check=False, **streams)
    assert finished.returncode == code
    assert "one_pool: scored " in finished.stdout if stream == "stderr" else "error: stdout: " in finished.stderr
    summary = results_in(tmp_path).summary
    assert (summary["scored"], summary["ended_by"], summary["lost"]) == (66, "end of source", {})
    assert (tmp_path / "scores.csv").exists()


def read_all(terminal: int) -> str:
    """Everything a process writes to its terminal until it ends."""
    parts = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            part = b""
        if not part:
            os.close(terminal)
            return b"".join(parts).decode()
        parts.append(part)


def test_two_runs_of_one_stream_do_not_share_a_memory_unless_one_only_reads(toy: Callable[[str], Bundle], tmp_path: Path) -> None:
    run = ("--bundle", toy("one_pool").path, "--source", scene(40), "--stream", "gate")
    with Running(tmp_path, *run, "--loop") as first:
        first.wait_for_scores()
        with first.paused():
            refused = edge_run(*run, "--state", tmp_path / "state")
            reads = edge_run(*run, "--state", tmp_path / "state", "--update", "off")
            other = edge_run(*run[:-1], "yard", "--state", tmp_path / "state")
        assert first.stop(signal.SIGTERM).code == 130
    assert refused.code == 1 and not missing(error_of(refused), "another process")
    assert (reads.code, other.code) == (0, 0)
    assert edge_run(*run, "--state", tmp_path / "state").code == 0


def test_nothing_of_the_libraries_is_left_at_home_or_sent(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    # ONNX Runtime keeps there what it is going to send, and a number that says which machine this is.
    variables = environment() | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    variables.pop("ORT_DISABLE_TELEMETRY", None)
    arguments = ("--bundle", toy_originals["one_pool"], "--source", "synthetic:?frames=20", "--out", tmp_path / "out")
    command = command_line("edge_runtime.commands.edge_run", *arguments)
    finished = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert (tmp_path / "out" / "summary.json").exists(), finished.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_two_runs_do_not_write_into_one_folder(one_pool: Path, tmp_path: Path) -> None:
    run = ("--bundle", one_pool, "--source", SCENE, "--save-video", "--csv", "--timeline")
    with Running(tmp_path, *run, "--loop") as first:
        first.wait_for_scores()
        with first.paused():
            second = edge_run(*run, "--out", tmp_path / "out")
        assert not missing(error_of(second), f"{tmp_path / 'out'} … another run")
        assert len(second.err.splitlines()) == 1  # before a bundle is loaded, or a camera waited for
        first.wait_for_scores()
        finished = first.stop(signal.SIGINT)
    assert finished.code == 130, finished.err
    assert sorted(os.listdir(tmp_path / "out")) == ["annotated.mp4", "scores.csv", "scores.jsonl", "summary.json", "timeline.png"]
    results = results_in(tmp_path / "out")
    assert results.frames == sorted(set(results.frames)) and len(results.frames) == results.summary["scored"]
    assert edge_run(*run, "--out", tmp_path / "out").code == 0


def test_what_is_refused_leaves_the_results_of_the_run_before(one_pool: Path, tmp_path: Path) -> None:
    run = ("--bundle", one_pool, "--source", SCENE, "--save-video", "--csv", "--timeline", "--out", tmp_path)
    assert edge_run(*run).code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not missing(error_of(edge_run(*run, "--webhook", "foo")), "http:// … https://")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("source", ["annotated.mp4", "."])
def test_a_run_does_not_remove_its_own_source(source: str, one_pool: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "gate.avi", draw(30)).rename(tmp_path / "annotated.mp4")
    before = (tmp_path / "annotated.mp4").read_bytes()
    refused = edge_run("--bundle", one_pool, "--source", tmp_path / source, "--out", tmp_path)
    assert not missing(error_of(refused), "annotated.mp4 … --out")
    assert (tmp_path / "annotated.mp4").read_bytes() == before


@pytest.mark.parametrize("flag", ["--save-video", "--timeline", "--events"])
@pytest.mark.parametrize("source", ["", "gate.avi", "*.png"])
def test_no_picture_comes_to_lie_among_the_footage(flag: str, source: str, one_pool: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    if source == "*.png":
        write_clip(own, draw(6))
    else:
        own.mkdir()
        write_video(own / "gate.avi", draw(6))
    before = sorted(os.listdir(own))
    (tmp_path / "link").symlink_to(own)
    run = ("--bundle", one_pool, "--fps", 10, "--source", own / source)
    there = ("--events", tmp_path / "link") if flag == "--events" else ("--out", tmp_path / "link", flag)
    message = error_of(edge_run(*run, *there))
    assert message.startswith(f"{flag}: ") and not missing(message, f"{tmp_path / 'link'} … {own / source}")
    assert message.endswith(f"Say another {there[0]}.")
    assert sorted(os.listdir(own)) == before


def test_scores_may_lie_beside_the_footage_and_pictures_below_it(one_pool: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "gate.avi", draw(6))
    assert results_of(tmp_path, "--bundle", one_pool, "--source", tmp_path).frames == [4, 5]
    assert results_of(tmp_path / "out", "--bundle", one_pool, "--source", video, "--save-video").frames == [4, 5]
    assert (tmp_path / "out" / "annotated.mp4").exists()


@pytest.mark.parametrize("fps", ["1e-300", "1e300"])
def test_a_rate_that_no_video_has_is_refused(fps: str, one_pool: Path, tmp_path: Path) -> None:
    message = error_of(edge_run("--bundle", one_pool, "--source", SCENE, "--fps", fps, "--out", tmp_path / "out", "--save-video"))
    assert message.startswith("fps: ") and not missing(message, "0.001 to 1000")
