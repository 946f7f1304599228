"""The whole of it on stand-ins: engines in TensorRT's place, kernels and memory on the driver's, scores as on the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Bundle, Detector
from edge_runtime.commands.edge_run import main
from edge_runtime.devices.gpu import find_gpu
from edge_runtime.frames import Frame
from edge_runtime.graphs import onnxruntime_cuda, tensorrt_library
from edge_runtime.graphs.onnxruntime_cuda import OnnxRuntimeCudaGraph
from edge_runtime.graphs.tensorrt import TensorRtGraph
from tests.kit import engine_plans
from tests.kit.cuda_driver.driver import ORDERS, StandIn
from tests.kit.engine_plans import write_engine
from tests.kit.wording import missing

Toy = Callable[[str], Bundle]

pytestmark = pytest.mark.pycuda


@pytest.fixture
def with_engine(stand_in: StandIn, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A toy bundle with an engine for the stand-in's GPU, which takes two streams in one call."""
    monkeypatch.setitem(tensorrt_library.IMPORTS, "tensorrt", engine_plans.stand_in)
    gpu = find_gpu()
    assert gpu is not None

    def make(name: str) -> Bundle:
        bundle = toy(name)
        write_engine(bundle, "fp32", sm=gpu.sm, gpu=gpu.name, largest_batch=2)
        return bundle

    return make


def scores_of(detector: Detector, steps: int, on_step: Callable[[int], None] = lambda step: None) -> np.ndarray:
    """Of three cameras, (scores, 5)."""
    rng = np.random.default_rng(0)
    streams = [detector.open_stream(f"gate {i}") for i in range(3)]
    found = []
    for at in range(steps):
        on_step(at)
        frames = [Frame(rng.integers(0, 256, (20, 24, 3), np.uint8), at, at / 10, at / 10, stream.name) for stream in streams]
        found += [step.score for step in detector.step(list(zip(streams, frames, strict=True))) if step.score is not None]
    return np.array([(score.score, score.psnr_db, score.local_error, score.query_distance, score.regular_score) for score in found])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["one_pool", "two_banks", "three_pools"])
def test_engines_on_the_device_score_as_onnx_runtime_on_the_cpu(stand_in: StandIn, with_engine: Toy, name: str, order: str) -> None:
    bundle = with_engine(name)
    stand_in.order(order)
    detector = Detector.open(bundle)
    assert (detector.backend, detector.device.name, detector.precision) == ("tensorrt", "cuda", "fp32")
    assert detector._graphs is not None and isinstance(detector._graphs[0], TensorRtGraph)
    there = scores_of(detector, 9)
    assert np.allclose(there, scores_of(Detector.open(bundle, device="cpu", threads=1), 9), rtol=1e-5, atol=1e-6)
    assert len(there) >= 3


@pytest.mark.parametrize("name", ["one_pool", "two_banks", "three_pools"])
def test_onnx_runtime_on_the_devices_buffers_scores_as_on_the_cpu(
    stand_in: StandIn, toy: Toy, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CPU provider in the place of CUDA's, which runs at once: so must the driver."""
    target = replace(onnxruntime_cuda.TARGET, provider="CPUExecutionProvider", memory="cpu", options={}, takes_stream=False)
    monkeypatch.setattr(onnxruntime_cuda, "TARGET", target)
    stand_in.order("early")
    bundle = toy(name)
    detector = Detector.open(bundle)
    assert detector._graphs is not None and isinstance(detector._graphs[0], OnnxRuntimeCudaGraph)
    assert np.allclose(scores_of(detector, 9), scores_of(Detector.open(bundle, device="cpu", threads=1), 9), rtol=1e-5, atol=1e-6)


def test_frames_allocate_nothing(stand_in: StandIn, with_engine: Toy) -> None:
    counts: list[dict[str, int]] = []
    scores_of(Detector.open(with_engine("one_pool")), 30, lambda step: counts.append(stand_in.counts()))
    for name in ("allocations", "pinned_allocations", "event_creations"):
        assert counts[29].get(name, 0) == counts[12].get(name, 0)


def test_edge_run_takes_the_engine_and_says_so(with_engine: Toy, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = with_engine("one_pool")
    command = ["--bundle", str(bundle.path), "--source", "synthetic:?frames=20"]
    for device in ("auto", "cpu"):
        assert main([*command, "--device", device, "--out", str(tmp_path / device)]) == 0
    assert not missing(capfd.readouterr().err, "fp32, tensorrt")
    there, here = (json.loads((tmp_path / device / "summary.json").read_text()) for device in ("auto", "cpu"))
    assert [there[name] for name in ("backend", "device", "precision")] == ["tensorrt", "cuda", "fp32"]
    assert [there[name] for name in ("frames", "scored", "alarms", "updates")] == [
        here[name] for name in ("frames", "scored", "alarms", "updates")
    ]
    assert there["drift"] == pytest.approx(here["drift"], abs=1e-6)
