from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.cuda.bank import CudaBank
from edge_runtime.devices.cuda.device import CudaDevice
from edge_runtime.devices.host import HostDevice
from edge_runtime.errors import BundleError
from edge_runtime.stream import Bank
from tests.kit.changed_bundles import rewrite_manifest, with_gate
from tests.kit.wording import raises

pytestmark = pytest.mark.pycuda

Toy = Callable[[str], Bundle]
TOYS = ("one_pool", "two_banks", "three_pools")


class Drive:
    """A bank on the device and one on the host, fed with the same queries; the device's lie in the same place each frame."""

    def __init__(self, device: CudaDevice, bundle: Bundle, dtype: type = np.float32, seed: int = 0) -> None:
        self.device = device
        self.banks: tuple[Bank, Bank] = (
            device.open_stream(bundle, "a", smoothing_frames=1).bank,
            HostDevice().open_stream(bundle, "a", smoothing_frames=1).bank,
        )
        outputs = bundle.manifest.precisions["fp32"].encoder.outputs
        queries = {pool.query for pool in bundle.manifest.pools}
        self.rng = np.random.default_rng(seed)
        self.centres = {tensor.name: self._noise((1, *tensor.shape[1:])) for tensor in outputs if tensor.name in queries}
        self.there = {name: device.allocate(centre.shape, dtype) for name, centre in self.centres.items()}
        self.score = device.allocate((1,), np.float32)
        self.dtype = dtype

    def frame(self, regular_score: float = 0.5, change: float = 0.3) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Everything that read and update give, of the device and of the host."""
        queries = {name: _unit(centre + change * self._noise(centre.shape)).astype(self.dtype) for name, centre in self.centres.items()}
        return self.give(queries, regular_score)

    def give(self, queries: dict[str, np.ndarray], regular_score: float = 0.5) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        ours, oracle = self.banks
        for name, query in queries.items():
            self._put(self.there[name], query)
        self._put(self.score, np.array([regular_score], np.float32))
        read = ours.read(self.there)
        reads = {name: self.device.download(array) for name, array in read.items()}
        update = ours.update(self.there, {"score/regular_score": self.score})
        [facts] = self.device.fetch([{**{name: array for name, array in read.items() if array.nbytes == 4}, **update}]).wait()
        wide = {name: query.astype(np.float32) for name, query in queries.items()}
        wanted = oracle.read(wide)
        learned = oracle.update(wide, {"score/regular_score": np.array([regular_score], np.float32)})
        return {**reads, **facts}, {**wanted, **learned}

    def assert_same_items(self, atol: float = 1e-5) -> None:
        ours, oracle = (bank.snapshot() for bank in self.banks)
        assert ours.keys() == oracle.keys()
        for name, items in ours.items():
            assert np.abs(items - oracle[name]).max() < atol

    def _put(self, array: DeviceArray, values: np.ndarray) -> None:
        self.device._gpu.upload(array.address, values)

    def _noise(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.normal(size=shape).astype(np.float32)


def _unit(query: np.ndarray) -> np.ndarray:
    return query / np.linalg.norm(query, axis=1, keepdims=True)


def assert_alike(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], atol: float = 1e-5) -> None:
    assert got.keys() == wanted.keys()
    for name, values in wanted.items():
        assert got[name].shape == values.shape
        assert np.allclose(got[name], values.astype(np.float32), rtol=1e-5, atol=atol), name


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", TOYS)
def test_a_bank_reads_and_learns_as_on_the_host(name: str, dtype: type, toy: Toy, device: CudaDevice) -> None:
    drive = Drive(device, toy(name), dtype)
    for number in range(150):
        got, wanted = drive.frame(regular_score=0.5 if number % 3 else 1.5)
        assert_alike(got, wanted)
    drive.assert_same_items()


@pytest.mark.parametrize("regular_score", [np.nan, np.inf, 1.0, np.nextafter(np.float32(1), np.float32(0))])
def test_the_gate_is_open_below_its_limit_only(regular_score: float, toy: Toy, device: CudaDevice) -> None:
    drive = Drive(device, with_gate(toy("one_pool"), 1.0))
    got, wanted = drive.frame(regular_score)
    assert_alike(got, wanted)
    assert bool(got["is_updated"][0]) is bool(regular_score < 1)


def test_past_the_drift_limit_a_step_is_discarded_and_the_bank_stays_frozen(toy: Toy, device: CudaDevice) -> None:
    bundle = toy("three_pools")
    bundle = rewrite_manifest(bundle.path, replace(bundle.manifest, update=replace(bundle.manifest.update, drift_limit=0.4)))
    drive = Drive(device, bundle)
    seen = []
    for _ in range(6):
        got, wanted = drive.frame()
        assert_alike(got, wanted)
        seen.append(bool(got["is_frozen"][0]))
        assert drive.banks[0].is_frozen is seen[-1]
    assert seen[-1] and got["drift"][0] <= 0.4
    drive.assert_same_items()
    drive.banks[0].unfreeze()
    drive.banks[1].unfreeze()
    assert_alike(*drive.frame(change=0.0))


def test_queries_that_are_no_numbers_freeze_the_bank_before_it_learns_them(toy: Toy, device: CudaDevice) -> None:
    drive = Drive(device, toy("one_pool"))
    drive.frame()
    kept = drive.banks[0].snapshot()
    drive.give({name: np.full_like(centre, np.nan) for name, centre in drive.centres.items()})
    assert drive.banks[0].is_frozen and drive.banks[1].is_frozen
    for name, items in drive.banks[0].snapshot().items():
        assert np.array_equal(items, kept[name])


def test_a_restored_bank_goes_on_from_there_and_a_reset_one_from_the_start(toy: Toy, device: CudaDevice) -> None:
    drive = Drive(device, toy("three_pools"))
    ours = drive.banks[0]
    shipped = ours.snapshot()
    for _ in range(5):
        drive.frame()
    kept = ours.snapshot()
    for _ in range(5):
        drive.frame()
    for bank in drive.banks:
        bank.restore(kept)
    got, wanted = drive.frame(regular_score=2.0)  # not learned: the drift is that of what was restored
    assert_alike(got, wanted)
    assert got["drift"][0] > 0
    for bank in drive.banks:
        bank.reset()
    got, wanted = drive.frame(regular_score=2.0)
    assert_alike(got, wanted)
    for name, items in ours.snapshot().items():
        assert np.array_equal(items, shipped[name])


def test_items_that_do_not_fit_are_refused_and_change_nothing(toy: Toy, device: CudaDevice) -> None:
    bank = device.open_stream(toy("one_pool"), "a", smoothing_frames=1).bank
    before = bank.snapshot()
    with raises(BundleError, "restore"):
        bank.restore({"memory": np.zeros((3, 15), np.float32)})
    assert np.array_equal(bank.snapshot()["memory"], before["memory"])


def test_queries_that_were_not_read_are_addressed_before_they_are_learned(toy: Toy, device: CudaDevice) -> None:
    drive = Drive(device, toy("three_pools"))
    ours, oracle = drive.banks
    drive.frame()
    queries = {name: _unit(centre) for name, centre in drive.centres.items()}
    elsewhere = {name: device.upload(query) for name, query in queries.items()}
    score = np.array([0.5], np.float32)
    ours.update(elsewhere, {"score/regular_score": device.upload(score)})
    oracle.update(queries, {"score/regular_score": score})
    drive.assert_same_items()


def test_two_banks_share_nothing(toy: Toy, device: CudaDevice) -> None:
    bundle = toy("one_pool")
    first, second = Drive(device, bundle, seed=1), Drive(device, bundle, seed=2)
    for _ in range(5):
        assert_alike(*first.frame())
        assert_alike(*second.frame())
    first.assert_same_items()
    second.assert_same_items()
    assert isinstance(first.banks[0], CudaBank)


def test_two_runs_are_equal_to_the_bit(toy: Toy, device: CudaDevice) -> None:
    bundle = toy("three_pools")
    runs = []
    for _ in range(2):
        drive = Drive(device, bundle)
        seen = [drive.frame()[0] for _ in range(10)]
        runs.append([values.tobytes() for got in seen for values in got.values()])
    assert runs[0] == runs[1]


def test_engines_that_change_their_buffers_all_the_time_do_not_fill_the_memory(toy: Toy, device: CudaDevice) -> None:
    drive = Drive(device, toy("one_pool"))
    bank = drive.banks[0]
    for _ in range(100):
        drive.there = {name: device.allocate(array.shape, array.dtype) for name, array in drive.there.items()}
        assert_alike(*drive.frame())
    assert isinstance(bank, CudaBank)
    assert len(bank._prepared_reads) <= 16 and len(bank._prepared_updates) <= 16
