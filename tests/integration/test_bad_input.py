"""Bad input through the commands: one line that says what, expected, got and what to do; nothing half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edge_runtime.bundle import Bundle
from tests.kit.commands import ROOT, Finished, edge_report, edge_run, error_of, results_in, run_module
from tests.kit.drawn_footage import draw, scene, write_clip, write_video
from tests.kit.timed_video import every, write_timed_video
from tests.kit.wording import missing

pytestmark = pytest.mark.commands

FRAMES = 12
UNSCORED = 4

Toy = Callable[[str], Bundle]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return draw(FRAMES)


def run_on(bundle: Path, folder: Path, *arguments: object) -> Finished:
    """Run `edge-run` into `folder/out`."""
    return edge_run("--bundle", bundle, "--fps", 10, "--out", folder / "out", *arguments)


def assert_says(finished: Finished, *parts: str) -> None:
    """It failed with one line that names all this, and that says what was expected."""
    assert not missing(error_of(finished), "expected", *parts)


# source


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("nowhere", "nowhere … there"),
        ("nowhere/*.png", "nowhere/*.png … wildcard"),
        ("", "empty name … variable"),
        ("empty", "empty … DIR/<clip>/<frame>.jpg"),
        ("empty/words.txt", "words.txt … .txt"),
        ("words.avi", "words.avi … a video"),
        ("camera:front", "camera:front … 'front'"),
        ("camera:99999999999999999999", "camera:99999999999999999999 … ls /dev/video*"),
        ("synthetic:?sed=3", "'sed' … seed, frames"),
    ],
)
def test_a_source_that_is_none(source: str, parts: str, toy_originals: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "words.txt").write_text("no frame")
    (tmp_path / "words.avi").write_text("no video")
    finished = edge_run("--bundle", toy_originals["one_pool"], "--source", source, "--fps", 10, "--out", "out", cwd=tmp_path)
    assert not missing(error_of(finished), parts)
    assert not (tmp_path / "out").exists()


def test_there_is_no_camera_of_that_number(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    finished = run_on(toy_originals["one_pool"], tmp_path, "--camera", 99)
    assert_says(finished, "camera:99 … ls /dev/video*")
    assert not (tmp_path / "out").exists()


def assert_ended_at(finished: Finished, out: Path, frame: int) -> None:
    """The run failed at a frame; what came before it is there, whole."""
    message = error_of(finished)
    assert sorted(os.listdir(out)) == ["annotated.mp4", "scores.jsonl", "summary.json"]
    results = results_in(out)
    assert results.frames == list(range(UNSCORED, frame))
    assert (results.summary["frames"], results.summary["ended_by"]) == (frame, f"error: {message}")


def test_an_unreadable_frame_in_a_folder(toy_originals: dict[str, Path], images: list[np.ndarray], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "gate", images)
    (clip / "7.png").write_bytes((clip / "7.png").read_bytes()[:20])
    finished = run_on(toy_originals["one_pool"], tmp_path, "--source", clip, "--save-video")
    assert_says(finished, f"{clip / '7.png'} … decode")
    assert_ended_at(finished, tmp_path / "out", frame=7)


def test_an_unreadable_first_frame(toy_originals: dict[str, Path], images: list[np.ndarray], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "gate", images)
    (clip / "0.png").write_bytes(b"")
    finished = run_on(toy_originals["one_pool"], tmp_path, "--source", clip, "--save-video")
    assert_says(finished, f"{clip / '0.png'} … decode")
    assert results_in(tmp_path / "out").lines == []
    assert not (tmp_path / "out" / "annotated.mp4").exists()


def test_a_size_that_changes_within_a_clip(toy_originals: dict[str, Path], images: list[np.ndarray], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "gate", [*images[:8], *draw(4, width=80)])
    finished = run_on(toy_originals["one_pool"], tmp_path, "--source", clip, "--save-video")
    assert_says(finished, f"{clip / '8.png'} … 64x48 pixels … 80x48")
    assert_ended_at(finished, tmp_path / "out", frame=8)


def test_clips_of_different_sizes_are_no_error(toy_originals: dict[str, Path], images: list[np.ndarray], tmp_path: Path) -> None:
    write_clip(tmp_path / "gate" / "1", images[:6])
    write_clip(tmp_path / "gate" / "2", draw(6, width=80))
    finished = run_on(toy_originals["one_pool"], tmp_path, "--source", tmp_path / "gate")
    assert finished.code == 0, finished.err
    assert results_in(tmp_path / "out").frames == [4, 5, 10, 11]


def test_a_video_that_ends_early_is_scored_up_to_there(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    video = write_video(tmp_path / "gate.avi", draw(30))
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 6 // 10])
    finished = run_on(toy_originals["one_pool"], tmp_path, "--source", video, "--save-video")
    assert finished.code == 0, finished.err
    results = results_in(tmp_path / "out")
    read = results.summary["frames"]
    assert 10 < read < 25
    assert results.frames == list(range(UNSCORED, read))
    assert any(line.startswith(f"{video}: ") and not missing(line, f"{read} of 30") for line in finished.err.splitlines())
    assert sorted(os.listdir(tmp_path / "out")) == ["annotated.mp4", "scores.jsonl", "summary.json"]


def test_footage_shorter_than_a_window_has_no_scores(toy_originals: dict[str, Path], images: list[np.ndarray], tmp_path: Path) -> None:
    video = write_video(tmp_path / "gate.avi", images[:1])
    finished = run_on(toy_originals["one_pool"], tmp_path, "--source", video, "--save-video", "--timeline")
    assert finished.code == 0, finished.err
    results = results_in(tmp_path / "out")
    assert results.lines == []
    assert (results.summary["scored"], results.summary["latency_ms"]) == (0, None)


# flags


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--fps", "inf"), "fps … inf"),
        (("--threshold", "nan"), "threshold … nan"),
        (("--threads", 0), "threads … 1 to 256 … 0"),
        (("--threads", 100_000), "threads … 1 to 256 … 100000"),
        (("--max-frames", "0"), "--max-frames … 1 … 0"),
        (("--precision", "int8"), "one_pool … 'int8' … fp32"),
    ],
)
def test_a_flag_that_cannot_be(arguments: tuple[str, ...], parts: str, toy_originals: dict[str, Path], tmp_path: Path) -> None:
    assert_says(run_on(toy_originals["one_pool"], tmp_path, "--source", scene(FRAMES), *arguments), parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", [scene(5), "rtsp://127.0.0.1:1/stream"])
def test_no_rate_at_all_is_not_taken_for_the_bundles(source: str, toy_originals: dict[str, Path]) -> None:
    finished = edge_run("--bundle", toy_originals["one_pool"], "--source", source, "--fps", 0)
    assert_says(finished, "fps … 0.001 to 1000 … 0")


def test_an_empty_address_in_the_environment_is_none(toy_originals: dict[str, Path]) -> None:
    finished = edge_run("--bundle", toy_originals["one_pool"], variables={"EDGE_SOURCE": ""})
    assert_says(finished, "--camera … --source … $EDGE_SOURCE")


def test_an_empty_source_is_an_empty_variable(toy_originals: dict[str, Path]) -> None:
    finished = edge_run("--bundle", toy_originals["one_pool"], "--source", "", variables={"EDGE_SOURCE": scene(5)})
    assert_says(finished, "empty name … variable")


def test_an_unknown_precision_is_a_wrong_use(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    finished = run_on(toy_originals["one_pool"], tmp_path, "--source", scene(FRAMES), "--precision", "fp64")
    assert finished.code == 2
    assert "fp32" in finished.err and "'fp64'" in finished.err and "Traceback" not in finished.err


def test_a_camera_does_not_loop(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    message = error_of(run_on(toy_originals["one_pool"], tmp_path, "--camera", 0, "--loop"))
    assert not missing(message, "camera:0 … --loop")


@pytest.mark.parametrize(("flag", "below"), [("--out", ""), ("--out", "deeper"), ("--state", "")])
def test_a_file_where_a_folder_should_be(flag: str, below: str, toy_originals: dict[str, Path], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    arguments = ("--bundle", toy_originals["one_pool"], "--source", scene(FRAMES), flag, taken / below)
    assert_says(edge_run(*arguments), f"{taken / below} … folder")
    assert taken.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_nobody_may_write_in(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    assert_says(run_on(toy_originals["one_pool"], tmp_path, "--source", scene(FRAMES)), "'Permission denied'")
    assert os.listdir(tmp_path / "out") == []


# bundle


def change_manifest(bundle: Bundle, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle.path / "manifest.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def hash_again(bundle: Bundle, file: str) -> None:
    """Let the manifest agree with a changed file, as if the bundle had been made that way."""
    digest = hashlib.sha256((bundle.path / file).read_bytes()).hexdigest()

    def change(values: dict[str, Any]) -> None:
        graphs = values["precisions"]["fp32"]
        for entry in (values["memory"], graphs["encoder"], graphs["decoder"]):
            if entry["file"] == file:
                entry["sha256"] = digest

    change_manifest(bundle, change)


def from_a_newer_release(bundle: Bundle) -> None:
    change_manifest(bundle, lambda values: values.update(schema=values["schema"] + 1))


def without_its_gate(bundle: Bundle) -> None:
    change_manifest(bundle, lambda values: values.pop("gate"))


def with_text_for_a_number(bundle: Bundle) -> None:
    change_manifest(bundle, lambda values: values.update(fps="ten"))


def with_half_a_manifest(bundle: Bundle) -> None:
    content = (bundle.path / "manifest.json").read_bytes()
    (bundle.path / "manifest.json").write_bytes(content[: len(content) // 2])


def without_a_manifest(bundle: Bundle) -> None:
    (bundle.path / "manifest.json").unlink()


def with_a_changed_byte(bundle: Bundle) -> None:
    content = bytearray((bundle.path / "decoder.fp32.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle.path / "decoder.fp32.onnx").write_bytes(content)


def with_a_path_that_leaves(bundle: Bundle) -> None:
    shutil.copy(bundle.path / "memory.safetensors", bundle.path.parent)
    change_manifest(bundle, lambda values: values["memory"].update(file="../memory.safetensors"))


def with_a_link_that_leaves(bundle: Bundle) -> None:
    file = bundle.path / "encoder.fp32.onnx"
    file.rename(bundle.path.parent / "elsewhere.onnx")
    file.symlink_to(bundle.path.parent / "elsewhere.onnx")


def without_a_graph(bundle: Bundle) -> None:
    (bundle.path / "encoder.fp32.onnx").unlink()


def truncated(bundle: Bundle) -> None:
    content = (bundle.path / "encoder.fp32.onnx").read_bytes()
    (bundle.path / "encoder.fp32.onnx").write_bytes(content[: len(content) // 2])


def truncated_when_it_was_made(bundle: Bundle) -> None:
    truncated(bundle)
    hash_again(bundle, "encoder.fp32.onnx")


def with_its_graphs_swapped(bundle: Bundle) -> None:
    for one, other in (("encoder", "decoder"), ("decoder", "encoder")):
        shutil.copy(bundle.path / f"{one}.fp32.onnx", bundle.path / f"{other}.tmp")
    for part in ("encoder", "decoder"):
        (bundle.path / f"{part}.tmp").rename(bundle.path / f"{part}.fp32.onnx")
        hash_again(bundle, f"{part}.fp32.onnx")


def change_items(bundle: Bundle, change: Callable[[np.ndarray], np.ndarray]) -> None:
    path = bundle.path / "memory.safetensors"
    save_file({"memory": np.ascontiguousarray(change(load_file(path)["memory"]))}, path)
    hash_again(bundle, path.name)


def with_nans_in_its_memory(bundle: Bundle) -> None:
    change_items(bundle, lambda items: np.where(np.arange(len(items))[:, None] == 1, np.float32("nan"), items))


def with_a_memory_of_another_width(bundle: Bundle) -> None:
    change_items(bundle, lambda items: items[:, :7])


def with_half_a_memory(bundle: Bundle) -> None:
    content = (bundle.path / "memory.safetensors").read_bytes()
    (bundle.path / "memory.safetensors").write_bytes(content[: len(content) // 2])
    hash_again(bundle, "memory.safetensors")


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (from_a_newer_release, "manifest.json … schema 1 … 2 … edge-runtime"),
        (without_its_gate, "manifest.json … `gate`"),
        (with_text_for_a_number, "manifest.json … `str` … $.fps"),
        (with_half_a_manifest, "manifest.json … JSON"),
        (without_a_manifest, "manifest.json … 'No such file or directory' … make bundle"),
        (with_a_changed_byte, "decoder.fp32.onnx … SHA-256"),
        (with_a_path_that_leaves, "memory.file … '../memory.safetensors'"),
        (with_a_link_that_leaves, "encoder.fp32.onnx … leads outside … the link"),
        (without_a_graph, "encoder.fp32.onnx … 'No such file or directory'"),
        (truncated, "encoder.fp32.onnx … SHA-256"),
        (truncated_when_it_was_made, "encoder.fp32.onnx … ONNX Runtime says"),
        (with_its_graphs_swapped, "encoder.fp32.onnx … inputs … 'clip' … graph has"),
        (with_nans_in_its_memory, "memory.safetensors, pool 'memory' … NaN"),
        (with_a_memory_of_another_width, "pool 'memory' … (M, 16) float32 … (3, 7)"),
        (with_half_a_memory, "memory.safetensors … safetensors of float32"),
    ],
    ids=lambda value: getattr(value, "__name__", "says"),
)
def test_a_bundle(spoil: Callable[[Bundle], None], parts: str, toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    spoil(bundle)
    finished = run_on(bundle.path, tmp_path, "--source", scene(FRAMES), "--save-video")
    assert_says(finished, str(bundle.path), parts)
    assert not (tmp_path / "out").exists()


# state


@pytest.fixture
def saved(toy: Toy, tmp_path: Path) -> tuple[Bundle, Path]:
    """A bundle and the state that a run with it left."""
    bundle = toy("one_pool")
    finished = edge_run("--bundle", bundle.path, "--source", scene(FRAMES), "--state", tmp_path / "state")
    assert finished.code == 0, finished.err
    return bundle, tmp_path / "state" / "synthetic.safetensors"


def test_a_state_of_another_bundle(saved: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, state = saved
    before = state.read_bytes()
    change_manifest(bundle, lambda values: values.update(name="calibrated anew"))
    finished = run_on(bundle.path, tmp_path, "--source", scene(FRAMES), "--state", state.parent)
    identity = Bundle.load(bundle.path).identity[:12]
    assert_says(finished, f"{state} … {identity} … {bundle.identity[:12]}")
    assert state.read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0, 0.9])
def test_a_broken_state(share: float, saved: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, state = saved
    before = state.read_bytes()[: int(share * state.stat().st_size)]
    state.write_bytes(before)
    finished = run_on(bundle.path, tmp_path, "--source", scene(FRAMES), "--state", state.parent)
    assert_says(finished, f"{state} … read it")
    assert state.read_bytes() == before
    assert not (tmp_path / "out").exists()


# labels


@pytest.fixture(scope="module")
def two_clips(images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    for clip in ("a", "b"):
        write_clip(folder / clip, images)
    return folder


def rows(clip: str, count: int) -> list[str]:
    return [f"{clip},{frame},{frame % 2}" for frame in range(count)]


HEADER = ["clip,frame,anomalous"]


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (HEADER + rows("a", 12), "a, b … missing: b"),
        (HEADER + rows("a", 12) + rows("b", 8), "b … 12 frames … 8 labels"),
        (HEADER + rows("a", 14) + rows("b", 12), "a … 12 frames … 14 labels"),
        (rows("a", 12) + rows("b", 12), "labels.csv, line 1 … 'a,0,0'"),
        ([*HEADER, "a,0,yes"], "labels.csv, line 2 … 'a,0,yes'"),
        (HEADER + [row[:-1] + "0" for row in rows("a", 12) + rows("b", 12)], "0 anomalous … 24 normal"),
        (None, "labels.csv … CSV … masks"),
    ],
)
def test_labels_that_do_not_match(
    lines: list[str] | None, parts: str, two_clips: Path, toy_originals: dict[str, Path], tmp_path: Path
) -> None:
    if lines is not None:
        (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    arguments = ("--bundle", toy_originals["one_pool"], "--data", two_clips, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "out")
    assert_says(edge_report("accuracy", *arguments), parts)
    assert not (tmp_path / "out").exists()


def test_events_need_a_source_that_knows_its_truth(toy_originals: dict[str, Path], images: list[np.ndarray], tmp_path: Path) -> None:
    video = write_video(tmp_path / "gate.avi", images)
    finished = edge_report("events", "--bundle", toy_originals["one_pool"], "--source", video, "--out", tmp_path / "out")
    assert_says(finished, "gate … edge-report accuracy")
    assert not (tmp_path / "out").exists()


def test_clips_of_one_name_are_not_taken_for_one(toy_originals: dict[str, Path], images: list[np.ndarray], tmp_path: Path) -> None:
    write_clip(tmp_path / "data" / "a", images)
    write_video(tmp_path / "data" / "a.avi", images)
    (tmp_path / "labels.csv").write_text("\n".join(HEADER + rows("a", 12)))
    data = ("--data", tmp_path / "data", "--labels", tmp_path / "labels.csv")
    finished = edge_report("accuracy", "--bundle", toy_originals["one_pool"], *data, "--out", tmp_path / "out")
    assert_says(finished, "different names … a")


# training and calibration


def test_training_clips_shorter_than_a_window(images: list[np.ndarray], tmp_path: Path) -> None:
    for clip in ("a", "b", "c"):
        write_clip(tmp_path / "data" / clip, images[:4])
    config = ROOT / "configs" / "mnad_prediction-lite.toml"
    finished = run_module("train", "--config", config, "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert_says(finished, "7 frames … 4")
    left = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.suffix for path in left} <= {".u8", ".json"} and not any(path.name.startswith(".") for path in left)


def test_calibration_clips_shorter_than_a_window(toy: Toy, images: list[np.ndarray], tmp_path: Path) -> None:
    bundle = toy("one_pool")
    write_clip(tmp_path / "data" / "a", images[:4])
    before = (bundle.path / "manifest.json").read_bytes()
    finished = run_module("calibration", "--bundle", bundle.path, "--data", tmp_path / "data")
    assert_says(finished, "the window … clips")
    assert (bundle.path / "manifest.json").read_bytes() == before


# footage that is not what it seems


def test_a_pause_in_a_video_is_a_gap_in_its_scores(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    video = write_timed_video(tmp_path / "gate.mp4", draw(40), every(0.1, 20) + every(0.1, 20, start_s=65.0))
    finished = edge_run("--bundle", toy_originals["one_pool"], "--source", video, "--out", tmp_path / "out")
    assert finished.code == 0, finished.err
    results = results_in(tmp_path / "out")
    assert results.frames == [*range(UNSCORED, 20), *range(20 + UNSCORED, 40)]
    assert results.column("time_s") == pytest.approx(every(0.1, 16, start_s=0.4) + every(0.1, 16, start_s=65.4))
    [gap] = [event for event in results.events if event["event"] == "gap"]
    assert (gap["frame"], gap["time_s"], gap["reason"]) == (20, pytest.approx(65.0), "no frame for 63.1 s")
    [said] = [line for line in finished.err.splitlines() if line.startswith(f"{video}: ")]
    assert not missing(said, "63.1 s … frame 20")
    assert "calibrated" not in finished.err


def test_a_picture_beside_videos_does_not_hide_them(toy_originals: dict[str, Path], images: list[np.ndarray], tmp_path: Path) -> None:
    write_clip(tmp_path / "gate", images[:1])
    for name in ("a.avi", "b.avi"):
        write_video(tmp_path / "gate" / name, images)
    finished = run_on(toy_originals["one_pool"], tmp_path, "--source", tmp_path / "gate")
    assert_says(finished, f"{tmp_path / 'gate'} … 0.png … a.avi")
    assert not (tmp_path / "out").exists()


def test_a_picture_beside_clips_does_not_become_the_training(images: list[np.ndarray], tmp_path: Path) -> None:
    for clip in ("a", "b", "c"):
        write_clip(tmp_path / "data" / clip, images)
    shutil.copy(tmp_path / "data" / "a" / "0.png", tmp_path / "data" / "preview.png")
    config = ROOT / "configs" / "mnad_prediction-lite.toml"
    finished = run_module("train", "--config", config, "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert_says(finished, "preview.png … images a")


def test_masks_with_a_hole_and_one_too_many_are_not_shifted(
    two_clips: Path, toy_originals: dict[str, Path], images: list[np.ndarray], tmp_path: Path
) -> None:
    for clip in ("a", "b"):
        write_clip(tmp_path / "masks" / clip, [*images, images[0]])
    (tmp_path / "masks" / "a" / "12.png").unlink()
    (tmp_path / "masks" / "b" / "6.png").unlink()
    data = ("--data", two_clips, "--labels", tmp_path / "masks")
    finished = edge_report("accuracy", "--bundle", toy_originals["one_pool"], *data, "--out", tmp_path / "out")
    assert_says(finished, f"{tmp_path / 'masks' / 'b'} … 7.png … 5.png … 6.png")
    assert not (tmp_path / "out").exists()


def test_a_time_of_day_is_a_name_and_no_protocol(toy_originals: dict[str, Path], images: list[np.ndarray], tmp_path: Path) -> None:
    write_timed_video(tmp_path / "12:30:05.mp4", images, every(0.1, FRAMES))
    arguments = ("--source", "12:30:05.mp4", "--out", "out", "--save-video")
    finished = edge_run("--bundle", toy_originals["one_pool"], *arguments, cwd=tmp_path)
    assert finished.code == 0, finished.err
    assert results_in(tmp_path / "out").frames == list(range(UNSCORED, FRAMES))
