from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.clips import find_clips
from calibration.comparison import BOXES, CompareSettings, Comparison, compare
from edge_runtime import Bundle
from edge_runtime.errors import ConfigError
from tests.kit.commands import ROOT, error_of, run_module

BUNDLE = ROOT / "bundles" / "synthetic-lite"
NORMAL = "synthetic:?clips=2&seed=70&frames=120&anomalies=off"
KINDS = {"gliders 1.3-1.8x", "gliders 1.8-2.5x", "gliders 2.5-4x", BOXES}


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Bundle.load(BUNDLE)


@pytest.fixture(scope="module")
def compared(shipped: Bundle) -> Comparison:
    precision = shipped.manifest.precisions["fp32"]
    deaf_precision = replace(precision, threshold=replace(precision.threshold, score=1000.0))
    deaf = replace(shipped, manifest=replace(shipped.manifest, precisions={"fp32": deaf_precision}))
    return compare({"shipped": shipped, "deaf": deaf}, find_clips(NORMAL), CompareSettings(rounds=1))


def test_hours_are_those_of_one_kind(compared: Comparison) -> None:
    assert compared.hours == pytest.approx(240 / 15 / 3600)


def test_a_trained_model_tells_what_glides_and_what_runs(compared: Comparison) -> None:
    assert compared.kinds["shipped"].keys() == KINDS
    for kind, result in compared.kinds["shipped"].items():
        assert result.paper > 70 and result.causal > 70, kind
        assert 2 <= result.events <= 4 and 0 < result.hits <= result.events, kind


def test_every_bundle_sees_the_same_replays_and_raises_alarms_at_its_own_threshold(compared: Comparison) -> None:
    for kind, result in compared.kinds["deaf"].items():
        assert (result.hits, result.false_alarms) == (0, 0)
        assert (result.paper, result.events) == (compared.kinds["shipped"][kind].paper, compared.kinds["shipped"][kind].events)


def test_footage_in_which_nothing_moves_is_refused(shipped: Bundle, tmp_path: Path) -> None:
    import cv2
    import numpy as np

    (tmp_path / "still").mkdir()
    for i in range(80):
        cv2.imwrite(str(tmp_path / "still" / f"{i:03d}.png"), np.full((60, 80, 3), 99, np.uint8))
    with pytest.raises(ConfigError, match="something moves"):
        compare({"shipped": shipped}, find_clips(str(tmp_path)), CompareSettings(rounds=1))


def test_clips_too_short_for_a_pseudo_anomaly_are_refused(shipped: Bundle) -> None:
    with pytest.raises(ConfigError, match="6 s or more"):
        compare({"shipped": shipped}, find_clips(NORMAL.replace("120", "25")), CompareSettings(rounds=1))


def test_bundles_of_two_frame_rates_are_refused(shipped: Bundle) -> None:
    faster = replace(shipped, manifest=replace(shipped.manifest, fps=30.0))
    with pytest.raises(ConfigError, match=r"one frame rate, got \[15.0, 30.0\]"):
        compare({"shipped": shipped, "faster": faster}, find_clips(NORMAL), CompareSettings())


def test_the_command_prints_a_table_and_leaves_the_figures(tmp_path: Path) -> None:
    out = tmp_path / "compare.json"
    finished = run_module("calibration.compare", BUNDLE, "--data", NORMAL, "--clips", "synthetic-01", "--rounds", 1, "--out", out)
    assert finished.code == 0, finished.err
    assert all(kind in finished.out for kind in KINDS)
    facts = json.loads(out.read_text(encoding="utf-8"))
    assert facts["kinds"][str(BUNDLE)].keys() == KINDS and facts["settings"]["rounds"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clips", "elsewhere"], "--clips: expected some of"),
        (["--rounds", "0"], "rounds: expected 1 or more, got 0"),
        (["--precision", "int4"], "int4"),
    ],
)
def test_the_command_says_in_a_line_what_is_wrong(arguments: list[str], message: str) -> None:
    finished = run_module("calibration.compare", BUNDLE, "--data", NORMAL, *arguments)
    assert finished.code == 1
    assert message in error_of(finished)
