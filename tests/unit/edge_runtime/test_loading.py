"""What runs a bundle, on machines that are planted: with and without GPU, engines, libraries."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_runtime import Bundle, Detector, loading
from edge_runtime.bundle.engines import ENGINES
from edge_runtime.bundle.manifest import FastGraphs
from edge_runtime.devices.gpu import FoundGpu
from edge_runtime.errors import BackendError, BackendUnavailable, BundleError, EngineMismatch, IntegrityError, ManifestError
from edge_runtime.frames import Frame
from edge_runtime.graphs import onnxruntime_cuda, tensorrt_library
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from edge_runtime.graphs.onnxruntime_cuda import OnnxRuntimeCudaGraph
from edge_runtime.graphs.tensorrt import TensorRtGraph
from edge_runtime.loading import load
from edge_runtime.score import Score
from tests.kit.engine_plans import stand_in, write_engine
from tests.kit.host_place import HostPlaceDevice
from tests.kit.wording import missing, raises

Toy = Callable[[str], Bundle]

ORIN = FoundGpu("Orin (stand-in)", 87)


class Machine:
    """What is planted. Without a call it has a GPU, its device, and nothing that runs graphs there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.devices: list[HostPlaceDevice] = []
        self.has_gpu(ORIN)
        self.opens_device(self._open)
        for flavour in ("tensorrt", "tensorrt-rtx"):
            self.has_library(flavour, None)
        self.has_providers("CPUExecutionProvider")

    def has_gpu(self, gpu: FoundGpu | None) -> None:
        self._monkeypatch.setattr(loading, "find_gpu", lambda: gpu)

    def opens_device(self, make: Callable[[], object]) -> None:
        self._monkeypatch.setitem(sys.modules, "edge_runtime.devices.cuda.device", SimpleNamespace(CudaDevice=make))

    def has_library(self, flavour: str, library: ModuleType | None) -> None:
        def give() -> ModuleType:
            if library is None:
                raise ModuleNotFoundError(f"No module named '{flavour.replace('-', '_')}'")
            return library

        self._monkeypatch.setitem(tensorrt_library.IMPORTS, flavour, give)

    def has_providers(self, *names: str) -> None:
        self._monkeypatch.setattr("onnxruntime.get_available_providers", lambda: list(names))

    def runs_onnxruntime_on_the_gpu(self) -> None:
        target = replace(onnxruntime_cuda.TARGET, provider="CPUExecutionProvider", memory="cpu", options={}, takes_stream=False)
        self._monkeypatch.setattr(onnxruntime_cuda, "TARGET", target)

    def _open(self) -> HostPlaceDevice:
        self.devices.append(HostPlaceDevice())
        return self.devices[-1]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """In fp32 and fp16."""
    return Bundle.load(shutil.copytree("bundles/ped2-lite", tmp_path / "gate", ignore=shutil.ignore_patterns(ENGINES)))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """Messages of a level."""
    caplog.set_level(logging.INFO, "edge_runtime")
    return lambda level: [record.getMessage() for record in caplog.records if record.levelno == level]


def kinds(loaded: loading.Loaded) -> tuple[str, str, str, type]:
    assert type(loaded.encoder) is type(loaded.decoder)
    return loaded.backend, loaded.device.name, loaded.precision, type(loaded.encoder)


ON_THE_CPU = ("onnxruntime", "cpu", "fp32", OnnxRuntimeGraph)


def test_without_a_gpu_it_is_the_cpu_and_not_worth_a_line(machine: Machine, bundle: Bundle, said: Callable[[int], list[str]]) -> None:
    machine.has_gpu(None)
    write_engine(bundle, "fp16")
    assert kinds(load(bundle)) == ON_THE_CPU
    assert said(logging.INFO) == said(logging.WARNING) == []


@pytest.mark.parametrize(("backend", "device"), [("tensorrt", "auto"), ("tensorrt-rtx", "cuda"), ("auto", "cuda"), ("onnxruntime", "cuda")])
def test_without_a_gpu_what_needs_one_is_an_error(machine: Machine, bundle: Bundle, backend: str, device: str) -> None:
    machine.has_gpu(None)
    with raises(BackendUnavailable, f"--backend {backend} --device {device} … NVIDIA GPU … edge-doctor"):
        load(bundle, backend=backend, device=device)


def test_the_cpu_is_taken_when_it_is_named_and_no_gpu_is_looked_for(
    machine: Machine, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "find_gpu", lambda: pytest.fail("looked for a GPU"))
    assert kinds(load(bundle, device="cpu")) == ON_THE_CPU
    with raises(BackendUnavailable, "TensorRT-RTX … --device cuda … cpu"):
        load(bundle, backend="tensorrt-rtx", device="cpu")


@pytest.mark.parametrize(("precision", "wanted"), [("auto", "fp32"), ("fp16", "fp16")])
def test_on_the_cpu_it_is_fp32_unless_another_is_named(machine: Machine, bundle: Bundle, precision: str, wanted: str) -> None:
    assert load(bundle, device="cpu", precision=precision).precision == wanted


@pytest.fixture
def with_fast(bundle: Bundle) -> Bundle:
    """Fast graphs beside those of fp32: copies under another name."""
    fp32 = bundle.precision("fp32")
    encoder, decoder = (replace(graph, file=f"fast-{graph.file}") for graph in (fp32.encoder, fp32.decoder))
    for graph, copy in ((fp32.encoder, encoder), (fp32.decoder, decoder)):
        shutil.copy(bundle.path / graph.file, bundle.path / copy.file)
    precisions = bundle.manifest.precisions | {"fp32": replace(fp32, fast=FastGraphs(encoder, decoder, {}))}
    return replace(bundle, manifest=replace(bundle.manifest, precisions=precisions))


@pytest.mark.parametrize(("processor", "is_fast"), [("x86_64", True), ("AMD64", True), ("aarch64", False), ("", False)])
def test_fast_graphs_run_where_they_are_faster(
    machine: Machine,
    with_fast: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    said: Callable[[int], list[str]],
    processor: str,
    is_fast: bool,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: processor)
    loaded = load(with_fast, device="cpu")
    assert kinds(loaded) == ON_THE_CPU
    assert loaded.are_fast is is_fast
    assert said(logging.WARNING) == []
    assert load(with_fast, device="cpu", precision="fp16").precision == "fp16"  # of which there is no fast form


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_where_fast_graphs_are_damaged_the_plain_ones_run_and_a_warning_says_so(
    machine: Machine, with_fast: Bundle, monkeypatch: pytest.MonkeyPatch, said: Callable[[int], list[str]], part: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (with_fast.path / f"fast-{part}.fp32.onnx").write_bytes(b"")
    loaded = load(with_fast, device="cpu")
    assert kinds(loaded) == ON_THE_CPU and not loaded.are_fast
    [warning] = said(logging.WARNING)
    assert not missing(warning, f"fast-{part}.fp32.onnx … SHA-256 … plain graphs")


def test_a_gpu_has_no_use_for_fast_graphs(machine: Machine, with_fast: Bundle) -> None:
    machine.runs_onnxruntime_on_the_gpu()
    for part in ("encoder", "decoder"):
        (with_fast.path / f"fast-{part}.fp32.onnx").unlink()
    assert kinds(load(with_fast, device="cuda", precision="fp32"))[:3] == ("onnxruntime", "cuda", "fp32")


def test_a_bundle_of_one_precision_runs_in_it(machine: Machine, bundle: Bundle) -> None:
    machine.runs_onnxruntime_on_the_gpu()
    half = replace(bundle, manifest=replace(bundle.manifest, precisions={"fp16": bundle.precision("fp16")}))
    assert load(half, device="cpu").precision == load(half, device="cuda").precision == "fp16"


def test_an_engine_that_fits_is_the_best_in_fp16_before_fp32(machine: Machine, bundle: Bundle, said: Callable[[int], list[str]]) -> None:
    machine.has_library("tensorrt", stand_in())
    machine.runs_onnxruntime_on_the_gpu()
    for precision in ("fp32", "fp16"):
        write_engine(bundle, precision, largest_batch=3)
        loaded = load(bundle)
        assert kinds(loaded) == ("tensorrt", "cuda", precision, TensorRtGraph)
        assert loaded.largest_batch == 3
    assert kinds(load(bundle, precision="fp32"))[2] == "fp32"
    assert said(logging.INFO) == said(logging.WARNING) == []


def test_without_an_engine_onnx_runtime_takes_the_gpu_and_the_command_for_one_is_said(
    machine: Machine, bundle: Bundle, said: Callable[[int], list[str]]
) -> None:
    machine.has_library("tensorrt", stand_in())
    machine.runs_onnxruntime_on_the_gpu()
    loaded = load(bundle)
    assert kinds(loaded) == ("onnxruntime", "cuda", "fp16", OnnxRuntimeCudaGraph)
    assert loaded.largest_batch is None
    [line] = said(logging.INFO)
    took, _, why = line.partition(". ")
    assert not missing(took, "ped2-lite … fp16 … onnxruntime … cuda")
    assert not missing(why, f"--backend tensorrt … none … make engine BUNDLE={bundle.path} PRECISION=fp16")


def test_where_nothing_runs_on_the_gpu_the_cpu_does_and_a_line_says_why(
    machine: Machine, bundle: Bundle, said: Callable[[int], list[str]]
) -> None:
    write_engine(bundle, "fp16")
    assert kinds(load(bundle)) == ON_THE_CPU
    [line] = said(logging.INFO)
    took, _, why = line.partition(". ")
    assert not missing(took, "ped2-lite … fp32 … onnxruntime … cpu")
    assert not missing(why, "TensorRT: … module tensorrt … CUDAExecutionProvider")
    assert said(logging.WARNING) == [] and machine.devices == []  # a device takes memory and time: not opened in vain


def test_an_engine_of_another_gpu_is_a_warning_with_the_command(machine: Machine, bundle: Bundle, said: Callable[[int], list[str]]) -> None:
    machine.has_library("tensorrt", stand_in())
    write_engine(bundle, "fp16", sm=110, gpu="Thor")
    assert kinds(load(bundle)) == ON_THE_CPU
    [warning] = said(logging.WARNING)
    assert not missing(warning, "fp16 … TensorRT 10.3.0 … sm_110 (Thor) … sm_87 (Orin (stand-in))")
    assert warning.endswith(f" make engine BUNDLE={bundle.path} PRECISION=fp16 REBUILD=1")


def test_another_precision_whose_engine_fits_is_better_than_none(
    machine: Machine, bundle: Bundle, said: Callable[[int], list[str]]
) -> None:
    machine.has_library("tensorrt", stand_in())
    write_engine(bundle, "fp16", sm=110, gpu="Thor")
    write_engine(bundle, "fp32")
    assert kinds(load(bundle)) == ("tensorrt", "cuda", "fp32", TensorRtGraph)
    [warning] = said(logging.WARNING)
    assert "PRECISION=fp16 REBUILD=1" in warning


def test_a_named_engine_that_does_not_fit_is_an_error(machine: Machine, bundle: Bundle) -> None:
    machine.has_library("tensorrt", stand_in())
    machine.runs_onnxruntime_on_the_gpu()
    write_engine(bundle, "fp16", sm=110, gpu="Thor")
    with raises(EngineMismatch, "sm_110 (Thor) … sm_87 (Orin (stand-in)) … PRECISION=fp16 REBUILD=1"):
        load(bundle, backend="tensorrt")


def test_a_named_backend_without_an_engine_is_an_error_that_names_those_there_are(machine: Machine, bundle: Bundle) -> None:
    machine.has_library("tensorrt", stand_in())
    write_engine(bundle, "fp16")
    with raises(BundleError, "--backend tensorrt --precision fp32 … tensorrt-10.3.0-sm87-fp16 … PRECISION=fp32"):
        load(bundle, backend="tensorrt", precision="fp32")


def test_a_library_that_is_not_there_is_an_error_where_it_was_named(machine: Machine, bundle: Bundle) -> None:
    write_engine(bundle, "fp16")
    with raises(BackendUnavailable, "TensorRT: … module tensorrt … JetPack"):
        load(bundle, backend="tensorrt")
    with raises(BackendUnavailable, "CUDAExecutionProvider … pip install 'edge-runtime[gpu]'"):
        load(bundle, backend="onnxruntime", device="cuda")


def test_where_cuda_is_named_and_nothing_runs_there_every_reason_is_said(machine: Machine, bundle: Bundle) -> None:
    with raises(BackendUnavailable, "--backend tensorrt … make engine … ONNX Runtime … CUDAExecutionProvider"):
        load(bundle, device="cuda")


def test_a_missing_pycuda_is_said_once_with_its_remedy(machine: Machine, bundle: Bundle, said: Callable[[int], list[str]]) -> None:
    refusal = "CUDA: expected the module pycuda, it is not here. Install it: pip install 'edge-runtime[cuda]'"

    def refuse() -> object:
        raise BackendUnavailable(refusal)

    machine.has_library("tensorrt", stand_in())
    machine.runs_onnxruntime_on_the_gpu()
    machine.opens_device(refuse)
    write_engine(bundle, "fp16")
    for backend, device in (("tensorrt", "auto"), ("auto", "cuda")):
        with pytest.raises(BackendUnavailable) as caught:
            load(bundle, backend=backend, device=device)
        assert str(caught.value) == refusal
    assert kinds(load(bundle)) == ON_THE_CPU
    [warning] = said(logging.WARNING)
    assert warning.count("pycuda") == 1 and "pycuda" not in said(logging.INFO)[-1]


def test_a_gpu_for_which_the_kernels_do_not_compile_is_a_warning_even_without_an_engine(
    machine: Machine, bundle: Bundle, said: Callable[[int], list[str]]
) -> None:
    def refuse() -> object:
        raise BackendUnavailable("nvcc: expected it to compile kernels.cu for sm_87, it says: fatal: no. It needs g++.")

    machine.runs_onnxruntime_on_the_gpu()
    machine.opens_device(refuse)
    assert kinds(load(bundle)) == ON_THE_CPU
    assert said(logging.WARNING) == ["nvcc: expected it to compile kernels.cu for sm_87, it says: fatal: no. It needs g++."]


def test_an_engine_that_does_not_start_is_a_warning_and_its_device_is_closed(
    machine: Machine, bundle: Bundle, said: Callable[[int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = stand_in()
    monkeypatch.setattr(library.ICudaEngine, "create_execution_context", lambda self: None)
    names = "encoder.plan … TensorRT … memory … GPU"
    machine.has_library("tensorrt", library)
    write_engine(bundle, "fp16")
    assert kinds(load(bundle)) == ON_THE_CPU
    assert [device.is_closed for device in machine.devices] == [True]
    assert any(not missing(warning, names) for warning in said(logging.WARNING))
    with raises(BackendError, names):
        load(bundle, backend="tensorrt")


def test_a_damaged_plan_is_named(machine: Machine, bundle: Bundle) -> None:
    machine.has_library("tensorrt", stand_in())
    plan = write_engine(bundle, "fp16") / "decoder.plan"
    content = plan.read_bytes()
    plan.write_bytes(content[:-1])
    with raises(EngineMismatch, f"{plan} … {len(content)} bytes … {len(content) - 1} … REBUILD=1"):
        load(bundle, backend="tensorrt")


def test_a_damaged_graph_is_named_wherever_it_would_have_run(machine: Machine, bundle: Bundle) -> None:
    machine.runs_onnxruntime_on_the_gpu()
    for precision in bundle.manifest.precisions:
        (bundle.path / f"encoder.{precision}.onnx").write_bytes(b"")
    for device, precision in (("auto", "fp32"), ("cuda", "fp16"), ("cpu", "fp32")):
        with raises(IntegrityError, f"encoder.{precision}.onnx … SHA-256"):
            load(bundle, device=device)


def test_frames_whose_addresses_tensorrt_does_not_take_are_told_before_one_comes(machine: Machine, bundle: Bundle) -> None:
    machine.has_library("tensorrt", stand_in())
    write_engine(bundle, "fp16")
    odd = replace(bundle, manifest=replace(bundle.manifest, input=replace(bundle.manifest.input, height=100, width=75)))
    with raises(BackendUnavailable, "64 … 1 x 100 x 75 … --backend onnxruntime"):
        load(odd, backend="tensorrt")


def test_an_engine_built_from_graphs_of_another_precision_takes_their_tensors(machine: Machine, bundle: Bundle) -> None:
    """As TensorRT 8.6 builds fp16: from the fp32 graphs, by a flag."""
    machine.has_library("tensorrt", stand_in())
    write_engine(bundle, "fp16", graphs="fp32")
    loaded = load(bundle, backend="tensorrt")
    assert loaded.precision == "fp16"
    assert {tensor.dtype for tensor in loaded.encoder._plan.spec.outputs} == {"float32"}


def test_what_the_sheet_says_of_the_build_reaches_tensorrt(machine: Machine, bundle: Bundle) -> None:
    machine.has_library("tensorrt", stand_in())
    write_engine(bundle, "fp16", is_version_compatible=True)
    assert load(bundle, backend="tensorrt").encoder._held.runtime.engine_host_code_allowed
    write_engine(bundle, "fp32", needs_dla=True)
    assert load(bundle, backend="tensorrt", precision="fp32").encoder._held.runtime.DLA_core == 0


def test_a_precision_the_bundle_lacks_is_an_error_everywhere(machine: Machine, bundle: Bundle) -> None:
    for backend in ("auto", "tensorrt", "onnxruntime"):
        with raises(ManifestError, "'bf16' … fp32, fp16"):
            load(bundle, backend=backend, precision="bf16")


def test_int8_has_to_be_named(machine: Machine, bundle: Bundle) -> None:
    machine.has_library("tensorrt", stand_in())
    both = replace(bundle, manifest=replace(bundle.manifest, precisions=bundle.manifest.precisions | {"int8": bundle.precision("fp16")}))
    write_engine(both, "int8")
    assert kinds(load(both)) == ON_THE_CPU
    assert kinds(load(both, precision="int8")) == ("tensorrt", "cuda", "int8", TensorRtGraph)


@pytest.mark.parametrize("way", ["tensorrt", "onnxruntime"])
@pytest.mark.parametrize("name", ["one_pool", "two_banks", "three_pools"])
def test_a_detector_on_such_a_device_scores_as_on_the_cpu(machine: Machine, toy: Toy, name: str, way: str) -> None:
    bundle = toy(name)
    machine.has_library("tensorrt", stand_in())
    machine.runs_onnxruntime_on_the_gpu()
    write_engine(bundle, "fp32", largest_batch=2)
    here = Detector.open(bundle, device="cpu", threads=1)
    there = Detector.open(bundle, device="cuda", backend=way)
    assert (there.backend, there.device.name, there.precision) == (way, "cuda", "fp32")
    assert _scores(there) == _scores(here)


def _scores(detector: Detector) -> list[list[Any]]:
    """Of three cameras in one call, where the engine takes two."""
    rng = np.random.default_rng(0)
    streams = [detector.open_stream(f"gate {i}") for i in range(3)]
    steps = []
    for at in range(7):
        frames = [Frame(rng.integers(0, 256, (20, 24, 3), np.uint8), at, at / 10, at / 10, stream.name) for stream in streams]
        steps.append(detector.step(list(zip(streams, frames, strict=True))))
    return [[_facts(step.score) for step in of_cameras] for of_cameras in steps]


def _facts(score: Score | None) -> Any:
    return None if score is None else replace(score, latency_ms=replace(score.latency_ms, **dict.fromkeys(vars(score.latency_ms), 0.0)))


def test_choosing_imports_no_engine_library_without_a_gpu(bundle: Bundle) -> None:
    script = (
        "import sys; from edge_runtime import Bundle, Detector, loading; loading.find_gpu = lambda: None\n"
        "Detector.open(Bundle.load(sys.argv[1]))\n"
        "print([name for name in ('tensorrt', 'tensorrt_rtx', 'pycuda') if name in sys.modules])"
    )
    write_engine(bundle, "fp16")
    finished = subprocess.run([sys.executable, "-c", script, bundle.path], capture_output=True, text=True, timeout=60, check=False)
    assert finished.stdout == "[]\n", finished.stderr
