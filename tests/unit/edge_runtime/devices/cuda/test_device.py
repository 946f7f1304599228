from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Bundle, Detector
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.cuda.device import CudaDevice
from edge_runtime.devices.cuda.driver import Gpu
from edge_runtime.devices.cuda.frame_upload import FrameUpload
from edge_runtime.errors import BackendError, BackendUnavailable, ShapeError
from edge_runtime.frames import Frame
from edge_runtime.run.state import StateStore
from edge_runtime.score import Score, Step
from edge_runtime.stream import Stream
from tests.kit.changed_bundles import rewrite_manifest
from tests.kit.cuda_driver.driver import ORDERS, StandIn
from tests.kit.cuda_driver.graph import stand_in_detector
from tests.kit.wording import raises

pytestmark = pytest.mark.pycuda

Toy = Callable[[str], Bundle]
TOYS = ("one_pool", "two_banks", "three_pools")
SPAN = {"one_pool": 5, "two_banks": 4, "three_pools": 3}
BASE = Frame(np.zeros((20, 24, 3), np.uint8), 0, 0.0, 1e9, "gate")


def frames_of(count: int, seed: int = 0, size: tuple[int, int] = (20, 24)) -> list[Frame]:
    """Pictures that drift from noise to noise, so that a frame is like the one before."""
    rng = np.random.default_rng(seed)
    scenes = rng.integers(0, 256, (count // 20 + 2, *size, 3)).astype(np.float32)
    images = [scenes[i // 20] * (1 - i % 20 / 20) + scenes[i // 20 + 1] * (i % 20 / 20) for i in range(count)]
    return [replace(BASE, image=image.astype(np.uint8), index=i, time_s=i / 10) for i, image in enumerate(images)]


def gated(bundle: Bundle, drift_limit: float = 2.0) -> Bundle:
    """With a gate that about half of the frames pass."""
    detector = Detector.open(bundle)
    stream = detector.open_stream()
    scores = [score.regular_score for frame in frames_of(60) if (score := detector.step([(stream, frame)])[0].score)]
    manifest = bundle.manifest
    return rewrite_manifest(
        bundle.path,
        replace(
            manifest,
            gate=replace(manifest.gate, limit=float(np.median(scores))),
            update=replace(manifest.update, drift_limit=drift_limit),
        ),
    )


def run(detector: Detector, stream: Stream, frames: Sequence[Frame], in_flight: int = 1) -> list[Score]:
    """All scores, with so many steps submitted before the first is collected."""
    submitted = deque()
    scores = []
    for frame in frames:
        submitted.append(detector.submit([(stream, frame)]))
        if len(submitted) == in_flight:
            scores += scores_of(detector.collect(submitted.popleft()))
    while submitted:
        scores += scores_of(detector.collect(submitted.popleft()))
    return scores


def scores_of(steps: Sequence[Step]) -> list[Score]:
    return [step.score for step in steps if step.score is not None]


def facts(scores: Sequence[Score]) -> np.ndarray:
    rows = [(s.psnr_db, s.local_error, s.regular_score, *s.distances.values(), s.score, s.memory.drift) for s in scores]
    return np.array(rows, np.float64)


def assert_alike(got: Sequence[Score], wanted: Sequence[Score]) -> None:
    assert [score.frame for score in got] == [score.frame for score in wanted]
    assert [score.memory_updated for score in got] == [score.memory_updated for score in wanted]
    assert np.allclose(facts(got), facts(wanted), rtol=2e-4, atol=2e-5)


def are_alike(got: Sequence[Score], wanted: Sequence[Score]) -> bool:
    return len(got) == len(wanted) and np.allclose(facts(got), facts(wanted), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("is_integrated", [False, True])
@pytest.mark.parametrize("name", TOYS)
def test_hundreds_of_frames_are_scored_and_learned_as_on_the_host(name: str, is_integrated: bool, toy: Toy, stand_in: StandIn) -> None:
    bundle, frames = gated(toy(name)), frames_of(200)
    host = Detector.open(bundle)
    there = host.open_stream("gate")
    wanted = run(host, there, frames)
    stand_in.set_up(is_integrated=is_integrated)
    with CudaDevice() as device:
        assert device.is_integrated is is_integrated
        detector = stand_in_detector(stand_in, bundle, device)
        stream = detector.open_stream("gate")
        got = run(detector, stream, frames)
        assert_alike(got, wanted)
        for pool, items in there.bank.snapshot().items():
            assert np.abs(stream.bank.snapshot()[pool] - items).max() < 1e-4
        assert (stand_in.count("uploads_bytes") > 200 * 20 * 24 * 3) is not is_integrated
    if name != "two_banks":
        assert 20 < sum(score.memory_updated for score in wanted) < 180


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_whenever_the_gpu_works_and_however_many_steps_are_in_flight_the_numbers_are_the_same(
    in_flight: int, order: str, toy: Toy, stand_in: StandIn
) -> None:
    bundle, frames = gated(toy("one_pool")), frames_of(60)
    host = Detector.open(bundle)
    wanted = run(host, host.open_stream("gate"), frames)
    stand_in.order(order, seed=in_flight)
    with CudaDevice() as device:
        detector = stand_in_detector(stand_in, bundle, device)
        detector.keeps_error_maps = True
        got = run(detector, detector.open_stream("gate"), frames, in_flight)
    assert_alike(got, wanted)


@pytest.mark.parametrize("name", TOYS)
def test_error_maps_come_down_with_the_numbers_and_are_the_callers_own(name: str, toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    bundle, frames = toy(name), frames_of(12)
    host, detector = Detector.open(bundle), stand_in_detector(stand_in, bundle, device)
    host.keeps_error_maps = detector.keeps_error_maps = True
    wanted = run(host, host.open_stream(), frames)
    for got, want in zip(run(detector, detector.open_stream(), frames), wanted, strict=True):
        assert got.error_map is not None and want.error_map is not None
        assert np.allclose(got.error_map, want.error_map, atol=1e-5)


def test_submitting_waits_for_nothing_and_collecting_waits_once(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    detector = stand_in_detector(stand_in, toy("three_pools"), device)
    streams = [detector.open_stream(name) for name in ("a", "b")]
    for frame in frames_of(12):
        stand_in.clear()
        submitted = detector.submit([(stream, frame) for stream in streams])
        assert stand_in.count("synchronisations") == 0
        scores = scores_of(detector.collect(submitted))
        assert stand_in.count("synchronisations") == (1 if scores else 0)


def test_many_groups_of_streams_in_flight_are_not_waited_for_either(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    bundle, frames = toy("two_banks"), frames_of(9)
    host, detector = Detector.open(bundle), stand_in_detector(stand_in, bundle, device)
    detector._largest_batch = 1  # as with graphs of a fixed batch
    streams = [detector.open_stream(str(i)) for i in range(6)]
    for frame in frames[:4]:
        detector.step([(stream, frame) for stream in streams])
    stand_in.clear()
    submitted = [detector.submit([(stream, frame) for stream in streams]) for frame in frames[4:6]]
    assert stand_in.count("synchronisations") == 0
    wanted = run(host, host.open_stream(), frames[:6])[1:]
    collected = [scores_of(detector.collect(step)) for step in submitted]
    del submitted  # and with it the marks
    for scores, want in zip(collected, wanted, strict=True):
        assert len(scores) == len(streams) and all(are_alike([score], [want]) for score in scores)
    stand_in.clear()
    for frame in frames[6:]:
        detector.step([(stream, frame) for stream in streams])
    assert not {"allocations", "pinned_allocations", "event_creations"} & stand_in.counts().keys()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_bundle_that_ships_is_scored_as_on_the_host(precision: str, stand_in: StandIn, device: CudaDevice) -> None:
    bundle, frames = Bundle.load("bundles/ped2-lite"), frames_of(14, size=(240, 360))
    host, detector = Detector.open(bundle, precision=precision), stand_in_detector(stand_in, bundle, device, precision)
    assert_alike(run(detector, detector.open_stream(), frames, in_flight=2), run(host, host.open_stream(), frames))


def test_a_thousand_steady_frames_allocate_nothing(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    detector = stand_in_detector(stand_in, gated(toy("one_pool")), device)
    stream = detector.open_stream()
    detector.keeps_error_maps = True
    frames = [replace(frame, index=i, time_s=i / 10) for i, frame in enumerate(frames_of(20) * 55)]
    run(detector, stream, frames[:50], in_flight=2)
    stand_in.clear()
    tracemalloc.start()
    collect_each(detector, stream, frames[50:150])
    before = allocated_by_the_device()
    collect_each(detector, stream, frames[150:1050])
    grown = allocated_by_the_device() - before
    tracemalloc.stop()
    kept = stand_in.counts()
    assert not {"allocations", "frees", "pinned_allocations", "pinned_frees", "event_creations", "pageable_copies"} & kept.keys()
    assert kept["synchronisations"] == kept["uploads"] == 1000
    assert grown < 1_000  # bytes


def collect_each(detector: Detector, stream: Stream, frames: Sequence[Frame]) -> None:
    for frame in frames:
        detector.collect(detector.submit([(stream, frame)]))


def allocated_by_the_device() -> int:
    gc.collect()
    ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/edge_runtime/devices/*")])
    return sum(trace.size for trace in ours.traces)


def test_a_stream_is_scored_the_same_alone_and_in_a_batch(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    detector = stand_in_detector(stand_in, gated(toy("three_pools")), device)
    films = [frames_of(40, seed=seed, size=size) for seed, size in ((1, (20, 24)), (2, (33, 47)), (3, (16, 16)))]
    alone = [run(detector, detector.open_stream(), film) for film in films]
    streams = [detector.open_stream(str(i)) for i in range(3)]
    steps = [detector.step(list(zip(streams, frames, strict=True))) for frames in zip(*films, strict=True)]
    for i, wanted in enumerate(alone):
        got = scores_of([step[i] for step in steps])
        assert_alike(got, wanted)
        assert [score.memory_updated for score in got] == [score.memory_updated for score in wanted]


def test_a_picture_of_another_size_empties_the_window_and_goes_on(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    bundle = toy("one_pool")
    sizes = ((20, 24), (64, 64), (20, 24), (7, 5))
    film = [frame for seed, size in enumerate(sizes) for frame in frames_of(9, seed, size)]
    film = [replace(frame, index=i, time_s=i / 10) for i, frame in enumerate(film)]
    host, detector = Detector.open(bundle), stand_in_detector(stand_in, bundle, device)
    got = run(detector, detector.open_stream(), film, in_flight=2)
    assert_alike(got, run(host, host.open_stream(), film))
    assert len(got) == 4 * (9 - 4)


def test_results_that_are_forgotten_cost_nothing(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    bundle, frames = toy("one_pool"), frames_of(30)
    host, detector = Detector.open(bundle), stand_in_detector(stand_in, bundle, device)
    stream = detector.open_stream()
    run(detector, stream, frames[:10])
    stand_in.clear()
    for frame in frames[10:29]:
        detector.submit([(stream, frame)])  # nobody collects it
    assert not {"pinned_allocations", "event_creations"} & stand_in.counts().keys()
    wanted = run(host, host.open_stream(), frames)
    [score] = scores_of(detector.step([(stream, frames[29])]))
    assert np.allclose(facts([score])[0, :4], facts(wanted[-1:])[0, :4], rtol=2e-4, atol=2e-5)


def test_results_that_are_collected_late_are_kept_until_then(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    bundle, frames = toy("one_pool"), frames_of(20)
    host, detector = Detector.open(bundle), stand_in_detector(stand_in, bundle, device)
    assert_alike(run(detector, detector.open_stream(), frames, in_flight=20), run(host, host.open_stream(), frames))


def test_the_bank_freezes_past_its_drift_limit_and_the_host_learns_of_it(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    bundle, frames = gated(toy("one_pool"), drift_limit=0.002), frames_of(80)
    host, detector = Detector.open(bundle), stand_in_detector(stand_in, bundle, device)
    there, stream = host.open_stream(), detector.open_stream()
    assert_alike(run(detector, stream, frames), run(host, there, frames))
    assert there.bank.is_frozen and stream.bank.is_frozen


def test_freeze_and_unfreeze_hold_from_the_next_frame_also_with_one_in_flight(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    detector = stand_in_detector(stand_in, toy("one_pool"), device)
    stream = detector.open_stream()
    frames = frames_of(9)
    run(detector, stream, frames[:5])
    pending = detector.submit([(stream, frames[5])])
    stream.bank.freeze()
    [before] = scores_of(detector.collect(pending))
    assert before.memory_updated
    assert stream.bank.is_frozen
    pending = detector.submit([(stream, frames[6])])
    stream.bank.unfreeze()
    [during] = scores_of(detector.collect(pending))
    assert not during.memory_updated
    assert not stream.bank.is_frozen
    [after] = scores_of(detector.step([(stream, frames[7])]))
    assert after.memory_updated


def test_a_saved_state_goes_on_where_it_was(toy: Toy, tmp_path: Path, stand_in: StandIn, device: CudaDevice) -> None:
    bundle, frames = gated(toy("three_pools")), frames_of(40)
    detector = stand_in_detector(stand_in, bundle, device)
    stream, other = detector.open_stream("a"), detector.open_stream("a")
    run(detector, stream, frames[:20])
    stream.bank.freeze()
    StateStore(tmp_path, "a", bundle).save(stream.bank)
    assert StateStore(tmp_path, "a", bundle).load(other.bank)
    assert other.bank.is_frozen
    for pool, items in stream.bank.snapshot().items():
        assert np.array_equal(other.bank.snapshot()[pool], items)
    host = Detector.open(bundle)
    on_host = host.open_stream("a")
    assert StateStore(tmp_path, "a", bundle).load(on_host.bank)
    assert_alike(run(detector, other, frames[20:]), run(host, on_host, frames[20:]))


def test_cameras_that_come_and_go_find_their_memory_again(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    detector = stand_in_detector(stand_in, toy("one_pool"), device)
    frames = frames_of(8)
    first = run(detector, detector.open_stream(), frames)
    stand_in.clear()
    for _ in range(5):
        assert_alike(run(detector, detector.open_stream(), frames), first)
    assert not {"allocations", "pinned_allocations", "event_creations"} & stand_in.counts().keys()


def test_the_gpus_time_is_told_by_stage(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    detector = stand_in_detector(stand_in, toy("one_pool"), device)
    for score in run(detector, detector.open_stream(), frames_of(8), in_flight=2):
        latency = score.latency_ms
        assert min(latency.preprocess, latency.encoder, latency.memory, latency.decoder) > 0
        assert latency.total >= latency.preprocess + latency.encoder + latency.memory + latency.decoder - 1e-3


# What the stand-in is for: each wait that is left out must show as wrong numbers, in one of the orders at least.
def upload_is_not_waited_for(gpu: type[Gpu], patch: pytest.MonkeyPatch) -> None:
    hold_back = gpu.hold_back
    patch.setattr(gpu, "hold_back", lambda self, stream, event: hold_back(self, stream, event) if stream is self.copying else None)


def reading_is_not_waited_for(gpu: type[Gpu], patch: pytest.MonkeyPatch) -> None:
    hold_back = gpu.hold_back
    patch.setattr(gpu, "hold_back", lambda self, stream, event: hold_back(self, stream, event) if stream is self.compute else None)


def results_are_not_waited_for(gpu: type[Gpu], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gpu, "wait", lambda self, event: None)
    patch.setattr(gpu, "ms_between", lambda self, first, second: 1.0)


def pinned_memory_is_never_busy(gpu: type[Gpu], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gpu, "has_happened", lambda self, event: True)


@pytest.mark.parametrize(
    "mutate", [upload_is_not_waited_for, reading_is_not_waited_for, results_are_not_waited_for, pinned_memory_is_never_busy]
)
def test_a_wait_that_is_left_out_shows(
    mutate: Callable[[type[Gpu], pytest.MonkeyPatch], None], toy: Toy, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, frames = toy("one_pool"), frames_of(24)
    host = Detector.open(bundle)
    wanted = run(host, host.open_stream(), frames)
    mutate(Gpu, monkeypatch)
    outcomes = []
    for order in ORDERS:
        stand_in.order(order, seed=1)
        with CudaDevice() as device:
            detector = stand_in_detector(stand_in, bundle, device)
            try:
                outcomes.append(are_alike(run(detector, detector.open_stream(), frames, in_flight=8), wanted))
            except BackendError:  # not even numbers
                outcomes.append(False)
    assert not all(outcomes)


def test_arrays_go_up_and_come_down(device: CudaDevice) -> None:
    array = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    there = device.upload(array)
    assert there == DeviceArray(there.address, (2, 3, 4), np.dtype(np.float16)) and there.address % 256 == 0
    assert np.array_equal(device.download(there), array)
    assert np.array_equal(device.download(there.row(1)), array[1:])


def test_closing_frees_everything_and_may_be_repeated(toy: Toy, stand_in: StandIn) -> None:
    device = CudaDevice()
    detector = stand_in_detector(stand_in, toy("one_pool"), device)
    stream = detector.open_stream()
    run(detector, stream, frames_of(7))
    pending = detector.submit([(stream, frames_of(8)[7])])
    device.close()
    device.close()
    assert stand_in.alive() == {} and stand_in.count("leaked") == 0
    for call in (lambda: detector.step([(stream, frames_of(9)[8])]), lambda: detector.collect(pending)):
        with raises(BackendError, "closed"):
            call()


def test_a_detector_closes_its_device_and_may_be_used_in_a_with(toy: Toy, stand_in: StandIn) -> None:
    with stand_in_detector(stand_in, toy("one_pool"), CudaDevice()) as detector:
        stream = detector.open_stream()
        run(detector, stream, frames_of(7))
    assert stand_in.alive() == {} and stand_in.count("leaked") == 0
    detector.close()
    with raises(BackendError, "closed"):
        detector.step([(stream, frames_of(8)[7])])


def in_another_thread(action: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1, "worker") as pool:
        pool.submit(action).result()


def test_another_thread_is_refused_and_told_so(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    detector = stand_in_detector(stand_in, toy("one_pool"), device)
    stream = detector.open_stream()
    for action in (detector.open_stream, lambda: detector.step([(stream, BASE)]), device.close):
        with raises(BackendError, "worker_0"):
            in_another_thread(action)
    run(detector, detector.open_stream(), frames_of(7))


def test_a_device_is_closed_when_its_thread_ends(stand_in: StandIn) -> None:
    devices: list[CudaDevice] = []
    in_another_thread(lambda: devices.append(CudaDevice()))
    assert stand_in.alive() == {} and stand_in.count("leaked") == 0
    with raises(BackendError, "closed"):
        devices[0].mark()


def test_a_device_that_another_thread_drops_lives_until_its_own_ends(stand_in: StandIn) -> None:
    devices: list[CudaDevice] = []
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: devices.append(CudaDevice())).result()
        devices.clear()
        assert stand_in.count("live_contexts") == 1
    assert stand_in.alive() == {} and stand_in.count("leaked") == 0


def test_where_memory_is_full_results_and_pictures_keep_what_they_have(toy: Toy, stand_in: StandIn, device: CudaDevice) -> None:
    detector = stand_in_detector(stand_in, toy("one_pool"), device)
    stream = detector.open_stream()
    detector.keeps_error_maps = True
    run(detector, stream, frames_of(6))
    number, small, large = (device.upload(np.full(count, 3, np.float32)) for count in (1, 100, 1 << 16))
    stand_in.limit_memory(1)
    with raises(BackendError, "pin"):
        device.fetch([{"number": number, "map": large}])
    picture = frames_of(1, size=(600, 800))[0]
    with raises(BackendError, "pin"):
        stream.push(picture)
    stand_in.limit_memory(8 << 30)
    [values] = device.fetch([{"number": number, "map": small}]).wait()
    assert values["number"][0] == values["map"][0] == 3


def test_a_picture_for_which_the_device_has_no_memory_is_refused_again_and_again(stand_in: StandIn, device: CudaDevice) -> None:
    upload = FrameUpload(device._gpu)
    picture = np.zeros((100, 100, 3), np.uint8)
    stand_in.clear()
    stand_in.limit_memory(40_000)  # for the pinned half
    for _ in range(2):
        with raises(BackendError, "free memory"):
            upload.begin(picture)
    assert stand_in.count("live_pinned") == 0
    stand_in.limit_memory(8 << 30)
    assert upload.begin(picture)
    upload.end()


def test_an_array_is_overwritten_by_one_of_its_size(device: CudaDevice) -> None:
    there = device.upload(np.zeros((2, 3), np.float32))
    device.overwrite(there, np.ones((2, 3), np.float32))
    assert (device.download(there) == 1).all()
    for array in (np.ones((3, 3), np.float32), np.ones((2, 3))):
        with raises(ShapeError, "(2, 3) float32"):
            device.overwrite(there, array)


def test_a_device_that_nobody_has_any_more_is_closed(stand_in: StandIn) -> None:
    device = CudaDevice()
    assert stand_in.alive()
    del device
    assert stand_in.alive() == {}


def test_work_that_fails_is_a_backend_error_and_closing_still_frees(stand_in: StandIn) -> None:
    with CudaDevice() as device:
        wrong = DeviceArray(0x1000, (1,), np.dtype(np.float32))
        freed = DeviceArray(device.upload(np.zeros(1, np.float32)).address + (1 << 35), (1,), np.dtype(np.float32))
        with raises(BackendError, "stand-in GPU … --device cpu"):
            device.download(wrong)
        fetched = device.fetch([{"distance/memory": freed}])
        with raises(BackendError, "live device"):
            fetched.wait()
    stand_in.clear()  # a context that broke frees nothing but as a whole


def test_a_full_gpu_is_told_with_what_to_do(toy: Toy, stand_in: StandIn) -> None:
    stand_in.set_up(memory_bytes=1 << 20)
    with CudaDevice() as device, raises(BackendError, "16 MiB … streams"):
        device.open_stream(toy("one_pool"), "a", smoothing_frames=1)


def test_no_gpu_is_told_with_the_drivers_reason(stand_in: StandIn) -> None:
    stand_in.set_up(devices=0)
    with raises(BackendUnavailable, "CUDA … GPU 0 … cuInit … --device cpu"):
        CudaDevice()
    stand_in.set_up(devices=1)
    with raises(BackendUnavailable, "GPU 3"):
        CudaDevice(3)


def test_a_program_that_ends_without_closing_ends_cleanly(stand_in: StandIn) -> None:
    program = (
        "from tests.kit.cuda_driver.driver import load; load()\n"
        "from edge_runtime.devices.cuda.device import CudaDevice\n"
        "device = CudaDevice(); device.mark(); print(device.gpu)"
    )
    assert_ends_cleanly(program)


def test_a_program_whose_thread_left_a_device_open_ends_cleanly(stand_in: StandIn) -> None:
    assert_ends_cleanly(
        "from tests.kit.cuda_driver.driver import load; load()\n"
        "from threading import Thread\n"
        "from edge_runtime.devices.cuda.device import CudaDevice\n"
        "devices = []\n"
        "thread = Thread(target=lambda: devices.append(CudaDevice())); thread.start(); thread.join()\n"
        "print(devices[0].gpu)"
    )


def assert_ends_cleanly(program: str) -> None:
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "stand-in GPU\n", "")
