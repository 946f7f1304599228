"""The memory step on this machine's GPU against NumPy: every pool shape, number type and rule, and a long trajectory."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_check.memory_step import pool_bundle, unit_rows
from benchmarks.gpu_check.trajectory import OnDevice, are_near_ties, compare, trajectory_bundle, windows_of
from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import GateSpec
from edge_runtime.devices.cuda.device import CudaDevice
from edge_runtime.devices.host import HostDevice
from edge_runtime.stream import Bank
from export.tolerances import MEMORY_STEP
from tests.kit.agreement import assert_same_items

pytestmark = pytest.mark.gpu

BUNDLES = Path(__file__).parents[2] / "bundles"
POOLS = ((1024, 512, 10), (16384, 128, 10), (2048, 256, 2000))
ODD = ((1, 1, 1), (7, 3, 2), (33, 65, 17), (1025, 9, 129))


@pytest.fixture(scope="module")
def on_device(device: CudaDevice) -> OnDevice:
    """One place for each kind of query: what a device has given it does not take back."""
    return OnDevice(device)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("write_scale", ["all", "claimed"])
@pytest.mark.parametrize("rule", ["ema", "mnad", "none"])
@pytest.mark.parametrize("addressing", ["softmax", "hard_shrink"])
@pytest.mark.parametrize("shape", [*POOLS, *ODD], ids=str)
def test_reads_distances_and_items_are_those_of_numpy(
    shape: tuple[int, int, int],
    addressing: str,
    rule: str,
    write_scale: str,
    dtype: str,
    device: CudaDevice,
    on_device: OnDevice,
    tmp_path: Path,
) -> None:
    bundle = pool_bundle(tmp_path / "pool", shape, dtype, addressing=addressing, rule=rule, write_scale=write_scale)
    host, ours, name = bank_of(HostDevice(), bundle), bank_of(device, bundle), f"{shape} {dtype}"
    score = np.zeros(1, np.float32)
    for seed in (1, 2, 3):
        query = without_ties(queries_of(shape, dtype, seed), host.snapshot()["memory"])
        wanted = host.read({"query": query.astype(np.float32)})
        given = on_device.put({name: query, "score": score})
        uploaded, scores = {"query": given[name]}, {"score/regular_score": given["score"]}
        got = {name: device.download(array) for name, array in ours.read(uploaded).items()}
        assert np.abs(got["read"] - wanted["read"]).max() <= MEMORY_STEP
        assert got["distance/memory"] == pytest.approx(wanted["distance/memory"], rel=1e-4, abs=1e-9)
        learned = host.update({"query": query.astype(np.float32)}, {"score/regular_score": score})
        updated = {name: device.download(array) for name, array in ours.update(uploaded, scores).items()}
        assert bool(updated["is_updated"][0]) is bool(learned["is_updated"][0])
        assert float(updated["drift"][0]) == pytest.approx(float(learned["drift"][0]), abs=1e-5)
        assert_same_items(ours.snapshot(), host.snapshot(), MEMORY_STEP)


@pytest.mark.parametrize("shape", POOLS, ids=str)
def test_hundred_steps_are_equal_to_the_bit_in_two_banks(shape: tuple[int, int, int], device: CudaDevice, tmp_path: Path) -> None:
    bundle = pool_bundle(tmp_path / "pool", shape, "float32")
    uploaded = [{"query": device.upload(queries_of(shape, "float32", seed))} for seed in range(4)]
    score = {"score/regular_score": device.upload(np.zeros(1, np.float32))}
    items = []
    for _ in range(2):
        bank = bank_of(device, bundle)
        for i in range(100):
            bank.read(uploaded[i % 4])
            bank.update(uploaded[i % 4], score)
        items.append(bank.snapshot()["memory"])
    assert items[0].tobytes() == items[1].tobytes()
    assert items[0].tobytes() != bundle.read_items()["memory"].tobytes()


@pytest.mark.parametrize(("score", "is_updated"), [(0.4999999, True), (0.5, False), (np.nan, False), (np.inf, False), (-1.0, True)])
def test_the_gate_decides_on_the_device(score: float, is_updated: bool, device: CudaDevice, tmp_path: Path) -> None:
    bundle = pool_bundle(tmp_path / "pool", POOLS[0], "float32")
    bundle = replace(bundle, manifest=replace(bundle.manifest, gate=GateSpec(0.5)))
    bank = bank_of(device, bundle)
    query = {"query": device.upload(queries_of(POOLS[0], "float32", 1))}
    bank.read(query)
    updated = bank.update(query, {"score/regular_score": device.upload(np.array([score], np.float32))})
    assert bool(device.download(updated["is_updated"])[0]) is is_updated
    assert (bank.snapshot()["memory"].tobytes() != bundle.read_items()["memory"].tobytes()) is is_updated


@pytest.mark.onnxruntime
@pytest.mark.parametrize("rule", ["ema", "mnad"])
def test_a_trajectory_over_the_scene_keeps_to_numpy_and_to_its_bits(rule: str, device: CudaDevice) -> None:
    bundle = trajectory_bundle(BUNDLES / "synthetic-lite", rule)
    walk = compare(bundle, device, islice(windows_of(bundle, "synthetic:?frames=80&seed=3"), 60))
    assert walk.frames == 60
    assert walk.worst <= MEMORY_STEP or walk.near_ties, walk
    assert (walk.decided_otherwise, walk.differing_bits) == (0, 0)
    assert walk.learned > 0


@pytest.mark.onnxruntime
@pytest.mark.ped2
@pytest.mark.parametrize("rule", ["ema", "mnad"])
def test_500_real_frames_keep_to_numpy_and_to_their_bits(rule: str, device: CudaDevice, ped2: Path) -> None:
    bundle = trajectory_bundle(BUNDLES / "ped2-lite", rule)
    walk = compare(bundle, device, islice(windows_of(bundle, str(ped2 / "training" / "frames")), 500))
    assert walk.frames == 500
    assert walk.worst <= MEMORY_STEP or walk.near_ties, walk
    assert (walk.decided_otherwise, walk.differing_bits) == (0, 0)
    assert 100 < walk.learned < 500  # the gate did decide


def bank_of(device: CudaDevice | HostDevice, bundle: Bundle) -> Bank:
    return device.open_stream(bundle, "gate", smoothing_frames=1).bank


def queries_of(shape: tuple[int, int, int], dtype: str, seed: int) -> np.ndarray:
    """(1, D, K), unit columns."""
    queries, size, _ = shape
    return np.ascontiguousarray(unit_rows(queries, size, seed).T[None]).astype(dtype)


def without_ties(query: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Queries that lie between two items, where devices may choose either, replaced by one that does not."""
    tied = are_near_ties(items, query.astype(np.float32))
    query[:, :, tied] = query[:, :, [int(tied.argmin())]]
    return query
