"""The comparison that every engine passes on a GPU, here with ONNX Runtime on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from edge_runtime.stream import Arrays
from export.engine.check import Halves, compare, describe, rank_correlation, windows_of
from tests.kit.wording import raises

pytestmark = pytest.mark.slow

PED2 = Bundle.load(Path("bundles/ped2-lite"))


def in_onnx_runtime(precision: str) -> Halves:
    graphs = PED2.precision(precision)
    return Halves(OnnxRuntimeGraph(PED2, graphs.encoder), OnnxRuntimeGraph(PED2, graphs.decoder))


@pytest.fixture(scope="module")
def windows() -> list[Arrays]:
    return windows_of(PED2, "synthetic:?clips=2&seed=9000&frames=19")


def test_windows_come_from_every_clip_and_are_shaped_as_the_bundle_says(windows: Sequence[Arrays]) -> None:
    spec = PED2.manifest.input
    assert len(windows) == 2 * len([frame for frame in range(19) if frame >= spec.span - 1 and frame % 2 == 0])
    assert {window["clip"].shape for window in windows} == {(1, spec.frames, spec.channels, spec.height, spec.width)}
    assert {window["target"].shape for window in windows} == {(1, spec.channels, spec.height, spec.width)}
    assert len({window["clip"].tobytes() for window in windows}) == len(windows)  # copies, not views of one ring


def test_a_graph_is_no_further_from_itself_than_nothing(windows: Sequence[Arrays]) -> None:
    check = compare(PED2, "fp32", in_onnx_runtime("fp32"), in_onnx_runtime("fp32"), windows)
    assert check.is_within_tolerance
    assert check.psnr_change_db == 0
    assert check.rank_correlation == pytest.approx(1)
    assert {name: difference.largest for name, difference in check.differences.items()} == dict.fromkeys(check.differences, 0)


def test_fp16_graphs_are_within_the_tolerance_of_fp16_and_past_that_of_fp32(windows: Sequence[Arrays]) -> None:
    single, half = in_onnx_runtime("fp32"), in_onnx_runtime("fp16")
    check = compare(PED2, "fp16", single, half, windows)
    assert check.was_run and check.windows == len(windows)
    assert check.is_within_tolerance
    prediction = check.differences["prediction"]
    assert 0 < prediction.mean < prediction.largest < 0.05
    assert check.rank_correlation is not None
    assert check.rank_correlation > 0.99
    assert not compare(PED2, "fp32", single, half, windows).is_within_tolerance


class Dimmed:
    """A decoder that went wrong: its prediction is a little too dark, its scores are in another order."""

    def __init__(self, decoder: OnnxRuntimeGraph, by: float) -> None:
        self._decoder = decoder
        self._by = by

    def run(self, inputs: Arrays) -> Arrays:
        outputs = dict(self._decoder.run(inputs))
        return {**outputs, "prediction": outputs["prediction"] - np.float32(self._by), "score/local_error": -outputs["score/local_error"]}


def test_a_wrong_engine_is_past_tolerance_and_the_sentence_says_by_what(windows: Sequence[Arrays]) -> None:
    right = in_onnx_runtime("fp32")
    wrong = Halves(right.encoder, Dimmed(OnnxRuntimeGraph(PED2, PED2.precision("fp32").decoder), 0.25))
    check = compare(PED2, "fp16", right, wrong, windows)
    assert check.is_within_tolerance is False
    assert check.rank_correlation == pytest.approx(-1)
    said = describe(check, "fp16")
    assert said.startswith(
        "prediction within 0.25 (allowed 0.05), PSNR within 0 dB (allowed 0.1), rank correlation -1.0000 (at least 0.99)"
    )


def test_an_engine_that_computes_nan_is_past_tolerance(windows: Sequence[Arrays]) -> None:
    right = in_onnx_runtime("fp32")
    wrong = Halves(right.encoder, Dimmed(OnnxRuntimeGraph(PED2, PED2.precision("fp32").decoder), float("nan")))
    assert compare(PED2, "int8", right, wrong, windows).is_within_tolerance is False


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 1000], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 0.5),
        ([1, 1, 2], [1, 2, 2], 0.5),  # ranks (0.5, 0.5, 2) and (0, 1.5, 1.5)
        ([5, 5, 5], [1, 2, 3], 0.0),
    ],
)
def test_rank_correlation(first: list[float], second: list[float], expected: float) -> None:
    assert rank_correlation(np.array(first), np.array(second)) == pytest.approx(expected)


def test_there_is_no_rank_correlation_without_any_order() -> None:
    assert rank_correlation(np.zeros(3), np.ones(3)) is None


def test_footage_too_short_to_judge_by_is_refused() -> None:
    with raises(ConfigError, "4 windows … DATA="):
        windows_of(PED2, "synthetic:?frames=9")


def test_footage_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        windows_of(PED2, str(tmp_path / "nothing"))
