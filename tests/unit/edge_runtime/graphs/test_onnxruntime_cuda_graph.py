"""ONNX Runtime bound to addresses, its CPU provider in the place of CUDA's; and what is said where CUDA's is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BackendError, BackendUnavailable, BundleError, IntegrityError, ShapeError
from edge_runtime.graphs import onnxruntime_cuda
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from edge_runtime.graphs.onnxruntime_cuda import OnnxRuntimeCudaGraph, load_cuda_provider
from tests.kit.host_place import HostPlace
from tests.kit.wording import raises

Toy = Callable[[str], Bundle]

ON_THE_HOST = replace(onnxruntime_cuda.TARGET, provider="CPUExecutionProvider", memory="cpu", options={}, takes_stream=False)


@pytest.fixture
def on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_cuda, "TARGET", ON_THE_HOST)


def inputs_for(bundle: Bundle, part: str, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors = getattr(bundle.precision("fp32"), part).inputs
    return {tensor.name: rng.uniform(-1, 1, (batch, *tensor.shape[1:])).astype(tensor.dtype) for tensor in tensors}


@pytest.mark.usefixtures("on_the_host")
@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("name", ["one_pool", "two_banks", "three_pools"])
def test_it_gives_what_the_plain_graph_gives(toy: Toy, name: str, part: str) -> None:
    bundle, place = toy(name), HostPlace()
    spec = getattr(bundle.precision("fp32"), part)
    graph = OnnxRuntimeCudaGraph(onnxruntime, bundle, spec, place)
    yardstick = OnnxRuntimeGraph(bundle, spec)
    for batch in (1, 3, 1):
        arrays = inputs_for(bundle, part, batch, seed=batch)
        got = graph.run({name: place.upload(array) for name, array in arrays.items()})
        for tensor, wanted in yardstick.run(arrays).items():
            assert np.array_equal(place.download(got[tensor]), wanted)


@pytest.mark.usefixtures("on_the_host")
def test_half_precision_is_bound_as_such() -> None:
    bundle, place = Bundle.load("bundles/ped2-lite"), HostPlace()
    encoder = bundle.precision("fp16").encoder
    clip = np.random.default_rng(0).uniform(-1, 1, (1, *encoder.inputs[0].shape[1:])).astype(np.float32)
    got = OnnxRuntimeCudaGraph(onnxruntime, bundle, encoder, place).run({"clip": place.upload(clip)})
    wanted = OnnxRuntimeGraph(bundle, encoder).run({"clip": clip})
    assert got["skip_1"].dtype == np.float16
    assert np.array_equal(place.download(got["skip_1"]), wanted["skip_1"])


@pytest.mark.usefixtures("on_the_host")
def test_a_frame_allocates_nothing_and_binds_only_what_lies_elsewhere(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    graph = OnnxRuntimeCudaGraph(onnxruntime, bundle, bundle.precision("fp32").decoder, place)
    first, second = ({name: place.upload(array) for name, array in inputs_for(bundle, "decoder", 1, seed).items()} for seed in (1, 2))
    kept = graph.run(first)
    bound: list[str] = []
    bind = onnxruntime.IOBinding.bind_input
    monkeypatch.setattr(onnxruntime.IOBinding, "bind_input", lambda self, name, *rest: bound.append(name) or bind(self, name, *rest))
    allocations = place.allocations
    graph.run(first)
    assert bound == []
    assert graph.run(first | {"target": second["target"]}) is kept
    assert bound == ["target"]
    assert place.allocations == allocations


@pytest.mark.usefixtures("on_the_host")
def test_an_input_of_another_shape_is_refused(toy: Toy) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    graph = OnnxRuntimeCudaGraph(onnxruntime, bundle, bundle.precision("fp32").encoder, place)
    with raises(ShapeError, "input 'clip' … ('batch', 4, 1, 32, 32) float32 … (1, 4, 1, 32, 8) float32"):
        graph.run({"clip": place.upload(np.zeros((1, 4, 1, 32, 8), np.float32))})


@pytest.mark.usefixtures("on_the_host")
def test_what_onnx_runtime_says_is_passed_on(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    graph = OnnxRuntimeCudaGraph(onnxruntime, bundle, bundle.precision("fp32").encoder, place)

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA failure 2: out of memory\nstack")

    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", fail)
    with raises(BackendError, "CUDA failure 2 … --device cpu"):
        graph.run({"clip": place.upload(np.zeros((1, 4, 1, 32, 32), np.float32))})


@pytest.mark.usefixtures("on_the_host")
def test_a_damaged_file_is_refused(toy: Toy) -> None:
    bundle = toy("one_pool")
    encoder = bundle.precision("fp32").encoder
    path = bundle.path / encoder.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError):
        OnnxRuntimeCudaGraph(onnxruntime, bundle, encoder, HostPlace())


@pytest.mark.usefixtures("on_the_host")
def test_a_graph_of_other_tensors_is_refused(toy: Toy) -> None:
    bundle = toy("one_pool")
    encoder = bundle.precision("fp32").encoder
    wrong = replace(encoder, inputs=(replace(encoder.inputs[0], name="film"),))
    with raises(BundleError, "inputs … film"):
        OnnxRuntimeCudaGraph(onnxruntime, bundle, wrong, HostPlace())


def test_a_session_that_fell_back_to_the_cpu_is_an_error(toy: Toy) -> None:
    """As ONNX Runtime's GPU build does where a library of CUDA is missing: it says so in its log alone."""
    given: dict[str, Any] = {}

    def session(content: bytes, options: Any, *, providers: list[Any], enable_fallback: int) -> Any:
        given["provider"], given["is_deterministic"] = providers, options.use_deterministic_compute
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=enable_fallback)

    library = SimpleNamespace(__version__="1.31", SessionOptions=onnxruntime.SessionOptions, InferenceSession=session)
    bundle = toy("one_pool")
    with raises(
        BackendUnavailable,
        "encoder.fp32.onnx … ONNX Runtime 1.31 … CUDAExecutionProvider … CPUExecutionProvider … cuDNN",
    ):
        OnnxRuntimeCudaGraph(library, bundle, bundle.precision("fp32").encoder, HostPlace(cuda_stream=1234))
    [(provider, options)] = given["provider"]
    assert provider == "CUDAExecutionProvider" and options["user_compute_stream"] == "1234"
    assert given["is_deterministic"] is True and options["cudnn_conv_algo_search"] == "HEURISTIC"


def planted(monkeypatch: pytest.MonkeyPatch, folder: Path, providers: list[str]) -> SimpleNamespace:
    """An onnxruntime that says what it has."""
    library = SimpleNamespace(
        __version__="1.31",
        __file__=str(folder / "__init__.py"),
        get_available_providers=lambda: providers,
        set_default_logger_severity=lambda severity: None,
    )
    monkeypatch.setattr(onnxruntime_cuda, "load_onnxruntime", lambda extra: library)
    return library


def test_the_cpu_build_is_not_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    planted(monkeypatch, tmp_path, ["CPUExecutionProvider"])
    with raises(BackendUnavailable, "ONNX Runtime 1.31 … CUDAExecutionProvider … edge-runtime[gpu]"):
        load_cuda_provider()


def test_a_missing_library_of_cuda_is_named_and_nothing_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    library = planted(monkeypatch, tmp_path, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    library.preload_dlls = lambda: print("Failed to load libcublasLt.so.13")
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"no library")
    with raises(BackendUnavailable, "CUDAExecutionProvider … libonnxruntime_providers_cuda.so … [cuda,cudnn]"):
        load_cuda_provider()
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A provider of `onnxruntime`, and in another folder the libraries it needs; named for the test, which they outlive."""
    first, then, cudnn = (f"lib{tmp_path.name}{name}" for name in ("first", "then", "cudnn"))
    cuda = tmp_path / "elsewhere" / "nvidia" / "cu13" / "lib"
    compile_library(cuda / f"{first}.so.13")
    compile_library(cuda / f"{then}.so.13", cuda / f"{first}.so.13")
    compile_library(cuda.parents[1] / "cudnn" / "lib" / f"{cudnn}.so.9")
    compile_library(tmp_path / "beside" / "capi" / "libonnxruntime_providers_cuda.so", cuda / f"{then}.so.13")
    planted(monkeypatch, tmp_path / "beside", ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime_cuda, "CUDA_LIBRARIES", (first, then, cudnn))
    monkeypatch.setattr(onnxruntime_cuda, "CUDNN", f"{cudnn}.so.9")
    return tmp_path / "elsewhere"


def compile_library(path: Path, *needs: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["g++", "-shared", "-x", "c++", "/dev/null", "-x", "none", "-Wl,--no-as-needed", f"-Wl,-soname,{path.name}", "-o", path]
    subprocess.run([*command, *needs], check=True, timeout=60)


@pytest.mark.cxx
def test_libraries_of_cuda_are_found_in_any_folder_of_packages(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where ONNX Runtime lies in one folder, and PyTorch brought CUDA and cuDNN into another."""
    with raises(BackendUnavailable, f"lib{tmp_path.name}then.so.13"):
        load_cuda_provider()
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    assert load_cuda_provider().__version__ == "1.31"


@pytest.mark.cxx
def test_a_missing_cudnn_is_named_although_the_provider_loads(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(packages / "nvidia" / "cudnn")
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    with raises(BackendUnavailable, f"lib{tmp_path.name}cudnn.so.9 … [cuda,cudnn]"):
        load_cuda_provider()


def test_a_provider_that_loads_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library: ModuleType | SimpleNamespace = planted(monkeypatch, tmp_path, ["CUDAExecutionProvider"])
    assert load_cuda_provider() is library
