"""`edge-report` on footage made here, with a bundle of random weights."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.locks import locked_folder
from edge_runtime.sources import open_source
from tests.kit.commands import Finished, edge_report, error_of
from tests.kit.drawn_footage import draw, scene, write_clip, write_video
from tests.kit.wording import missing

pytestmark = pytest.mark.commands

FRAMES = 70
UNSCORED = 4
SEEDS = {"9": 1, "10": 2}


@dataclass(frozen=True)
class LabelledSet:
    """Two clips of the scene with their truth.

    Attributes:
        truth: by clip, (FRAMES,) bool.
    """

    data: Path
    csv: Path
    masks: Path
    truth: dict[str, np.ndarray]

    @property
    def scored_truth(self) -> np.ndarray:
        return np.concatenate([truth[UNSCORED:] for truth in self.truth.values()])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    folder = tmp_path_factory.mktemp("labelled")
    truth = {clip: np.array([frame.truth for frame in open_source(scene(FRAMES, seed))], bool) for clip, seed in SEEDS.items()}
    lines = ["clip,frame,anomalous"]
    for clip, seed in SEEDS.items():
        write_clip(folder / "frames" / clip, draw(FRAMES, seed))
        write_clip(folder / "masks" / clip, [np.full((48, 64), 255 * is_anomalous, np.uint8) for is_anomalous in truth[clip]])
        lines += [f"{clip},{frame},{int(is_anomalous)}" for frame, is_anomalous in enumerate(truth[clip])]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return LabelledSet(folder / "frames", folder / "labels.csv", folder / "masks", truth)


@dataclass(frozen=True)
class Report:
    out: str
    err: str
    folder: Path
    accuracy: dict[str, Any]


def report_on(labelled: LabelledSet, bundle: Path, folder: Path, *arguments: object) -> Report:
    finished = edge_report("accuracy", "--bundle", bundle, "--data", labelled.data, "--out", folder, *arguments)
    assert finished.code == 0, finished.err
    return Report(finished.out, finished.err, folder, json.loads((folder / "accuracy.json").read_text()))


@pytest.fixture(scope="module")
def report(labelled: LabelledSet, toy_originals: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report") / "new"
    return report_on(labelled, toy_originals["one_pool"], folder, "--labels", labelled.csv, "--plot")


@pytest.mark.parametrize("mode", ["updating", "frozen"])
def test_accuracy_has_the_structure_of_the_contract(mode: str, report: Report, labelled: LabelledSet) -> None:
    assert set(report.accuracy["memory"]) == {"updating", "frozen"}
    result = report.accuracy["memory"][mode]
    protocols = ["paper", "pooled_psnr", "pooled_local", "causal"]
    assert list(result) == [*protocols, "frames", "anomalous", "updates", "updates_anomalous", "alarms"]
    assert all(0 <= result[name] <= 100 for name in protocols)
    assert max(result[name] for name in protocols) > 2  # percent, not a share
    assert (result["frames"], result["anomalous"]) == (labelled.scored_truth.size, labelled.scored_truth.sum())
    assert result["alarms"]["hits"] + result["alarms"]["missed"] == result["alarms"]["events"]


def test_what_is_learned_is_counted_and_frozen_learns_nothing(report: Report, labelled: LabelledSet) -> None:
    updating, frozen = (report.accuracy["memory"][mode] for mode in ("updating", "frozen"))
    assert (updating["updates"], updating["updates_anomalous"]) == (labelled.scored_truth.size, labelled.scored_truth.sum())
    assert (frozen["updates"], frozen["updates_anomalous"]) == (0, 0)
    assert updating["paper"] != frozen["paper"]


def test_the_report_names_what_it_measured_and_prints_a_table(report: Report) -> None:
    assert (report.accuracy["bundle"], report.accuracy["precision"], report.accuracy["carries_memory"]) == ("one_pool", "fp32", False)
    rows = {line.split()[0]: line.split()[1:5] for line in report.out.splitlines() if line.startswith(("updating ", "frozen "))}
    for mode, result in report.accuracy["memory"].items():
        assert rows[mode] == [f"{result[name]:.2f}" for name in ("paper", "pooled_psnr", "pooled_local", "causal")]


def test_every_clip_is_announced_and_no_label_is_called_unused(report: Report) -> None:
    assert [line for line in report.err.splitlines() if line.startswith("clip ")] == ["clip 9", "clip 10"] * 2
    assert "left out" not in report.err


def test_plot_draws_the_scores(report: Report) -> None:
    pytest.importorskip("matplotlib")
    assert sorted(os.listdir(report.folder)) == ["accuracy.json", "scores.png"]
    picture = cv2.imread(str(report.folder / "scores.png"))
    assert picture.shape[1] == 1200 and picture.std() > 1


def test_masks_label_as_the_csv_does(report: Report, labelled: LabelledSet, toy_originals: dict[str, Path], tmp_path: Path) -> None:
    masked = report_on(labelled, toy_originals["one_pool"], tmp_path / "out", "--labels", labelled.masks)
    assert masked.accuracy == report.accuracy
    assert os.listdir(masked.folder) == ["accuracy.json"]


def test_carried_memory_changes_the_later_clips(
    report: Report, labelled: LabelledSet, toy_originals: dict[str, Path], tmp_path: Path
) -> None:
    carried = report_on(labelled, toy_originals["one_pool"], tmp_path / "out", "--labels", labelled.csv, "--carry-memory")
    assert carried.accuracy["carries_memory"] is True
    assert carried.accuracy["memory"]["frozen"] == report.accuracy["memory"]["frozen"]
    assert carried.accuracy["memory"]["updating"]["paper"] != report.accuracy["memory"]["updating"]["paper"]


def test_videos_are_clips_too_and_further_labels_do_no_harm(labelled: LabelledSet, toy_originals: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "9.avi", draw(FRAMES, SEEDS["9"]))
    arguments = ("--bundle", toy_originals["one_pool"], "--data", tmp_path / "videos", "--labels", labelled.csv, "--out", tmp_path / "out")
    finished = edge_report("accuracy", *arguments)
    assert finished.code == 0, finished.err
    assert json.loads((tmp_path / "out" / "accuracy.json").read_text())["memory"]["frozen"]["frames"] == FRAMES - UNSCORED
    assert not missing(finished.err, "1 clips … 10")


def test_events_are_counted_on_the_scene(toy_originals: dict[str, Path], tmp_path: Path) -> None:
    source = "synthetic:?clips=2&frames=120"
    finished = edge_report("events", "--bundle", toy_originals["one_pool"], "--source", source, "--out", tmp_path)
    assert finished.code == 0, finished.err
    events = json.loads((tmp_path / "events.json").read_text())
    total = events["clips"].pop("total")
    assert (events["bundle"], len(events["clips"])) == ("one_pool", 2)
    for number, (uri, counts) in enumerate(events["clips"].items()):
        truth = [bool(frame.truth) for frame in open_source(uri)]
        assert f"seed={number}" in uri and len(truth) == 120
        began = sum(now and not before for before, now in zip([False, *truth], truth, strict=False))
        assert counts["events"] == began == counts["hits"] + counts["missed"]
    assert total == {name: sum(counts[name] for counts in events["clips"].values()) for name in total}
    assert total["events"] > 0
    assert len(finished.out.splitlines()) >= 3


def assert_refused_before_the_work(finished: Finished, *parts: str) -> None:
    message = error_of(finished)
    assert all(part in message for part in parts), message
    assert finished.err.splitlines() == [f"error: {message}"] and finished.out == ""


@pytest.mark.parametrize("below", ["", "deeper"])
@pytest.mark.parametrize("kind", ["accuracy", "events"])
def test_a_folder_that_cannot_be_is_refused_before_the_work(
    kind: str, below: str, labelled: LabelledSet, toy_originals: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("mine")
    what = {"accuracy": ("--data", labelled.data, "--labels", labelled.csv), "events": ("--source", scene(FRAMES))}
    finished = edge_report(kind, "--bundle", toy_originals["one_pool"], *what[kind], "--out", tmp_path / "taken" / below)
    assert_refused_before_the_work(finished, f"{tmp_path / 'taken' / below}: ", "A file has ", "choose another output folder")
    assert (tmp_path / "taken").read_text() == "mine"


def test_two_reports_do_not_write_into_one_folder(labelled: LabelledSet, toy_originals: dict[str, Path], tmp_path: Path) -> None:
    arguments = ("--bundle", toy_originals["one_pool"], "--data", labelled.data, "--labels", labelled.csv, "--out", tmp_path / "out")
    with locked_folder(tmp_path / "out"):
        finished = edge_report("accuracy", *arguments)
    assert_refused_before_the_work(finished, f"{tmp_path / 'out'}: ", "another run is writing there", "say another folder")


def test_a_table_is_printed_though_its_file_cannot_be_written(
    labelled: LabelledSet, toy_originals: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "accuracy.json").mkdir()
    arguments = ("--bundle", toy_originals["one_pool"], "--data", labelled.data, "--labels", labelled.csv, "--out", tmp_path)
    finished = edge_report("accuracy", *arguments)
    assert not missing(error_of(finished), "accuracy.json")
    assert "updating " in finished.out and "frozen " in finished.out
