"""Whole frames through one backend, against its engines alone: back to back, on the same device, in the same run, in turn."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.model import PRECISION, bundle_in
from benchmarks.gpu_check.settings import Settings
from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.frames import Frame
from edge_runtime.loading import load
from edge_runtime.score import Score
from edge_runtime.sources import open_source
from edge_runtime.stream import Arrays, Device, FrameRing, Graph, Stream

__all__ = ["Bench", "camera", "measure", "open_bench"]

AHEAD = 2  # steps in flight
DISTINCT = 16  # pictures that take turns: none is decoded or drawn in a timed path
WIDTH, HEIGHT = 512, 512
ALLOCATING = ("mem_alloc", "mem_alloc_pitch", "pagelocked_empty", "pagelocked_zeros", "register_host_memory")
MEGABYTE = 1e6


@dataclass(frozen=True)
class Bench:
    """A detector whose engines can also be run alone.

    Attributes:
        frames: without an end.
        engines: runs both graphs once more on what they were given last.
    """

    detector: Detector
    stream: Stream
    frames: Iterator[Frame]
    engines: Callable[[], Arrays]

    @property
    def device(self) -> Device:
        return self.detector.device

    def step(self) -> Score | None:
        [step] = self.detector.step([(self.stream, next(self.frames))])
        return step.score


class Recorded:
    """A graph that keeps what it was given last: arrays on the device, which stay where they are."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._inputs: Arrays = {}

    def run(self, inputs: Arrays) -> Arrays:
        self._inputs = inputs
        return self._graph.run(inputs)

    def again(self) -> Arrays:
        return self._graph.run(self._inputs)


def measure(settings: Settings, work: Path, findings: Findings, backend: str) -> None:
    """Rows: pipelined rate, single frame, allocations."""
    bench = open_bench(bundle_in(work), backend)
    size = f"{settings.side}x{settings.side}x3 {PRECISION}, width {settings.width}"
    blocks = f"{settings.blocks} blocks of {settings.block_frames} in turn, medians"
    how = f"{size}; {WIDTH}x{HEIGHT} frames in host memory, memory updating; {blocks}"
    ours_ms, alone_ms, single_ms, picture_ms = [], [], [], []
    ring = bench.detector.open_stream("picture").ring
    for _ in range(settings.blocks):
        ours_ms.append(_pipelined_ms(bench, settings.block_frames))
        alone_ms.append(_alone_ms(bench, settings.block_frames))
        single_ms.append(_single_ms(bench, settings.block_frames))
        picture_ms.append(_picture_ms(ring, bench.frames, settings.block_frames))
    ratio = median(alone / ours for ours, alone in zip(ours_ms, alone_ms, strict=True))
    beyond_us = 1e3 * median(single - alone for single, alone in zip(single_ms, alone_ms, strict=True))
    in_flight = f"{how}; {AHEAD} steps in flight; engines back to back"
    findings.row(f"{backend}, frames per second pipelined ÷ engines alone", ratio, 0.9, "ratio", "higher", in_flight)
    one_by_one = (
        f"{how}; host frame in to score out by the host's clock, engines back to back by GPU events; the picture's way to the GPU, "
        "which is a row of its own, is in it"
    )
    findings.row(f"{backend}, single frame − engines alone", beyond_us, 150.0, "µs", "lower", one_by_one)
    way = (
        f"{how}; {WIDTH * HEIGHT * 3 / 1e3:.0f} kB, copied to pinned memory, from there to a GPU that has memory of its own, and "
        "preprocessed there; nothing else on the GPU, by the host's clock"
    )
    findings.row(f"{backend}, picture to the GPU", 1e3 * median(picture_ms), None, "µs", "lower", way)
    findings.row(f"{backend}, frame pipelined", median(ours_ms), None, "ms", "lower", how)
    findings.row(f"{backend}, single frame", median(single_ms), None, "ms", "lower", how)
    findings.row(f"{backend}, engines alone", median(alone_ms), None, "ms", "lower", how)
    _tell_growth(bench, settings.steady_frames, backend, findings)
    bench.device.close()


def open_bench(bundle: Bundle, backend: str) -> Bench:
    """A warm detector on the GPU."""
    loaded = load(bundle, precision=PRECISION, backend=backend, device="cuda")
    encoder, decoder = Recorded(loaded.encoder), Recorded(loaded.decoder)
    detector = Detector(bundle, replace(loaded, encoder=encoder, decoder=decoder), None)

    def engines() -> Arrays:
        encoder.again()
        return decoder.again()

    bench = Bench(detector, detector.open_stream(), camera(), engines)
    while bench.step() is None:
        pass
    return bench


def camera() -> Iterator[Frame]:
    """Frames in memory, taking turns without an end, 30 a second."""
    images = [frame.image for frame in open_source(f"synthetic:?frames={DISTINCT}&width={WIDTH}&height={HEIGHT}&seed=0")]
    for index in count():
        yield Frame(images[index % DISTINCT], index, index / 30, index / 30, "camera")


def _pipelined_ms(bench: Bench, frames: int) -> float:
    """Milliseconds a frame with the next one handed over before the last is collected."""
    ahead = deque(bench.detector.submit([(bench.stream, next(bench.frames))]) for _ in range(AHEAD))
    started = perf_counter()
    for _ in range(frames):
        bench.detector.collect(ahead.popleft())
        ahead.append(bench.detector.submit([(bench.stream, next(bench.frames))]))
    passed = perf_counter() - started
    for submitted in ahead:
        bench.detector.collect(submitted)
    return 1e3 * passed / frames


def _alone_ms(bench: Bench, frames: int) -> float:
    """Milliseconds of the GPU for both engines, back to back."""
    device = bench.device
    first = device.mark()
    for _ in range(frames):
        result = bench.engines()
    last = device.mark()
    device.fetch([{"score/psnr_db": result["score/psnr_db"]}]).wait()
    return device.ms_between(first, last) / frames


def _single_ms(bench: Bench, frames: int) -> float:
    """Median milliseconds from the frame in host memory to its score there."""
    times = []
    for _ in range(frames):
        frame = next(bench.frames)
        started = perf_counter()
        bench.detector.step([(bench.stream, frame)])
        times.append(1e3 * (perf_counter() - started))
    return median(times)


def _picture_ms(ring: FrameRing, frames: Iterator[Frame], count: int) -> float:
    """Median milliseconds from the frame in host memory to the network's input."""
    import pycuda.driver as cuda

    times = []
    for frame in islice(frames, count):
        started = perf_counter()
        ring.write(0, frame.image)
        cuda.Context.synchronize()
        times.append(1e3 * (perf_counter() - started))
    return median(times)


def _tell_growth(bench: Bench, frames: int, backend: str, findings: Findings) -> None:
    """Once settled, nothing is taken: neither on the GPU nor pinned nor on the host."""
    import pycuda.driver as cuda

    calls = _counted(cuda, ALLOCATING)
    for _ in range(max(frames // 5, 1)):
        bench.step()
    calls.clear()
    free, resident = cuda.mem_get_info()[0], _resident_mb()
    for _ in range(frames):
        bench.step()
    how = f"{frames:,} frames after {max(frames // 5, 1)} to settle"
    ours = f"{how}; device and pinned memory, this project's own calls"
    findings.row(f"{backend}, allocations in steady state", len(calls), 0, "calls", "lower", ours)
    if bench.device.is_integrated:
        findings.not_run(f"{backend}, device memory taken in steady state", "the GPU shares the memory of all that runs here")
    else:
        taken_mb = (free - cuda.mem_get_info()[0]) / MEGABYTE
        findings.row(f"{backend}, device memory taken in steady state", taken_mb, 0, "MB", "lower", f"{how}; by anything, the engines too")
    findings.row(f"{backend}, growth of resident host memory in steady state", _resident_mb() - resident, 1.0, "MB", "lower", how)


def _counted(module: object, names: tuple[str, ...]) -> list[str]:
    """A list that every further call of a module's functions adds its name to."""
    calls: list[str] = []
    for name in names:
        function = getattr(module, name, None)
        if function is not None:
            setattr(module, name, _counting(function, name, calls))
    return calls


def _counting(function: Callable[..., object], name: str, calls: list[str]) -> Callable[..., object]:
    def counting(*arguments: object, **named: object) -> object:
        calls.append(name)
        return function(*arguments, **named)

    return counting


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE
