"""`python -m calibration` as `make calibrate` starts it: which footage it takes for which bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle import Bundle
from tests.kit.changed_bundles import rewrite_manifest
from tests.kit.commands import Finished, error_of, run_module
from tests.kit.drawn_footage import draw, write_clip, write_video
from tests.kit.wording import missing

pytestmark = pytest.mark.commands

Toy = Callable[[str], Bundle]


def calibrate(bundle: Bundle, *arguments: object) -> Finished:
    return run_module("calibration", "--bundle", bundle.path, *arguments)


def normal_footage(fps: int) -> str:
    return f"synthetic:?seed=50&frames={10 * fps}&anomalies=off&width=64&height=48&fps={fps}"


def manifest_of(bundle: Bundle) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle.path / "manifest.json").read_text())
    return content


def assert_refused(finished: Finished, bundle: Bundle, before: bytes, *parts: str) -> None:
    message = error_of(finished)
    assert not missing(message, "expected", *parts)
    assert (bundle.path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("fps", [30, 5])
def test_footage_of_a_rate_that_the_model_was_not_trained_at_is_refused(fps: int, toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    before = (bundle.path / "manifest.json").read_bytes()
    finished = calibrate(bundle, "--data", write_video(tmp_path / "gate.avi", draw(40), fps))
    assert_refused(finished, bundle, before, f"10 frames … {fps} … -vf fps=10 … --fps {fps}")


def test_a_rate_near_the_models_is_taken(toy: Toy) -> None:
    bundle = toy("one_pool")
    finished = calibrate(bundle, "--data", normal_footage(12))
    assert finished.code == 0 and "warning" not in finished.err, finished.err
    assert manifest_of(bundle)["fps"] == 12
    assert not missing(finished.out, "were 10 … be 12")


def test_a_clip_that_the_model_was_trained_on_is_warned_of(toy: Toy) -> None:
    bundle = toy("one_pool")
    rewrite_manifest(bundle.path, replace(bundle.manifest, provenance={"training_clips": ["synthetic-00"]}))
    finished = calibrate(bundle, "--data", normal_footage(10))
    assert finished.code == 0, finished.err
    [warning] = [line for line in finished.err.splitlines() if line.startswith("warning: ")]
    assert not missing(warning, "synthetic-00")


def test_another_rate_has_to_be_said_each_time_and_is_warned_of(toy: Toy) -> None:
    bundle = toy("one_pool")
    finished = calibrate(bundle, "--data", normal_footage(14), "--fps", 14)
    assert finished.code == 0, finished.err
    [warning] = [line for line in finished.err.splitlines() if line.startswith("warning: ")]
    assert not missing(warning, "14 frames … trained at 10")
    assert (manifest_of(bundle)["fps"], manifest_of(bundle)["provenance"]["trained_fps"]) == (14, 10)

    before = (bundle.path / "manifest.json").read_bytes()
    assert_refused(calibrate(bundle, "--data", normal_footage(14)), bundle, before, "10 frames … 14")
    back = calibrate(bundle, "--data", normal_footage(10))
    assert back.code == 0 and "warning" not in back.err, back.err
    assert manifest_of(bundle)["fps"] == 10


def test_the_default_is_the_bundle_of_the_environment(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    before = manifest_of(bundle)
    finished = run_module("calibration", "--data", normal_footage(10), cwd=tmp_path, variables={"EDGE_BUNDLE": str(bundle.path)})
    assert finished.code == 0, finished.err
    assert manifest_of(bundle) != before
    assert "bundle: " in error_of(run_module("calibration", "--data", normal_footage(10), cwd=tmp_path))


@pytest.mark.parametrize("fps", ["0", "-10", "nan", "inf"])
def test_no_rate_at_all_is_not_taken_for_the_bundles(fps: str, toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    before = (bundle.path / "manifest.json").read_bytes()
    images = write_clip(tmp_path / "gate", draw(5))
    assert_refused(calibrate(bundle, "--data", images, f"--fps={fps}"), bundle, before, f"--fps … {fps}")


def test_a_rate_that_the_footage_contradicts_is_refused(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    before = (bundle.path / "manifest.json").read_bytes()
    finished = calibrate(bundle, "--data", write_video(tmp_path / "gate.avi", draw(40), 30), "--fps", 10)
    assert_refused(finished, bundle, before, "10 frames … --fps … 30")
