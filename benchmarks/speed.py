"""A frame's time: the full-size model in PyTorch eager and in edge-run, in turn; and what lies outside the two graphs."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from benchmarks.full_size import FULL_SIZE, full_size_bundle, random_model
from benchmarks.rows import Row
from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.frames import Frame
from edge_runtime.optional.opencv import opencv
from edge_runtime.preprocess import preprocess
from edge_runtime.run.pipeline import Pipeline
from edge_runtime.score import Latency, Score, Step
from edge_runtime.sinks.tables.jsonl import JsonLinesSink
from edge_runtime.sources import open_source
from export.parity import parity
from export.split import scores
from train import memory
from train.data import Batch
from train.memory import Memory
from train.models.mnad_prediction import MnadPrediction

__all__ = ["measure"]

LITE = Path(__file__).parent.parent / "bundles" / "ped2-lite"
ROUNDS = 5  # of new processes: PyTorch's time differs by a sixth from one process to the next
BLOCKS = 4  # for each pair; the first warms up
BLOCK_FRAMES = 8
SOURCE = "synthetic:?frames={frames}&width=360&height=240"


def measure() -> list[Row]:
    """Rows for the full-size and the lite model."""
    with tempfile.TemporaryDirectory() as work:
        model = random_model()
        bundle = full_size_bundle(model, Path(work), has_fast_graphs=True)
        rows = [_parity_row(bundle, model), *_eager_rows(bundle)]
        outside, _ = _outside_the_graphs(bundle, frames=20, folder=Path(work))
        rows.append(
            Row(
                "full-size frame, everything outside the two graphs",
                outside,
                10.0,
                "ms",
                "lower",
                "360x240 JPEGs from a folder, median, scores.jsonl written",
            )
        )
        outside, total = _outside_the_graphs(Bundle.load(LITE), frames=400, folder=Path(work))
        how = "ped2-lite, 360x240 JPEGs from a folder, median of 400, scores.jsonl written"
        rows.append(Row("lite frame, share outside the two graphs", 100 * outside / total, 15.0, "%", "lower", how))
        rows.append(Row("lite frame, total", total, None, "ms", "lower", how))
    return rows


def _parity_row(bundle: Bundle, model: MnadPrediction) -> Row:
    generator = torch.Generator().manual_seed(1)
    window = torch.rand(1, 4, 3, FULL_SIZE.height, FULL_SIZE.width, generator=generator) * 2 - 1
    batch = Batch(window, window[:, 3], torch.zeros(1, dtype=torch.bool))
    items = Memory(model.pools, generator)
    fp32 = bundle.precision("fp32")
    forms = [parity(bundle, form, model, items, [batch]) for form in (fp32, fp32.fast) if form is not None]
    worst = max(value for form in forms for name, value in form.items() if name == "prediction" or name.startswith("score/"))
    how = "random weights, 256x256x3, plain and fast graphs, largest absolute difference of prediction and score nodes"
    return Row("exported full-size model against PyTorch", worst, 1e-4, "abs", "lower", how)


def _eager_rows(bundle: Bundle) -> list[Row]:
    """The same frames through each, block by block in turn, so that a machine that slows down slows both.

    Each has a process to itself, as its users run it: in one process the threads of PyTorch, OpenBLAS and ONNX Runtime cost each other
    more than what is measured.
    """
    rounds = [_time_round(bundle) for _ in range(ROUNDS)]
    ours, plain, theirs, channels_last = ([ms for blocks in rounds for ms in blocks[side]] for side in range(len(STEPS)))
    how = (
        f"fp32, default threads, {ROUNDS} times a process each, {BLOCKS - 1} blocks of {BLOCK_FRAMES} frames in turn after one that warms "
        "up, the first frame of a block not counted; preprocessing, memory read, update and scores included"
    )
    as_exported = f"{how}; the bundle as `make bundle` writes it, with fast graphs"
    return [
        Row(
            "full-size frame, PyTorch eager ÷ edge-run",
            _median_ratio(theirs, ours),
            1.5,
            "ratio",
            "higher",
            f"{as_exported}; median of the blocks' ratios",
        ),
        Row("the same, edge-run without fast graphs", _median_ratio(theirs, plain), None, "ratio", "higher", how),
        Row("the same, PyTorch's model in channels_last", _median_ratio(channels_last, ours), None, "ratio", "higher", as_exported),
        Row("full-size frame, edge-run", median(ours), None, "ms", "lower", as_exported),
        Row("full-size frame, edge-run without fast graphs", median(plain), None, "ms", "lower", how),
        Row("full-size frame, PyTorch eager", median(theirs), None, "ms", "lower", f"{how}; the model as it is built"),
        Row("full-size frame, PyTorch eager in channels_last", median(channels_last), None, "ms", "lower", how),
    ]


def _median_ratio(slower: list[float], faster: list[float]) -> float:
    return median(a / b for a, b in zip(slower, faster, strict=True))


def _time_round(bundle: Bundle) -> list[list[float]]:
    """Milliseconds a frame, by step and block, each step in a new process."""
    frames = iter(open_source(SOURCE.format(frames=BLOCKS * BLOCK_FRAMES)))
    times: list[list[float]] = [[] for _ in STEPS]
    with ExitStack() as stack:
        workers = [stack.enter_context(_Worker(step, bundle.path)) for step in STEPS]
        for _ in range(BLOCKS):
            block = list(islice(frames, BLOCK_FRAMES))
            timed = [worker.time_block(block) for worker in workers]
            psnr_db = [values for _, values in timed]
            if any(max(values) - min(values) > 1e-3 for values in zip(*psnr_db, strict=True)):
                raise RuntimeError(f"they do not compute the same: {psnr_db} dB")
            for side, (ms, _) in zip(times, timed, strict=True):
                side.append(ms)
    return [side[1:] for side in times]


FrameStep = Callable[[Frame], float | None]


class _Worker:
    """A process that times blocks of frames; a context manager.

    Args:
        make_step: makes, in that process, what takes a frame and gives its PSNR in dB.
        path: the bundle.
    """

    def __init__(self, make_step: Callable[[Path], FrameStep], path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_work, args=(make_step, path, there))

    def __enter__(self) -> _Worker:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._here.send(None)
        self._process.join()

    def time_block(self, frames: list[Frame]) -> tuple[float, list[float]]:
        self._here.send(frames)
        timed: tuple[float, list[float]] = self._here.recv()
        return timed


def _work(make_step: Callable[[Path], FrameStep], path: Path, connection: Connection) -> None:
    step = make_step(path)
    while (frames := connection.recv()) is not None:
        connection.send(_time_block(frames, step))


def _edge_run_step(path: Path) -> FrameStep:
    return _detector_step(Bundle.load(path))


def _plain_step(path: Path) -> FrameStep:
    bundle = Bundle.load(path)
    plain = {"fp32": replace(bundle.precision("fp32"), fast=None)}
    return _detector_step(replace(bundle, manifest=replace(bundle.manifest, precisions=plain)))


def _detector_step(bundle: Bundle) -> FrameStep:
    detector = Detector.open(bundle, device="cpu")
    stream = detector.open_stream()
    return lambda frame: _psnr_db(detector.step([(stream, frame)])[0].score)


def _eager_step(path: Path) -> FrameStep:
    return _eager(path, random_model())


def _channels_last_step(path: Path) -> FrameStep:
    return _eager(path, random_model().to(memory_format=torch.channels_last))


def _eager(path: Path, model: MnadPrediction) -> FrameStep:
    return EagerModel(model, torch.from_numpy(Bundle.load(path).read_items()["memory"])).step


STEPS = (_edge_run_step, _plain_step, _eager_step, _channels_last_step)


def _time_block(frames: list[Frame], step: FrameStep) -> tuple[float, list[float]]:
    """Median milliseconds a frame, and the PSNR of each scored one."""
    times, psnr_db = [], []
    for frame in frames:
        started = perf_counter()
        value = step(frame)
        times.append(1e3 * (perf_counter() - started))
        if value is not None:
            psnr_db.append(value)
    return median(times[1:]), psnr_db


def _psnr_db(score: Score | None) -> float | None:
    return None if score is None else score.psnr_db


def _write_jpegs(folder: Path, frames: int) -> Path:
    """Frames as a folder of JPEGs of Ped2's size, so that grabbing one costs what it costs there."""
    cv2 = opencv()
    folder.mkdir()
    for frame in open_source(SOURCE.format(frames=frames)):
        cv2.imwrite(str(folder / f"{frame.index:04d}.jpg"), frame.image)
    return folder


class EagerModel:
    """What a user of the paper's code would run: the trained modules, the memory and the scores in PyTorch."""

    def __init__(self, model: MnadPrediction, items: torch.Tensor) -> None:
        self._model = model
        self._items = items
        self._window: list[torch.Tensor] = []

    @torch.inference_mode()
    def step(self, frame: Frame) -> float | None:
        """PSNR in dB of the newest frame; None while the window fills."""
        image = torch.from_numpy(preprocess(frame.image, FULL_SIZE))
        self._window = [*self._window[-4:], image]
        if len(self._window) < 5:
            return None
        encoded = self._model.encode(torch.stack(self._window[:4])[None])
        query = encoded["query"]
        mixed = memory.read(memory.address(query, self._items), self._items)
        prediction = self._model.decode(encoded | {"read": mixed})
        _, psnr_db, regular_score, _ = scores(prediction, image[None])
        if float(regular_score) < 2.0:
            self._items = _ema(self._items, memory.write(query, self._items, "all"))
        return float(psnr_db)


def _ema(items: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(items + 0.001 * written, dim=1)


def _outside_the_graphs(bundle: Bundle, frames: int, folder: Path) -> tuple[float, float]:
    """Median milliseconds a frame outside the graph calls, from the grab to the sinks, and in all."""
    detector = Detector.open(bundle, device="cpu")
    rows: list[Latency] = []

    class Collect:
        def write_step(self, step: Step) -> None:
            if step.score is not None:
                rows.append(step.score.latency_ms)

        def write_event(self, event: object) -> None:
            """Only frames are timed."""

        def close(self) -> None:
            """Nothing is open."""

    footage = _write_jpegs(folder / f"footage-{frames}", frames)
    source = open_source(str(footage), fps=bundle.manifest.fps)
    Pipeline(detector, source, [JsonLinesSink(folder / "scores.jsonl"), Collect()], detector.open_stream()).run()
    outside = median(row.total - row.encoder - row.decoder for row in rows)
    return outside, median(row.total for row in rows)
