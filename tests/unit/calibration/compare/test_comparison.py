from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.clips import find_clips
from calibration.compare.comparison import BOXES, CompareSettings, Comparison, Lead, _from_others, _judge, compare
from calibration.compare.gliders import CutOut
from calibration.replays import without_aftermath
from edge_runtime import Bundle, open_source
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation.scoring import Runs
from edge_runtime.score import Latency, Score
from tests.kit.commands import ROOT, error_of, run_module
from tests.kit.scores import make_score
from tests.kit.timed_video import every, write_timed_video
from tests.kit.wording import missing, raises

pytestmark = pytest.mark.slow

BUNDLE = ROOT / "bundles" / "synthetic-lite"
NORMAL = "synthetic:?clips=2&seed=70&frames=96&anomalies=off"
KINDS = {"gliders 1.3-1.8x", "gliders 1.8-2.5x", "gliders 2.5-4x", BOXES}


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Bundle.load(BUNDLE)


@pytest.fixture
def quick(toy: Callable[[str], Bundle]) -> Bundle:
    """Random weights, for what does not hang on what a model has learned."""
    bundle = toy("one_pool")
    return replace(bundle, manifest=replace(bundle.manifest, fps=15.0))


@pytest.fixture(scope="module")
def compared(shipped: Bundle) -> Comparison:
    """The shipped bundle beside one that is it but for a threshold out of reach and `paper`, which ranks by the query distance alone."""
    precision = shipped.manifest.precisions["fp32"]
    deaf = replace(precision, threshold=replace(precision.threshold, score=1000.0))
    other = replace(shipped, manifest=replace(shipped.manifest, precisions={"fp32": deaf}, paper_weight=0.0))
    return compare({"shipped": shipped, "other": other}, find_clips(NORMAL), CompareSettings(rounds=1))


def test_footage_is_counted_once(compared: Comparison) -> None:
    assert (compared.footage_s, compared.replays) == (pytest.approx(192 / 15), 1)


def test_a_trained_model_tells_what_glides_and_what_runs(compared: Comparison) -> None:
    assert compared.kinds["shipped"].keys() == KINDS
    for kind, result in compared.kinds["shipped"].items():
        assert result.paper > 70 and result.causal > 70, kind
        assert 2 <= result.events <= 4 and result.hits <= result.events, kind
    assert sum(result.hits for result in compared.kinds["shipped"].values()) >= 3


def test_every_bundle_sees_the_same_replays_and_raises_alarms_at_its_own_threshold(compared: Comparison) -> None:
    for kind, result in compared.kinds["other"].items():
        assert (result.hits, result.false_alarms) == (0, 0)
        assert (result.causal, result.events) == (compared.kinds["shipped"][kind].causal, compared.kinds["shipped"][kind].events)


def test_the_same_scores_have_no_lead_and_no_error(compared: Comparison) -> None:
    for result in compared.kinds["other"].values():
        assert result.causal_lead == Lead(0.0, 0.0)


def test_a_lead_is_the_difference_and_its_error_comes_from_the_replays(compared: Comparison) -> None:
    for kind, result in compared.kinds["other"].items():
        assert result.paper_lead.auc == pytest.approx(result.paper - compared.kinds["shipped"][kind].paper)
        assert 0 < result.paper_lead.error < 30


def test_replays_hang_on_seed_and_seconds(quick: Bundle) -> None:
    def compared(seed: int) -> Comparison:
        return compare({"quick": quick}, find_clips(NORMAL)[:1], CompareSettings(rounds=1, seed=seed, clip_s=6.0))

    first = compared(seed=1)
    assert first.footage_s == 6.0
    assert first.kinds == compared(seed=1).kinds
    assert first.kinds != compared(seed=2).kinds


def write_clip(folder: Path, images: Iterable[np.ndarray]) -> None:
    folder.mkdir()
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"{i:03d}.png"), image)


def still(height: int = 240, width: int = 360) -> list[np.ndarray]:
    return [np.full((height, width, 3), 99, np.uint8)] * 100


def lively() -> Iterator[np.ndarray]:
    return (frame.image for frame in open_source("synthetic:?seed=70&frames=100&anomalies=off&width=360&height=240"))


def test_footage_in_which_nothing_moves_is_refused(shipped: Bundle, tmp_path: Path) -> None:
    write_clip(tmp_path / "still", still())
    with raises(ConfigError, "moves"):
        compare({"shipped": shipped}, find_clips(str(tmp_path)), CompareSettings(rounds=1))


def test_a_camera_that_is_quiet_most_of_the_time_is_not(quick: Bundle, tmp_path: Path) -> None:
    write_clip(tmp_path / "1", still())
    write_clip(tmp_path / "2", lively())
    compared = compare({"quick": quick}, find_clips(str(tmp_path)), CompareSettings(rounds=1))
    assert compared.kinds["quick"].keys() == KINDS


def test_footage_of_two_sizes_is_refused(shipped: Bundle, tmp_path: Path) -> None:
    write_clip(tmp_path / "1", lively())
    write_clip(tmp_path / "2", still(height=120, width=160))
    with raises(ConfigError, "one size … 2"):
        compare({"shipped": shipped}, find_clips(str(tmp_path)), CompareSettings(rounds=1))


def test_footage_at_another_rate_is_refused(shipped: Bundle) -> None:
    slow = replace(shipped, manifest=replace(shipped.manifest, fps=10.0))
    with raises(ConfigError, "10 … 15"):
        compare({"slow": slow}, find_clips(NORMAL), CompareSettings())


def test_what_glides_was_cut_out_of_another_clip() -> None:
    one, other = (CutOut(np.zeros((1, 1, 3)), np.zeros((1, 1)), 0, left) for left in (1, 2))
    assert _from_others([[one], [other]], 0) == [other]
    assert _from_others([[one], []], 0) == [one]


def test_the_second_after_a_pseudo_anomaly_is_left_out() -> None:
    truth = [False] * 10 + [True] * 5 + [False] * 30 + [True] * 3 + [False] * 4
    scores = [score_at(i / 10, is_anomalous) for i, is_anomalous in enumerate(truth)]
    assert [round(10 * score.time_s) for score in without_aftermath(scores)] == [*range(15), *range(25, 48)]


def score_at(time_s: float, truth: bool) -> Score:
    latency = Latency(*[0.0] * len(fields(Latency)))
    return make_score(round(10 * time_s), time_s=time_s, latency_ms=latency, truth=truth)


def test_clips_too_short_for_a_pseudo_anomaly_are_refused(shipped: Bundle) -> None:
    with raises(ConfigError, "6 s"):
        compare({"shipped": shipped}, find_clips(NORMAL.replace("96", "25")), CompareSettings(rounds=1))


def test_a_short_clip_among_others_is_left_out(quick: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    clips = find_clips(NORMAL)
    without = compare({"quick": quick}, clips, CompareSettings(rounds=1))
    short = [replace(clip, stop=89) for clip in find_clips(NORMAL.replace("seed=70", "seed=90"))]  # a frame less than 6 s
    with caplog.at_level(logging.WARNING):
        assert compare({"quick": quick}, [*clips, *short], CompareSettings(rounds=1)).kinds == without.kinds
    assert any(not missing(said, "2 of 4 … 6 s … pause … synthetic-00") for said in caplog.messages)


def test_a_clip_without_room_between_its_pauses_is_left_out(shipped: Bundle, tmp_path: Path) -> None:
    images = list(lively())
    video = write_timed_video(tmp_path / "gate.mp4", images, every(1 / 15, 80) + every(1 / 15, 20, start_s=30))
    with raises(ConfigError, "6 s … pause"):
        compare({"shipped": shipped}, find_clips(str(video)), CompareSettings(rounds=1))


def test_frames_that_one_bundle_leaves_unscored_are_ranked_for_none(shipped: Bundle) -> None:
    # The longer window scores two frames less after each gap; there, the shorter one is wrong.
    truth = [False, False, False, False, True, True]

    def runs(unscored: int) -> Runs:
        of_one = [replace(score_at(i / 10, t), score=9.0 if i < 2 else float(t)) for i, t in enumerate(truth)]
        of_other = [replace(score, frame=score.frame + 100, time_s=score.time_s + 100) for score in of_one]
        return [of_one[unscored:], of_other[unscored:]]

    results = _judge({"short": shipped, "long": shipped}, {"short": [runs(0)], "long": [runs(2)]}, CompareSettings())
    assert [results[name].causal for name in ("short", "long")] == [100.0, 100.0]
    assert results["long"].causal_lead == Lead(0.0, 0.0)


def test_bundles_of_two_frame_rates_are_refused(shipped: Bundle) -> None:
    faster = replace(shipped, manifest=replace(shipped.manifest, fps=30.0))
    with raises(ConfigError, "[15.0, 30.0]"):
        compare({"shipped": shipped, "faster": faster}, find_clips(NORMAL), CompareSettings())


def test_the_command_prints_a_table_and_leaves_the_figures(tmp_path: Path) -> None:
    out = tmp_path / "compare.json"
    finished = run_module("calibration.compare", BUNDLE, "--data", NORMAL, "--clips", "synthetic-01", "--rounds", 1, "--out", out)
    assert finished.code == 0, finished.err
    assert all(kind in finished.out for kind in KINDS)
    assert not missing(finished.err, f"warning … {BUNDLE} … synthetic-01")
    facts = json.loads(out.read_text(encoding="utf-8"))
    assert facts["kinds"][str(BUNDLE)].keys() == KINDS and facts["settings"]["rounds"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips", "elsewhere"], "--clips"),
        (["--rounds", "0"], "rounds … 1 … 0"),
        (["--seed", "-1"], "seed … 0 … -1"),
        (["--seconds", "0"], "seconds of … 6 … 86400 … 0"),
        (["--seconds", "0.001"], "seconds of … 6 … 86400 … 0.001"),
        (["--seconds", "1e300"], "seconds of … 6 … 86400 … 1e+300"),
        (["--seconds", "nan"], "seconds of … 6 … 86400 … nan"),
        (["--precision", "int4"], "int4"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(arguments: list[str], message: str) -> None:
    finished = run_module("calibration.compare", BUNDLE, "--data", NORMAL, *arguments)
    assert finished.code == 1
    assert not missing(error_of(finished), message)
