from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime import Bundle
from edge_runtime.bundle.manifest import GraphSpec, TensorSpec
from edge_runtime.errors import BackendError, BundleError, IntegrityError, ShapeError
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from tests.kit.wording import raises

Toy = Callable[[str], Bundle]


def encoder_of(bundle: Bundle) -> GraphSpec:
    return bundle.precision("fp32").encoder


def put_encoder(bundle: Bundle, content: bytes) -> GraphSpec:
    """The encoder's description with other bytes in its file and their right hash."""
    spec = encoder_of(bundle)
    (bundle.path / spec.file).write_bytes(content)
    return replace(spec, sha256=hashlib.sha256(content).hexdigest())


def clips(count: int = 1) -> np.ndarray:
    return np.zeros((count, 4, 1, 32, 32), np.float32)


@pytest.mark.parametrize("count", [1, 3])
def test_it_gives_what_the_manifest_names_for_any_batch(count: int, toy: Toy) -> None:
    bundle = toy("one_pool")
    outputs = OnnxRuntimeGraph(bundle, encoder_of(bundle)).run({"clip": clips(count), "another": np.zeros(1)})
    wanted = {tensor.name: (count, *tensor.shape[1:]) for tensor in encoder_of(bundle).outputs}
    assert {name: array.shape for name, array in outputs.items()} == wanted
    assert all(array.dtype == np.float32 for array in outputs.values())


@pytest.mark.parametrize("length", [0, 10, 1000, -1])
def test_a_truncated_graph_is_a_bundle_error(length: int, toy: Toy) -> None:
    bundle = toy("one_pool")
    spec = put_encoder(bundle, (bundle.path / encoder_of(bundle).file).read_bytes()[:length])
    with raises(BundleError, "encoder.fp32.onnx … ONNX Runtime says"):
        OnnxRuntimeGraph(bundle, spec)


def test_a_truncated_graph_without_its_hash_is_an_integrity_error(toy: Toy) -> None:
    bundle = toy("one_pool")
    put_encoder(bundle, b"onnx")
    with raises(IntegrityError, "SHA-256"):
        OnnxRuntimeGraph(bundle, encoder_of(bundle))


@pytest.mark.parametrize(
    ("inputs", "got"),
    [
        ({}, "nothing"),
        ({"clip": clips()[:, :3]}, "(1, 3, 1, 32, 32) float32"),
        ({"clip": clips()[0]}, "(4, 1, 32, 32) float32"),
        ({"clip": clips().astype(np.float64)}, "(1, 4, 1, 32, 32) float64"),
    ],
)
def test_a_wrong_input_is_named_with_what_was_expected_and_what_came(inputs: dict[str, np.ndarray], got: str, toy: Toy) -> None:
    bundle = toy("one_pool")
    graph = OnnxRuntimeGraph(bundle, encoder_of(bundle))
    with raises(ShapeError, f"encoder.fp32.onnx … input 'clip' … ('batch', 4, 1, 32, 32) float32 … {got}"):
        graph.run(inputs)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("change", [{"name": "other"}, {"dtype": "float16"}, {"shape": ("batch", 7)}])
def test_a_graph_whose_tensors_are_not_those_of_the_manifest_is_refused(side: str, change: dict[str, object], toy: Toy) -> None:
    bundle = toy("one_pool")
    spec = encoder_of(bundle)
    first, *others = getattr(spec, side)
    wrong: tuple[TensorSpec, ...] = (replace(first, **change), *others)
    with raises(BundleError, f"{spec.file} … graph has"):
        OnnxRuntimeGraph(bundle, replace(spec, **{side: wrong}))


def test_one_thread_and_many_give_the_same(toy: Toy) -> None:
    bundle = toy("one_pool")
    clip = np.random.default_rng(0).uniform(-1, 1, (1, 4, 1, 32, 32)).astype(np.float32)
    one, many = (OnnxRuntimeGraph(bundle, encoder_of(bundle), threads=threads).run({"clip": clip}) for threads in (1, None))
    assert np.allclose(one["query"], many["query"], atol=1e-6)


def test_what_onnx_runtime_cannot_decode_is_a_bundle_error_and_nothing_is_printed(toy: Toy, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = toy("one_pool")
    content = (bundle.path / encoder_of(bundle).file).read_bytes()
    for damaged in (content.replace(b"query", b"qu\xb0ry"), content.replace(b"Conv", b"C\xb0nv")):
        with raises(BundleError, "ONNX Runtime says"):
            OnnxRuntimeGraph(bundle, put_encoder(bundle, damaged))
    assert capfd.readouterr() == ("", "")


def test_a_graph_that_computes_another_shape_than_it_declares_is_a_backend_error(toy: Toy) -> None:
    bundle = toy("one_pool")
    graph = OnnxRuntimeGraph(bundle, encoder_of(bundle))
    first, *others = graph._outputs
    graph._outputs = (replace(first, shape=("batch", 16, 4, 5)), *others)
    with raises(BackendError, "output 'query' … ('batch', 16, 4, 5) float32 … (1, 16, 4, 4) float32"):
        graph.run({"clip": clips()})
