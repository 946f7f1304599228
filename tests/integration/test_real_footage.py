"""A shipped bundle on footage of real cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.evaluation import read_labels, roc_auc
from tests.kit.commands import ROOT, Results, edge_run, results_in

pytestmark = pytest.mark.commands

BUNDLE = ROOT / "bundles" / "ped2-lite"
CLIPS = ("02", "04")
UNSCORED = Bundle.load(BUNDLE).manifest.input.span - 1


@pytest.fixture(scope="module")
def scored(ped2: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two test clips of Ped2."""
    folder = tmp_path_factory.mktemp("ped2")
    for clip in CLIPS:
        (folder / "clips" / clip).parent.mkdir(exist_ok=True)
        (folder / "clips" / clip).symlink_to((ped2 / "testing" / "frames" / clip).resolve())
    finished = edge_run("--bundle", BUNDLE, "--source", folder / "clips", "--fps", 10, "--out", folder / "out")
    assert finished.code == 0, finished.err
    return results_in(folder / "out")


@pytest.fixture(scope="module")
def labels(ped2: Path) -> list[np.ndarray]:
    every = read_labels(ped2 / "testing" / "labels.csv")
    return [every[clip] for clip in CLIPS]


@pytest.mark.ped2
def test_every_frame_after_the_window_of_its_clip_is_scored(scored: Results, labels: list[np.ndarray]) -> None:
    first, second = map(len, labels)
    assert scored.frames == [*range(UNSCORED, first), *range(first + UNSCORED, first + second)]
    assert [event["frame"] for event in scored.events if event["event"] == "gap"] == [first]
    assert scored.summary["frames"] == first + second


@pytest.mark.ped2
def test_anomalous_frames_score_higher(scored: Results, labels: list[np.ndarray]) -> None:
    truth = np.concatenate([clip[UNSCORED:] for clip in labels])
    assert roc_auc(np.array(scored.column("score")), truth) > 80


@pytest.mark.ped2
def test_the_memory_learns_normal_frames_and_few_others(scored: Results, labels: list[np.ndarray]) -> None:
    truth = np.concatenate([clip[UNSCORED:] for clip in labels])
    learned = np.array(scored.column("memory_updated"))
    assert scored.summary["updates"] == learned.sum()
    assert learned[~truth].mean() > learned[truth].mean()


@pytest.mark.footage
def test_a_video_of_another_camera_is_scored_to_the_frame_asked_for(footage: Path, tmp_path: Path) -> None:
    finished = edge_run("--bundle", BUNDLE, "--source", footage / "vtest.avi", "--max-frames", 40, "--out", tmp_path, "--save-video")
    assert finished.code == 0, finished.err
    assert "warning" not in finished.err  # its 10 frames per second are those of the bundle
    results = results_in(tmp_path)
    assert results.frames == list(range(UNSCORED, 40))
    assert results.column("time_s") == pytest.approx([frame / 10 for frame in results.frames])
    assert set(results.column("stream")) == {"vtest.avi"}
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "annotated.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.width, stream.average_rate) == (768, 10)
        assert sum(1 for _ in container.decode(video=0)) == 40
