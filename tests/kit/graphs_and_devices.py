"""Every pair of graphs and device, as tests open them; on stand-ins where there is no GPU, and named for what they are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.engines import FLAVOURS
from edge_runtime.detector import Detector

__all__ = ["PAIRS", "REAL_GPU_PAIRS", "Pair", "opened", "parameters", "with_engine"]

STREAMS = 3  # that an engine takes in one call
STAND_IN_ORDERS = {"onnxruntime": "early", "tensorrt": "late"}
"""When the stand-in driver does what is queued. ONNX Runtime on the CPU does not queue: what goes before must be done by then."""


@dataclass(frozen=True)
class Pair:
    """Graphs and device.

    Attributes:
        needs: markers of what it takes.
        is_stand_in: on the stand-in driver, with the real pycuda and the real kernels, compiled for the CPU; graphs are run by ONNX
            Runtime on the CPU, under the names of ONNX Runtime's CUDA provider or of TensorRT.
    """

    backend: str
    device: str
    needs: tuple[str, ...] = ()
    is_stand_in: bool = False

    def __str__(self) -> str:
        return f"{self.backend} x {self.device}{' on the stand-in driver' if self.is_stand_in else ''}"


REAL_GPU_PAIRS = (
    Pair("onnxruntime", "cuda", ("gpu", "onnxruntime_gpu")),
    Pair("tensorrt", "cuda", ("gpu", "tensorrt")),
    Pair("tensorrt-rtx", "cuda", ("gpu", "tensorrt_rtx")),
)
PAIRS = (
    Pair("onnxruntime", "cpu"),
    *REAL_GPU_PAIRS,
    Pair("onnxruntime", "cuda", ("stand_in",), is_stand_in=True),
    Pair("tensorrt", "cuda", ("stand_in",), is_stand_in=True),
)


def parameters(pairs: tuple[Pair, ...]) -> list[object]:
    """For `pytest.mark.parametrize`, each with the markers it needs."""
    return [pytest.param(pair, id=str(pair), marks=[getattr(pytest.mark, name) for name in pair.needs]) for pair in pairs]


def with_engine(bundle: Bundle, pair: Pair, precision: str) -> Bundle:
    """The bundle, with an engine of the pair's flavour in its folder if it takes one."""
    if pair.backend not in FLAVOURS:
        return bundle
    if pair.is_stand_in:
        from tests.kit.engine_plans import write_engine

        write_engine(bundle, precision, sm=87, gpu="stand-in GPU", largest_batch=STREAMS)
    else:
        _build(bundle, pair.backend, precision)
    return bundle


@contextmanager
def opened(bundle: Bundle, pair: Pair, precision: str = "fp32") -> Iterator[Detector]:
    """A detector, and nothing of it afterwards. For a pair on the stand-in driver that driver is there meanwhile."""
    with _stood_in(pair) if pair.is_stand_in else _nothing():
        detector = Detector.open(bundle, precision=precision, backend=pair.backend, device=pair.device)
        assert (detector.backend, detector.device.name, detector.precision) == (pair.backend, pair.device, precision)
        try:
            yield detector
        finally:
            if pair.device == "cuda":
                detector.device.close()


@contextmanager
def _stood_in(pair: Pair) -> Iterator[None]:
    """Graphs that run on the CPU in the place of the GPU's."""
    from edge_runtime.graphs import onnxruntime_cuda, tensorrt_library
    from tests.kit.engine_plans import stand_in

    on_the_host = replace(onnxruntime_cuda.TARGET, provider="CPUExecutionProvider", memory="cpu", options={}, takes_stream=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime_cuda, "TARGET", on_the_host)
        patch.setitem(tensorrt_library.IMPORTS, "tensorrt", stand_in)
        with _driver(STAND_IN_ORDERS[pair.backend]):
            yield


@contextmanager
def _driver(order: str) -> Iterator[None]:
    """The stand-in driver with a GPU, and the stand-in compiler; afterwards the driver has none: other tests find what they found."""
    from tests.kit.cuda_driver.driver import CACHE, load
    from tests.kit.cuda_driver.nvcc import write_nvcc

    driver = load()
    driver.set_up()
    driver.order(order)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        write_nvcc(Path(folder))
        patch.setenv("PATH", folder, prepend=os.pathsep)
        patch.setenv("XDG_CACHE_HOME", str(CACHE))
        try:
            yield
        finally:
            driver.set_up(devices=0)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _build(bundle: Bundle, flavour: str, precision: str) -> None:
    from edge_runtime.devices.gpu import find_gpu
    from export.engine.build import EngineBuild, make_engine
    from export.engine.build_choice import EngineSettings
    from export.engine.which_tensorrt import load_library

    gpu = find_gpu()
    build = EngineBuild(bundle, precision, load_library(flavour, gpu), gpu, EngineSettings(streams=STREAMS))
    make_engine(build, rebuild=False)
