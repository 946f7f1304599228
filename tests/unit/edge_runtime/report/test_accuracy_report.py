from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation import EventCounts
from edge_runtime.report.accuracy import count_events, measure_accuracy
from edge_runtime.score import Score
from tests.kit.drawn_footage import draw, write_clip
from tests.kit.timed_video import every, write_timed_video
from tests.kit.wording import missing, raises


def test_a_memory_that_freezes_in_one_clip_learns_in_the_next(toy: Callable[[str], Bundle], tmp_path: Path) -> None:
    bundle = toy("one_pool")
    eager = replace(bundle, manifest=replace(bundle.manifest, update=replace(bundle.manifest.update, drift_limit=0.01)))
    rows = ["clip,frame,anomalous"]
    for clip in ("a", "b"):
        write_clip(tmp_path / "clips" / clip, draw(12))
        rows += [f"{clip},{i},{int(i > 8)}" for i in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    report = measure_accuracy(eager, str(tmp_path / "clips"), str(tmp_path / "labels.csv"))
    learned = {clip: sum(score.memory_updated for score in scores) for clip, scores in report.memory["updating"].scores.items()}
    assert 0 < learned["a"] < 8
    assert learned["b"] == learned["a"]


def with_threshold(bundle: Bundle, score: float) -> Bundle:
    fp32 = bundle.precision("fp32")
    precisions = {"fp32": replace(fp32, threshold=replace(fp32.threshold, score=score))}
    return replace(bundle, manifest=replace(bundle.manifest, precisions=precisions))


def write_labels(path: Path, clips: Mapping[str, tuple[int, Collection[int]]]) -> str:
    """By clip: how many frames, and which of them are anomalous."""
    rows = [f"{clip},{i},{int(i in anomalous)}" for clip, (count, anomalous) in clips.items() for i in range(count)]
    path.write_text("\n".join(["clip,frame,anomalous", *rows]))
    return str(path)


def test_labels_belong_to_their_frames_also_after_a_pause_of_the_recorder(toy: Callable[[str], Bundle], tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    write_timed_video(tmp_path / "clips" / "gate.mp4", draw(36), every(0.1, 12) + every(0.1, 12, start_s=20) + every(0.1, 12, start_s=40))
    labels = write_labels(tmp_path / "labels.csv", {"gate": (36, range(24, 32))})  # four of them fill the window again
    report = measure_accuracy(with_threshold(toy("one_pool"), 0.0), str(tmp_path / "clips"), labels)  # every frame raises an alarm
    updating = report.memory["updating"]
    assert [score.frame for score in updating.scores["gate"]] == [*range(4, 12), *range(16, 24), *range(28, 36)]
    result = updating.result
    assert (result.frames, result.anomalous, result.updates, result.updates_anomalous) == (24, 4, 24, 4)
    assert updating.alarms == EventCounts(events=1, hits=1, missed=0, false_alarms=2)  # one alarm in each stretch


def test_a_gap_ends_an_alarm_but_not_an_anomaly() -> None:
    runs = [[_score(i, truth=i > 1) for i in range(4)], [_score(i, truth=i < 12) for i in range(10, 14)]]
    assert count_events({"gate": runs}, 3.0, hold_s=2.0) == {"gate": EventCounts(events=1, hits=1, missed=0, false_alarms=0)}
    runs = [[_score(i, truth=False) for i in range(4)], [_score(i, truth=False) for i in range(10, 14)]]
    assert count_events({"gate": runs}, 3.0, hold_s=20.0)["gate"].false_alarms == 2


def test_clips_shorter_than_a_window_are_left_out(toy: Callable[[str], Bundle], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle = toy("one_pool")
    write_clip(tmp_path / "clips" / "a", draw(4))
    labels = write_labels(tmp_path / "labels.csv", {"a": (4, range(2)), "b": (12, range(9, 12))})
    with raises(ConfigError, "scored clips"):
        measure_accuracy(bundle, str(tmp_path / "clips"), labels)
    assert not missing(caplog.text, "1 clips … b")
    write_clip(tmp_path / "clips" / "b", draw(12))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        report = measure_accuracy(bundle, str(tmp_path / "clips"), labels)
    for mode in report.memory.values():
        assert list(mode.scores) == ["b"]
        assert (mode.result.frames, mode.result.anomalous, mode.alarms.events) == (8, 3, 1)
    [said] = [message for message in caplog.messages if "left out" in message]
    assert not missing(said, "1 of 2 clips … 5 frames … a")


def _score(frame: int, *, truth: bool) -> Score:
    """Above a threshold of 3."""
    return Score("gate", frame, float(frame), 0.0, 5.0, 3.0, True, 30.0, 0.1, 0.1, 0.1, False, truth=truth)
