"""The NumPy memory against the equations: independent trajectories, every item, read and decision compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime import Bundle, open_source
from edge_runtime.bundle.manifest import GateSpec, PoolSpec, UpdateSpec
from edge_runtime.devices.host import HostDevice
from edge_runtime.devices.host_memory import HostBank
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from edge_runtime.stream import Arrays
from tests.kit.reference_memory import ReferenceMemory, regular_score

BUNDLE = Path(__file__).parents[4] / "bundles" / "ped2-lite"
RULES = ("mnad", "ema")
TOLERANCE = 1e-6


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Many small products: waiting threads would cost more than they give, on a busy machine thirty times more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.ped2
def test_500_real_frames_with_updates_give_the_items_reads_and_decisions_of_the_equations(ped2: Path) -> None:
    bundle = Bundle.load(BUNDLE)
    graphs = bundle.precision("fp32")
    encoder, decoder = OnnxRuntimeGraph(bundle, graphs.encoder), OnnxRuntimeGraph(bundle, graphs.decoder)
    pairs = [pair_of(bundle, rule, bundle.manifest.update.write_scale) for rule in RULES]
    decisions = []
    for windows in islice(windows_of(bundle, ped2 / "training" / "frames"), 500):
        encoded = encoder.run(windows)
        for host, reference in pairs:
            read = compared_read(host, reference, encoded)
            decoded = decoder.run({**windows, **encoded, **read})
            is_updated = bool(host.update(encoded, decoded)["is_updated"][0])
            score = regular_score(torch.from_numpy(decoded["prediction"]), torch.from_numpy(windows["target"]))
            assert reference.update(torch.from_numpy(encoded["query"]), score) is is_updated
            compare_items(host, reference)
            decisions.append(is_updated)
    assert len(decisions) == 1000
    assert 500 < sum(decisions) < 1000  # the gate did decide


@pytest.mark.parametrize("write_scale", ["all", "claimed"])
@pytest.mark.parametrize("rule", RULES)
def test_random_queries_of_the_full_size_model_give_the_items_of_the_equations(
    rule: str, write_scale: str, toy: Callable[[str], Bundle]
) -> None:
    rng = np.random.default_rng(11)
    pool = PoolSpec("memory", "query", "read", "softmax", rule)
    update = UpdateSpec(rate=0.1, write_scale=write_scale, drift_limit=2.0)
    manifest = replace(toy("one_pool").manifest, pools=(pool,), update=update, gate=GateSpec(0.5))
    items = unit(rng.normal(size=(10, 512)), axis=1)
    host = HostBank(manifest, {"memory": items})
    reference = ReferenceMemory(torch.from_numpy(items), rule=rule, rate=0.1, write_scale=write_scale, limit=0.5)
    for score in (0.1, 0.5, 0.2, 0.4999, 0.9, 0.0):
        encoded = {"query": unit(rng.standard_normal((1, 512, 32, 32), np.float32), axis=1)}
        compared_read(host, reference, encoded)
        is_updated = bool(host.update(encoded, {"score/regular_score": np.array([score], np.float32)})["is_updated"][0])
        assert reference.update(torch.from_numpy(encoded["query"]), score) is is_updated
        compare_items(host, reference)


def pair_of(bundle: Bundle, rule: str, write_scale: str) -> tuple[HostBank, ReferenceMemory]:
    """Both memories with the shipped items; the drift limit is out of the way, the equations have none."""
    [pool] = bundle.manifest.pools
    update = replace(bundle.manifest.update, write_scale=write_scale, drift_limit=2.0)
    items = bundle.read_items()
    host = HostBank(replace(bundle.manifest, pools=(replace(pool, update=rule),), update=update), items)
    reference = ReferenceMemory(
        torch.from_numpy(items[pool.name]),
        rule=rule,
        rate=update.rate,
        write_scale=write_scale,
        limit=bundle.manifest.gate.limit,
    )
    return host, reference


def windows_of(bundle: Bundle, footage: Path) -> Iterator[dict[str, np.ndarray]]:
    """`clip` and `target` of every full window."""
    stream = HostDevice().open_stream(bundle, "reference", smoothing_frames=1)
    for frame in open_source(str(footage), fps=bundle.manifest.fps):
        if stream.push(frame).target is not None:
            yield dict(stream.ring.view(stream.window.start))


def compared_read(host: HostBank, reference: ReferenceMemory, encoded: Arrays) -> Arrays:
    """What the bank reads, after a look at what the equations read."""
    query = torch.from_numpy(encoded["query"])
    results = host.read(encoded)
    assert np.abs(results["read"] - reference.read(query).numpy()).max() <= TOLERANCE
    assert results["distance/memory"][0] == pytest.approx(reference.distance(query), rel=1e-5)
    return results


def compare_items(host: HostBank, reference: ReferenceMemory) -> None:
    assert np.abs(host.snapshot()["memory"] - reference.items.numpy()).max() <= TOLERANCE


def unit(values: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(values / np.linalg.norm(values, axis=axis, keepdims=True), np.float32)
