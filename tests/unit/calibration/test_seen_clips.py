from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from calibration.clips import NormalClip
from calibration.seen_clips import seen_in_training, warn_before_calibration, warn_before_comparison
from edge_runtime import Bundle
from edge_runtime.bundle.manifest import Manifest
from tests.kit.wording import missing

Bundled = Callable[..., Manifest]


@pytest.fixture
def bundled(toy: Callable[[str], Bundle]) -> Bundled:
    """A manifest with this provenance."""
    manifest = toy("one_pool").manifest

    def make(**provenance: Any) -> Manifest:
        return replace(manifest, provenance=provenance)

    return make


def clips(*names: str) -> list[NormalClip]:
    return [NormalClip(name, f"footage/{name}.mp4") for name in names]


def test_what_trained_is_seen_and_what_was_held_out_only_where_it_counts(bundled: Bundled) -> None:
    manifest = bundled(training_clips=["mon", "wed"], held_out_clips=["tue"])
    week = clips("mon", "tue", "wed", "thu")
    assert seen_in_training(manifest, week) == ["mon", "wed"]
    assert seen_in_training(manifest, week, held_out=True) == ["mon", "tue", "wed"]


def test_a_part_of_a_clip_is_seen_with_the_whole(bundled: Bundled) -> None:
    manifest = bundled(training_clips=["gate[0:800]", "yard[0:90][10:50]"], held_out_clips=["gate[800:1000]"])
    assert seen_in_training(manifest, clips("gate", "yard", "gate-2")) == ["gate", "yard"]


def test_so_is_what_the_runs_before_were_trained_on(bundled: Bundled) -> None:
    first = {"training_clips": ["summer"], "started_from": None}
    manifest = bundled(training_clips=["winter"], started_from={"training_clips": ["autumn"], "started_from": first})
    assert seen_in_training(manifest, clips("summer", "autumn", "winter", "spring")) == ["summer", "autumn", "winter"]


@pytest.mark.parametrize("odd", ["gate", 3, {"gate": 1}, [["gate"]], None])
def test_provenance_that_names_no_clips_has_none(odd: Any, bundled: Bundled) -> None:
    assert seen_in_training(bundled(training_clips=odd, held_out_clips=odd, started_from=odd), clips("gate"), held_out=True) == []


def test_calibration_says_which_why_and_what_to_do_in_one_warning(bundled: Bundled, caplog: pytest.LogCaptureFixture) -> None:
    days = [f"day-{i}" for i in range(10)]
    warn_before_calibration(bundled(training_clips=days, held_out_clips=["new"]), clips("new", *days))
    [said] = messages(caplog)
    assert not missing(said, "day-0 … day-7 … 2 more … training … threshold")


def test_comparison_says_which_bundle_knows_which_clips(bundled: Bundled, caplog: pytest.LogCaptureFixture) -> None:
    one, other, third = bundled(training_clips=["mon"]), bundled(held_out_clips=["tue"]), bundled(training_clips=["wed"])
    warn_before_comparison({"one": one, "other": other, "third": third}, clips("mon", "tue"))
    [said] = messages(caplog)
    assert not missing(said, "one … mon … other … tue") and "third" not in said


def test_new_footage_passes_without_a_word(bundled: Bundled, caplog: pytest.LogCaptureFixture) -> None:
    manifest = bundled(training_clips=["mon"], held_out_clips=["tue"])
    warn_before_calibration(manifest, clips("tue", "wed"))
    warn_before_comparison({"one": manifest}, clips("wed"))
    assert messages(caplog) == []


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
