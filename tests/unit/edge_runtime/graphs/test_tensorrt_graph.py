"""A graph in TensorRT's place: the stand-in of tests/kit runs the ONNX graph over host addresses, and keeps to the real one's rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import TensorSpec
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.errors import BackendError, BackendUnavailable, EngineMismatch, ShapeError
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from edge_runtime.graphs.tensorrt import Plan, TensorRtGraph
from edge_runtime.graphs.tensorrt_library import Library
from tests.kit.engine_plans import plan_of, stand_in
from tests.kit.host_place import HostPlace
from tests.kit.wording import raises

Toy = Callable[[str], Bundle]
TOYS = ("one_pool", "two_banks", "three_pools")


@pytest.fixture
def trt() -> Any:
    return stand_in()


def plan_for(bundle: Bundle, part: str, **facts: Any) -> Plan:
    spec = getattr(bundle.precision("fp32"), part)
    return Plan(plan_of(bundle.read(spec), **facts), spec, f"{part}.plan", "Rebuild it.", facts.get("is_version_compatible", False))


def graph_for(trt: Any, bundle: Bundle, part: str, place: HostPlace, **facts: Any) -> TensorRtGraph:
    return TensorRtGraph(Library("tensorrt", trt), plan_for(bundle, part, **facts), place)


def inputs_for(bundle: Bundle, part: str, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors = getattr(bundle.precision("fp32"), part).inputs
    return {tensor.name: rng.uniform(-1, 1, (batch, *tensor.shape[1:])).astype(tensor.dtype) for tensor in tensors}


def uploaded(place: HostPlace, arrays: dict[str, np.ndarray]) -> dict[str, DeviceArray]:
    return {name: place.upload(array) for name, array in arrays.items()}


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("name", TOYS)
def test_it_gives_what_the_onnx_graph_gives(trt: Any, toy: Toy, name: str, part: str) -> None:
    bundle, place = toy(name), HostPlace()
    graph = graph_for(trt, bundle, part, place, largest_batch=3)
    yardstick = OnnxRuntimeGraph(bundle, getattr(bundle.precision("fp32"), part), threads=1)
    for batch in (1, 3, 2, 1):
        arrays = inputs_for(bundle, part, batch, seed=batch)
        got = graph.run(uploaded(place, arrays))
        wanted = yardstick.run(arrays)
        assert got.keys() == wanted.keys()
        for tensor in wanted:
            assert np.array_equal(place.download(got[tensor]), wanted[tensor])


def test_a_frame_allocates_nothing_and_says_only_what_changed(trt: Any, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    graph = graph_for(trt, bundle, "decoder", place)
    first, second = (uploaded(place, inputs_for(bundle, "decoder", 1, seed)) for seed in (1, 2))
    kept = graph.run(first)
    said: list[str] = []
    address = trt.IExecutionContext.set_tensor_address
    monkeypatch.setattr(trt.IExecutionContext, "set_input_shape", lambda self, name, shape: said.append(f"shape of {name}"))
    monkeypatch.setattr(trt.IExecutionContext, "set_tensor_address", lambda self, name, to: said.append(name) or address(self, name, to))
    allocations = place.allocations
    graph.run(first)
    assert said == []
    assert graph.run(first | {"target": second["target"]}) is kept
    assert said == ["target"]
    assert place.allocations == allocations


def test_it_is_put_into_the_devices_stream_and_nobody_waits(trt: Any, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueued: list[tuple[int, Callable[[], None]]] = []
    monkeypatch.setattr(trt, "_enqueue", lambda stream, work: enqueued.append((stream, work)))
    bundle, place = toy("one_pool"), HostPlace(cuda_stream=77)
    graph = graph_for(trt, bundle, "encoder", place)
    query = graph.run(uploaded(place, inputs_for(bundle, "encoder", 1)))["query"]
    assert np.isnan(place.download(query)).all()
    [(stream, work)] = enqueued
    work()
    assert stream == 77 and np.isfinite(place.download(query)).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clip": None}, "input 'clip' … nothing"),
        ({"clip": np.zeros((1, 4, 1, 32, 31), np.float32)}, "('batch', 4, 1, 32, 32) float32 … (1, 4, 1, 32, 31) float32"),
        ({"clip": np.zeros((1, 4, 1, 32, 32), np.float16)}, "(1, 4, 1, 32, 32) float16"),
    ],
)
def test_inputs_that_are_not_the_manifests_are_refused(trt: Any, toy: Toy, change: dict[str, np.ndarray | None], said: str) -> None:
    place = HostPlace()
    graph = graph_for(trt, toy("one_pool"), "encoder", place)
    with raises(ShapeError, said):
        graph.run(uploaded(place, {name: array for name, array in change.items() if array is not None}))


def test_inputs_of_different_batches_are_refused(trt: Any, toy: Toy) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    graph = graph_for(trt, bundle, "decoder", place, largest_batch=2)
    one, two = (uploaded(place, inputs_for(bundle, "decoder", batch)) for batch in (1, 2))
    with raises(ShapeError, "input 'target' … 2 … 1"):
        graph.run(two | {"target": one["target"]})


def test_more_streams_than_it_was_built_for_are_refused_and_fewer_still_run(trt: Any, toy: Toy) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    graph = graph_for(trt, bundle, "encoder", place, largest_batch=2)
    assert graph.largest_batch == 2
    first = uploaded(place, inputs_for(bundle, "encoder", 2))
    wanted = place.download(graph.run(first)["query"])
    with raises(BackendError, "encoder.plan … 3 streams … 2"):
        graph.run(uploaded(place, inputs_for(bundle, "encoder", 3)))
    assert np.array_equal(place.download(graph.run(first)["query"]), wanted)


def test_a_failed_run_says_what_tensorrt_said(trt: Any, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    graph = graph_for(trt, bundle, "encoder", place)
    monkeypatch.setattr(trt.IExecutionContext, "execute_async_v3", lambda self, stream: self._refuse("enqueueV3", "no luck"))
    with raises(BackendError, "encoder.plan … no luck"):
        graph.run(uploaded(place, inputs_for(bundle, "encoder", 1)))


def test_an_address_that_is_not_taken_is_an_error(trt: Any, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    graph = graph_for(trt, bundle, "encoder", place)
    monkeypatch.setattr(trt.IExecutionContext, "set_tensor_address", lambda self, name, memory: self._refuse("setTensorAddress", name))
    with raises(BackendError, "'query' … API Usage Error"):
        graph.run(uploaded(place, inputs_for(bundle, "encoder", 1)))


def test_a_plan_that_does_not_load_says_why(trt: Any, toy: Toy) -> None:
    plan = replace(plan_for(toy("one_pool"), "encoder"), content=b"ftrt")
    with raises(EngineMismatch, "encoder.plan … TensorRT 10.3.0 … Magic tag"):
        TensorRtGraph(Library("tensorrt", trt), plan, HostPlace())


def test_host_code_is_allowed_only_where_the_engine_was_built_with_it(trt: Any, toy: Toy) -> None:
    plan = plan_for(toy("one_pool"), "encoder", is_version_compatible=True)
    library = Library("tensorrt", trt)
    assert TensorRtGraph(library, plan, HostPlace())._held.runtime.engine_host_code_allowed
    with raises(EngineMismatch, "host code"):
        TensorRtGraph(library, replace(plan, holds_host_code=False), HostPlace())
    assert not graph_for(trt, toy("two_banks"), "encoder", HostPlace())._held.runtime.engine_host_code_allowed


def test_a_dla_is_selected_before_its_engine_is_loaded(trt: Any, toy: Toy) -> None:
    plan = plan_for(toy("one_pool"), "encoder", needs_dla=True)
    library = Library("tensorrt", trt)
    with raises(EngineMismatch, "DLA"):
        TensorRtGraph(library, plan, HostPlace())
    TensorRtGraph(library, replace(plan, dla_core=0), HostPlace())


def test_without_a_gpu_there_is_no_runtime(trt: Any, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, logger: Any) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt.Runtime, "__init__", refuse)
    with raises(BackendUnavailable, "GPU"):
        graph_for(trt, toy("one_pool"), "encoder", HostPlace())


def test_a_context_that_finds_no_room_is_an_error(trt: Any, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt.ICudaEngine, "create_execution_context", lambda self: None)
    with raises(BackendError, "no room"):
        graph_for(trt, toy("one_pool"), "encoder", HostPlace())


@pytest.mark.parametrize(
    ("side", "change", "said"),
    [
        ("inputs", {"name": "film"}, "inputs ['film'] … ['clip']"),
        ("outputs", {"name": "question"}, "outputs ['question' … ['query'"),
        ("inputs", {"dtype": "float16"}, "'clip' … float16 … (-1, 4, 1, 32, 32) FLOAT"),
        ("inputs", {"shape": ("batch", 4, 1, 32, 33)}, "'clip' … ('batch', 4, 1, 32, 33) float32"),
        ("inputs", {"shape": (1, 4, 1, 32, 32)}, "'clip' … (1, 4, 1, 32, 32) float32 … (-1, 4,"),
        (
            "outputs",
            {"shape": ("batch", 16, 4, 5)},
            "'query' … ('batch', 16, 4, 5) float32 … (-1, 16, 4, 4)",
        ),
        ("outputs", {"shape": ("batch", 16, 16)}, "'query' … ('batch', 16, 16) float32"),
    ],
)
def test_an_engine_of_other_tensors_is_a_mismatch(trt: Any, toy: Toy, side: str, change: dict[str, Any], said: str) -> None:
    plan = plan_for(toy("one_pool"), "encoder")
    first, *others = getattr(plan.spec, side)
    wrong: tuple[TensorSpec, ...] = (replace(first, **change), *others)
    with raises(EngineMismatch, f"encoder.plan … {said}"):
        TensorRtGraph(Library("tensorrt", trt), replace(plan, spec=replace(plan.spec, **{side: wrong})), HostPlace())


def test_an_output_that_is_known_only_with_its_inputs_is_held_then(trt: Any, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    declared = trt.ICudaEngine.get_tensor_shape
    monkeypatch.setattr(
        trt.ICudaEngine, "get_tensor_shape", lambda self, name: trt.Dims((-1,) * 4) if name == "query" else declared(self, name)
    )
    monkeypatch.setattr(trt.IExecutionContext, "get_tensor_shape", lambda self, name: trt.Dims((1, 16, 4, 5)))
    graph = graph_for(trt, bundle, "encoder", place)
    with raises(BackendError, "output 'query' … (1, 16, 4, 4) … (1, 16, 4, 5)"):
        graph.run(uploaded(place, inputs_for(bundle, "encoder", 1)))


def test_a_graph_with_a_fixed_batch_takes_that_one(trt: Any, toy: Toy) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    plan = plan_for(bundle, "encoder")
    model = onnx.load_from_string(bundle.read(plan.spec))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    fixed = Plan(plan_of(model.SerializeToString(), largest_batch=9), plan.spec, "encoder.plan", "Rebuild it.")
    graph = TensorRtGraph(Library("tensorrt", trt), fixed, place)
    assert graph.largest_batch == 2
    assert graph.run(uploaded(place, inputs_for(bundle, "encoder", 2)))["query"].shape == (2, 16, 4, 4)


def test_what_tensorrt_made_goes_with_the_graph_and_the_last_first(trt: Any, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[str] = []
    for kind in (trt.Runtime, trt.ICudaEngine, trt.IExecutionContext):
        monkeypatch.setattr(kind, "__del__", lambda self: gone.append(type(self).__name__), raising=False)
    graph = graph_for(trt, toy("one_pool"), "encoder", HostPlace())
    assert gone == []
    del graph
    assert gone == ["IExecutionContext", "ICudaEngine", "Runtime"]


def test_an_address_that_tensorrt_may_not_be_given_is_named(trt: Any, toy: Toy) -> None:
    bundle, place = toy("one_pool"), HostPlace()
    graph = graph_for(trt, bundle, "encoder", place)
    clip = place.upload(inputs_for(bundle, "encoder", 1)["clip"])
    with raises(BackendError, "encoder.plan … 'clip' … 256 bytes"):
        graph.run({"clip": replace(clip, address=clip.address + 32)})
