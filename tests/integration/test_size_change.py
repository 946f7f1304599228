"""A video whose pictures change their size, through the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.commands import edge_run, results_in, run_module
from tests.kit.resized_video import Part, write_resized
from tests.kit.timed_video import every
from tests.kit.wording import missing

UNSCORED = 4  # frames at the beginning of a stretch


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_resized(tmp_path / "gate.mp4", [Part(64, 48, grey=60), Part(96, 48, grey=160)], codec="libx264")


def test_no_score_reaches_over_it(video: Path, toy_originals: dict[str, Path], tmp_path: Path) -> None:
    finished = edge_run("--bundle", toy_originals["one_pool"], "--source", video, "--out", tmp_path / "out")
    assert finished.code == 0, finished.err
    results = results_in(tmp_path / "out")
    assert results.frames == [*range(UNSCORED, 20), *range(20 + UNSCORED, 40)]
    assert results.column("time_s") == pytest.approx([*every(0.1, 16, start_s=0.4), *every(0.1, 16, start_s=2.4)])
    [gap] = [event for event in results.events if event["event"] == "gap"]
    assert (gap["frame"], gap["time_s"], gap["reason"]) == (20, pytest.approx(2.0), "size changed to 96x48")
    [said] = [line for line in finished.err.splitlines() if line.startswith(f"{video}: ")]
    assert not missing(said, "96x48 … 64x48 … frame 20 … 2.0 s")


def test_it_is_recorded_as_two_clips(tmp_path: Path) -> None:
    parts = [Part(64, 48, grey=60, frames=60), Part(96, 48, grey=160, frames=60)]
    video = write_resized(tmp_path / "gate.mp4", parts, codec="libx264")
    finished = run_module("edge_runtime.commands.edge_record", "--source", video, "--out", tmp_path / "clips")
    assert finished.code == 0, finished.err
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 2
