"""Precisions on the same clips: what differs, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime import Bundle
from edge_runtime.bundle.manifest import Quantisation, Verdict
from edge_runtime.bundle.manifest_file import encode_manifest, parse_manifest
from edge_runtime.commands.edge_report import main
from edge_runtime.errors import ConfigError, ManifestError
from edge_runtime.evaluation.ranks import rank_correlation
from edge_runtime.report.precision import measure_precisions
from edge_runtime.report.precision_page import precision_page
from edge_runtime.report.verdict import in_words, is_within, store
from tests.kit.wording import missing, raises

Toy = Callable[[str], Bundle]

CLIPS = "synthetic:?clips=2&seed=7&frames=110&anomalies=off&width=64&height=48&fps=10"


def with_int8(bundle: Bundle, threshold: float | None = None) -> Bundle:
    """The bundle with its fp32 graphs under another name, at another threshold."""
    graphs = bundle.precision("fp32")
    int8 = graphs if threshold is None else replace(graphs, threshold=replace(graphs.threshold, score=threshold))
    manifest = replace(bundle.manifest, precisions={"fp32": graphs, "int8": int8})
    (bundle.path / "manifest.json").write_bytes(encode_manifest(manifest))
    return Bundle.load(bundle.path)


@pytest.mark.parametrize("name", ["one_pool", "two_banks"])
def test_the_same_graphs_do_the_same(name: str, toy: Toy) -> None:
    report = measure_precisions(with_int8(toy(name)), CLIPS)
    for mode in ("updating", "frozen"):
        compared = report.precisions["int8"][mode]
        assert (compared.rank_correlation, compared.alarm_flips, compared.psnr_change_db, compared.gates_differ) == (1, 0, 0, 0)
        assert compared.cosines == {100: pytest.approx(1)}
    verdict = report.verdicts["int8"]
    assert verdict.passed and verdict.budget == {"rank_correlation": 0.99, "alarm_flips": 0.01}
    assert list(report.verdicts) == ["int8"] and "auc_loss" not in verdict.measured


def test_another_side_of_the_threshold_fails_it(toy: Toy) -> None:
    bundle = with_int8(toy("one_pool"), threshold=-1.0)
    report = measure_precisions(bundle, CLIPS)
    flips = report.verdicts["int8"].measured["alarm_flips"]
    assert flips > 0.01 and not report.verdicts["int8"].passed
    [said] = in_words(bundle.manifest, report.verdicts)
    assert said.startswith("Do not ship int8") and not missing(said, "fp16", "0.01")
    assert said in precision_page(report, [said])


def test_other_clips_have_another_hash(toy: Toy) -> None:
    bundle = with_int8(toy("two_banks"))
    hashes = [measure_precisions(bundle, clips).verdicts["int8"].data_hash for clips in (CLIPS, CLIPS, CLIPS.replace("seed=7", "seed=8"))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_one_precision_cannot_be_compared(toy: Toy) -> None:
    with raises(ConfigError, "fp32", "make calibrate-int8"):
        measure_precisions(toy("one_pool"), CLIPS)


def test_a_verdict_with_labels_looks_at_the_auc_alone() -> None:
    assert is_within({"auc_loss": 0.5}, {"auc_loss": 0.4, "rank_correlation": 0.5})
    assert not is_within({"auc_loss": 0.5}, {"auc_loss": 0.6, "rank_correlation": 1.0})


def test_it_is_said_where_int8_is_slower_and_what_stays_in_float(toy: Toy) -> None:
    bundle = toy("one_pool")
    quantisation = Quantisation("minmax", 0, {"a": (5,)}, "0" * 64, {"encoder": (), "decoder": ("last",)}, 0.9)
    int8 = replace(bundle.precision("fp32"), quantisation=quantisation)
    manifest = replace(bundle.manifest, precisions={"fp32": bundle.precision("fp32"), "int8": int8})
    [slower, faster] = (
        in_words(manifest, {"int8": Verdict(True, {"auc_loss": 0.5}, {"auc_loss": 0.1, "time": time}, "")})[0] for time in (1.8, 0.5)
    )
    assert not missing(slower, "last", "1.80") and not missing(faster, "0.50")
    assert slower.count(".") > faster.count(".")  # one sentence more


def test_a_verdict_survives_writing_and_a_sentence_is_read_as_ever(toy: Toy) -> None:
    bundle = with_int8(toy("one_pool"))
    verdict = Verdict(False, {"auc_loss": 0.5}, {"auc_loss": 0.7, "time": 1.5}, "ab" * 32)
    store(bundle, {"int8": verdict})
    now = Bundle.load(bundle.path).manifest
    assert now.precisions["int8"].verdict == verdict
    assert now.precisions["fp32"].verdict == bundle.precision("fp32").verdict and isinstance(now.precisions["fp32"].verdict, str)
    broken = json.loads(encode_manifest(now))
    broken["precisions"]["int8"]["verdict"] = {"passed": "yes"}
    with raises(ManifestError, "verdict"):
        parse_manifest(json.dumps(broken).encode(), "broken")


def test_the_command_stores_what_it_says(toy: Toy, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = with_int8(toy("two_banks"))
    out = tmp_path_factory.mktemp("report")
    flags = ["precision", "--bundle", str(bundle.path), "--data", CLIPS, "--out", str(out), "--device", "cpu"]
    assert main(flags) == 0
    assert isinstance(Bundle.load(bundle.path).precision("int8").verdict, str)
    assert main([*flags, "--store"]) == 0
    assert "Ship int8" in capsys.readouterr().out and "| int8 | frozen |" in (out / "precision.md").read_text()
    said = json.loads((out / "precision.json").read_text())
    verdict = Bundle.load(bundle.path).precision("int8").verdict
    assert isinstance(verdict, Verdict) and said["verdicts"]["int8"]["data_hash"] == verdict.data_hash


def test_rank_correlation_of_a_hand_counted_order() -> None:
    # Ranks 1 2 3 4 and 1 3 2 4: 1 − 6 · 2 / (4 · 15).
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])) == pytest.approx(0.8)
