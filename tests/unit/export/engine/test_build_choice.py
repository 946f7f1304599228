"""What the builder is asked; per version of TensorRT it is held against the real bindings in tests/contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorrt_rtx as trt

from edge_runtime.errors import ConfigError
from edge_runtime.graphs.tensorrt_library import TensorRtLog, open_log
from export.engine.build_choice import EngineSettings, choose, layers_behind, network_flags
from export.engine.build_progress import BuildProgress
from tests.kit.wording import raises

PED2 = Path("bundles/ped2-lite")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_where_types_decide_there_are_no_flags(precision: str) -> None:
    choice = choose(trt, precision, EngineSettings())
    assert (choice.graphs, choice.is_strongly_typed, choice.flags, choice.holds_float32) == (precision, True, (), False)
    assert network_flags(trt, choice) == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def test_a_calibrator_is_refused_where_there_is_none() -> None:
    with raises(ConfigError, "TensorRT 8.6 or 10 … INT8_MODE=qdq"):
        choose(trt, "int8", EngineSettings(int8_mode="calibrator"))


@pytest.fixture
def parsed() -> Any:
    """Parse a graph of the shipped bundle; what it stands on is kept alive."""
    alive = []

    def parse(part: str) -> Any:
        logger, _ = open_log(trt)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        assert parser.parse((PED2 / f"{part}.fp32.onnx").read_bytes())
        alive.append((logger, builder, parser))
        return network

    return parse


def test_what_leads_from_the_last_convolution_to_a_score_is_found(parsed: Any) -> None:
    network = parsed("decoder")
    outputs = [network.get_output(number).name for number in range(network.num_outputs)]
    layers = layers_behind(trt, network, outputs)
    kinds = {layer.type for layer in layers}
    names = [layer.name for layer in layers]
    assert {trt.LayerType.REDUCE, trt.LayerType.POOLING} <= kinds  # means and sums of squares, the worst window
    assert "/_decoder/level1/level1.5/Tanh" in names  # the prediction itself
    assert not kinds & {trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION}
    assert not [name for name in names if "level2" in name or "level4" in name]  # nothing before the last convolution
    assert {layer.get_output(0).dtype for layer in layers} == {trt.DataType.FLOAT}


def test_the_normalisation_of_the_query_is_found_and_no_skip(parsed: Any) -> None:
    network = parsed("encoder")
    names = [layer.name for layer in layers_behind(trt, network, ["query"])]
    assert any("ReduceL2" in name for name in names) and any("Div" in name for name in names)
    assert not [name for name in names if "level" in name]
    assert layers_behind(trt, network, ["not there"]) == []


def test_the_share_of_a_build_counts_phases_within_phases() -> None:
    progress = BuildProgress("encoder")
    try:
        assert progress.share == 0
        progress.start("build", None, 4)
        progress.step("build", 0)
        assert progress.share == 1 / 4
        progress.start("time", "build", 2)
        progress.step("time", 0)
        assert progress.share == 1 / 4 + 1 / 8
        progress.finish("time")
        progress.step("build", 3)
        assert progress.share == 1
    finally:
        progress.close()


def test_the_reason_is_the_last_error_that_is_not_about_the_missing_gpu() -> None:
    heard = TensorRtLog()
    assert heard.reason
    heard.take("Error Code 6:\n no workspace.", is_error=True)
    heard.take("(cudaError 35: too old a driver)", is_error=True)
    heard.take("a warning", is_error=False)
    assert heard.reason == "Error Code 6: no workspace"
