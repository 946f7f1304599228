"""The only orchestration: from a frame of each stream to a score of each, in one pass through both graphs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BackendError, ConfigError
from edge_runtime.frames import Frame
from edge_runtime.loading import Loaded, load
from edge_runtime.score import Latency, MemoryState, Score, Step, mean_distance
from edge_runtime.stream import Arrays, Fetched, Graph, Mark, Stream

__all__ = ["Detector", "Submitted"]

MOST_THREADS = 256  # a slip of the finger would take all memory, and no signal would end it
RAW_SCORES = ("score/psnr_db", "score/regular_score", "score/local_error")


@dataclass(frozen=True)
class Group:
    """Rows that pass through the graphs together.

    Attributes:
        rows: their positions in the step.
        fetched: their results.
        marks: at the beginning, after the encoder, the read, the decoder and the update.
    """

    rows: Sequence[int]
    fetched: Fetched
    marks: tuple[Mark, Mark, Mark, Mark, Mark]


@dataclass(frozen=True)
class Submitted:
    """A step that a device is at work on, or done with.

    Attributes:
        rows: each stream with what is known of its step: the frame, the gap before it and its target, which later frames do not change.
        marks: before and after the preprocessing.
    """

    rows: Sequence[tuple[Stream, Step]]
    groups: Sequence[Group]
    marks: tuple[Mark, Mark]


class Detector:
    """A bundle, loaded in an engine on a device. To be closed, or used in a `with`.

    Attributes:
        bundle, precision, backend, device: what it runs, and on what.
        runs_fast_graphs: of the precision's graphs it is the fast form that runs.
        threshold: the score from which on a frame is anomalous.
        keeps_error_maps: scores carry their error map; off, it stays on the device.
    """

    def __init__(self, bundle: Bundle, loaded: Loaded, threshold: float | None) -> None:
        calibrated = bundle.precision(loaded.precision)
        self.bundle = bundle
        self.precision = loaded.precision
        self.runs_fast_graphs = loaded.are_fast
        self.backend = loaded.backend
        self.device = loaded.device
        self.threshold = calibrated.threshold.score if threshold is None else threshold
        self.keeps_error_maps = False
        self._graphs: tuple[Graph, Graph] | None = (loaded.encoder, loaded.decoder)
        self._scale = calibrated.score_scale
        self._largest_batch = loaded.largest_batch
        self._reads = tuple(pool.read for pool in bundle.manifest.pools if pool.read is not None)
        self._distances = tuple(f"distance/{pool.name}" for pool in bundle.manifest.pools)

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        *,
        precision: str = "auto",
        backend: str = "auto",
        device: str = "auto",
        threshold: float | None = None,
        threads: int | None = None,
    ) -> Detector:
        """Load a bundle's graphs. On the CPU this holds the process's BLAS libraries to one thread; see `HostDevice`.

        On a GPU, the detector and its streams belong to the thread that opens it: used or closed in another, they raise BackendError, and
        when that thread ends they are closed.

        Args:
            precision: `auto`, or one that the bundle has: `fp32`, `fp16`, `int8`. `auto` is fp32 on the CPU; on a GPU it is fp16
                where there is such an engine or graph, and never int8.
            backend, device: of `BACKENDS` and `DEVICES` in `loading`. `auto` takes the best that works; a named one that does
                not work is an error, never replaced.
            threshold: instead of the one calibrated for the precision.
            threads: for each graph on the CPU, 1 to 256; None: one a core.

        Raises:
            BundleError: the bundle lacks the precision or an engine, or a file of it is damaged.
            EngineMismatch: its engine was built for another machine or from other graphs.
            BackendUnavailable: a library or device is missing.
        """
        if threshold is not None and not math.isfinite(threshold):
            raise ConfigError(f"threshold: expected a number, got {threshold}.")
        if threads is not None and not 1 <= threads <= MOST_THREADS:
            raise ConfigError(f"threads: expected 1 to {MOST_THREADS}, got {threads}. One for each core is the default.")
        return cls(bundle, load(bundle, precision=precision, backend=backend, device=device, threads=threads), threshold)

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Wait for all work and free the graphs and the device; its streams cannot be used any more. A second time it does nothing.

        Raises:
            BackendError: on a GPU, this is not the thread that opened it.
        """
        self._graphs = None  # what engines made goes before the device that they use
        self.device.close()

    def open_stream(self, name: str = "camera") -> Stream:
        """A new camera: an empty window, and a memory bank of its own with the shipped items."""
        return self.device.open_stream(self.bundle, name, smoothing_frames=self._scale.smoothing_frames)

    def step(self, batch: Sequence[tuple[Stream, Frame]]) -> list[Step]:
        """Take one frame of each stream; score the target frames of those whose window is full.

        Args:
            batch: at most one frame a stream.

        Returns:
            What came of each frame, in the batch's order.

        Raises:
            ShapeError: a frame is not (H, W, 3) uint8.
            ConfigError: two frames of one stream.
            BackendError: an engine failed, its scores are not finite, or the detector was closed.
        """
        return self.collect(self.submit(batch))

    def submit(self, batch: Sequence[tuple[Stream, Frame]]) -> Submitted:
        """The first half of `step`: hand the work to the device. On a GPU this returns before it is done.

        The gate is decided on the device, so the next step may be submitted before this one is collected.
        """
        if len({id(stream) for stream, _ in batch}) < len(batch):
            raise ConfigError("step: expected at most one frame of each stream, got two of one. Call it once for each frame.")
        graphs = self._opened()
        begun = self.device.mark()
        rows = [(stream, stream.push(frame)) for stream, frame in batch]
        has_preprocessed = self.device.mark()
        ready = [position for position, (_, step) in enumerate(rows) if step.target is not None]
        size = self._largest_batch or max(len(ready), 1)
        groups = [self._submit(graphs, rows, ready[at : at + size]) for at in range(0, len(ready), size)]
        return Submitted(rows, groups, (begun, has_preprocessed))

    def _opened(self) -> tuple[Graph, Graph]:
        if self._graphs is None:
            raise BackendError(f"{self.bundle.path}: expected an open detector, it was closed. Open a new one.")
        return self._graphs

    def _submit(self, graphs: tuple[Graph, Graph], rows: Sequence[tuple[Stream, Step]], positions: Sequence[int]) -> Group:
        """Encoder, read, decoder, gate and update for streams with a full window."""
        (encoder, decoder), device = graphs, self.device
        streams = [rows[position][0] for position in positions]
        started = device.mark()
        windows = device.stack([stream.ring.view(stream.window.start) for stream in streams])
        encoded = encoder.run(windows)
        has_encoded = device.mark()
        queries = device.unstack(encoded)
        reads = [stream.bank.read(query) for stream, query in zip(streams, queries, strict=True)]
        has_read = device.mark()
        mixed = device.stack([{name: read[name] for name in self._reads} for read in reads])
        decoded = decoder.run({**windows, **encoded, **mixed})
        has_decoded = device.mark()
        results = device.unstack({name: decoded[name] for name in self._wanted})
        updates = [stream.bank.update(*row) for stream, *row in zip(streams, queries, results, strict=True)]
        has_updated = device.mark()  # before what is waited for
        fetched = device.fetch([self._facts(*row) for row in zip(reads, results, updates, strict=True)])
        return Group(positions, fetched, (started, has_encoded, has_read, has_decoded, has_updated))

    def collect(self, submitted: Submitted) -> list[Step]:
        """The second half of `step`: wait for the device. Steps are collected in the order in which they were submitted."""
        facts: dict[int, tuple[Mapping[str, np.ndarray], Latency]] = {}
        for group in submitted.groups:
            values = group.fetched.wait()
            latency = self._latency(submitted, group)
            facts |= {position: (of_row, latency) for position, of_row in zip(group.rows, values, strict=True)}
        return [self._scored(*row, *facts.get(position, (None, None))) for position, row in enumerate(submitted.rows)]

    def _scored(self, stream: Stream, step: Step, values: Mapping[str, np.ndarray] | None, latency: Latency | None) -> Step:
        if step.gap is not None:
            stream.smoothing.clear()
        if step.target is None or values is None or latency is None:
            return step
        return replace(step, score=self._as_score(stream, step.target, values, latency))

    def _latency(self, submitted: Submitted, group: Group) -> Latency:
        between = self.device.ms_between
        started, has_encoded, has_read, has_decoded, has_updated = group.marks
        preprocess = between(*submitted.marks)
        return Latency(
            preprocess=preprocess,
            encoder=between(started, has_encoded),
            memory=between(has_encoded, has_read) + between(has_decoded, has_updated),
            decoder=between(has_read, has_decoded),
            total=preprocess + between(started, has_updated),
        )

    def _facts(self, read: Arrays, result: Arrays, update: Arrays) -> Arrays:
        """What a score is made of; the reads themselves stay on the device."""
        return {**{name: read[name] for name in self._distances}, **result, **update}

    @property
    def _wanted(self) -> tuple[str, ...]:
        return (*RAW_SCORES, "error_map") if self.keeps_error_maps else RAW_SCORES

    def _as_score(self, stream: Stream, frame: Frame, values: Mapping[str, np.ndarray], latency: Latency) -> Score:
        raw = {name.removeprefix("score/"): float(values[name][0]) for name in RAW_SCORES}
        distances = {name.removeprefix("distance/"): float(values[name][0]) for name in self._distances}
        if not all(map(math.isfinite, (*raw.values(), *distances.values()))):
            raise BackendError(
                f"{stream.name}, frame {frame.index}: expected finite scores, got {raw | distances}. "
                f"If the precision is fp16 or int8, use --precision fp32 (it is {self.precision})."
            )
        score = self._scale.score(stream.smoothing.push(self._scale.oddness(_quantities(raw, distances))))
        return Score(
            stream=stream.name,
            frame=frame.index,
            time_s=frame.time_s,
            wall_time_s=frame.wall_time_s,
            score=score,
            threshold=self.threshold,
            is_anomalous=score >= self.threshold,
            **raw,
            distances=distances,
            memory=_memory_state(values) if distances else None,
            truth=frame.truth,
            error_map=values["error_map"][0, 0] if "error_map" in values else None,
            latency_ms=latency,
        )


def _quantities(raw: Mapping[str, float], distances: Mapping[str, float]) -> dict[str, float]:
    """All that is known of a frame, by the names that a score scale has for it."""
    distance = mean_distance(distances)
    return dict(raw) if distance is None else {**raw, "query_distance": distance}


def _memory_state(values: Mapping[str, np.ndarray]) -> MemoryState:
    return MemoryState(bool(values["is_updated"][0]), bool(values["is_frozen"][0]), float(values["drift"][0]))
