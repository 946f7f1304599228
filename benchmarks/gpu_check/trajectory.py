"""The memory on the GPU against the NumPy one, over hundreds of frames in which both learn, each from what it reads itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.settings import Settings
from edge_runtime.bundle import Bundle
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.devices.cuda.device import CudaDevice
from edge_runtime.devices.host import HostDevice
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from edge_runtime.sources import open_source
from edge_runtime.stream import Arrays
from export.tolerances import MEMORY_STEP

__all__ = ["OnDevice", "Walk", "are_near_ties", "compare", "measure", "trajectory_bundle", "windows_of"]

BUNDLES = Path(__file__).parents[2] / "bundles"
RULES = ("ema", "mnad")
SPARE = 20  # frames that fill the window
NEAR_TIE = 1e-6


@dataclass
class Walk:
    """What came of one trajectory.

    Attributes:
        frames: that were compared.
        worst: largest absolute difference of any item at any frame.
        learned: frames that NumPy's gate let pass.
        decided_otherwise: frames for which the two gates differ.
        near_ties: queries with two nearest items that float32 hardly tells apart. Devices that sum in another order may then take the
            other one, and both are right: with the rule `mnad` one such query moves an item visibly.
        differing_bits: frames whose read, decision or items differed between two runs on the GPU.
    """

    frames: int = 0
    worst: float = 0.0
    learned: int = 0
    decided_otherwise: int = 0
    near_ties: int = 0
    differing_bits: int = 0


def measure(settings: Settings, work: Path, findings: Findings) -> None:
    """Rows for both update rules."""
    if settings.footage is None:
        findings.not_run(
            "the trajectory over real footage", "neither --footage nor PED2_DIR says where it lies; the built-in scene is there instead"
        )
    source = settings.footage or f"synthetic:?frames={settings.trajectory_frames + SPARE}&seed=0"
    frames = "real frames" if settings.footage else "frames of the built-in scene"
    shipped = BUNDLES / ("ped2-lite" if settings.footage else "synthetic-lite")
    device = CudaDevice()
    for rule in RULES:
        bundle = trajectory_bundle(shipped, rule)
        walk = compare(bundle, device, islice(windows_of(bundle, source), settings.trajectory_frames))
        if walk.frames < settings.trajectory_frames:
            findings.not_run(f"{settings.trajectory_frames - walk.frames} frames of the trajectory ({rule})", f"{source} has no more")
        _tell(
            findings,
            walk,
            rule,
            f"{shipped.name}, {walk.frames} {frames}, {walk.learned} of them learned; each decodes and gates its own reads",
        )
    device.close()


def _tell(findings: Findings, walk: Walk, rule: str, how: str) -> None:
    largest = f"{how}; the largest difference at any frame; {walk.near_ties} queries were near ties between two items"
    repeated = f"{how}; reads, distances, decisions, items, frame by frame"
    findings.row(f"CUDA against NumPy, items ({rule})", walk.worst, MEMORY_STEP, "abs", "lower", largest)
    findings.row(f"CUDA against NumPy, gate decisions that differ ({rule})", walk.decided_otherwise, 0, "frames", "lower", how)
    findings.row(f"CUDA, two runs, frames with a differing bit ({rule})", walk.differing_bits, 0, "frames", "lower", repeated)


def trajectory_bundle(folder: Path, rule: str) -> Bundle:
    """A shipped bundle that learns by a rule, its drift limit out of the way."""
    bundle = Bundle.load(folder)
    manifest = bundle.manifest
    pools = tuple(replace(pool, update=rule) for pool in manifest.pools)
    return replace(bundle, manifest=replace(manifest, pools=pools, update=replace(manifest.update, drift_limit=2.0)))


def windows_of(bundle: Bundle, source: str) -> Iterator[Arrays]:
    """`clip` and `target` of every full window, preprocessed on the host."""
    stream = HostDevice().open_stream(bundle, "trajectory", smoothing_frames=1)
    for frame in open_source(source, fps=None if source.startswith("synthetic:") else bundle.manifest.fps):
        if stream.push(frame).target is not None:
            yield stream.ring.view(stream.window.start)


def compare(bundle: Bundle, device: CudaDevice, windows: Iterator[Arrays]) -> Walk:
    """Walk NumPy and two banks on the GPU through the same windows."""
    graphs = bundle.precision("fp32")
    encoder, decoder = OnnxRuntimeGraph(bundle, graphs.encoder), OnnxRuntimeGraph(bundle, graphs.decoder)
    host = HostDevice().open_stream(bundle, "numpy", smoothing_frames=1).bank
    banks = [device.open_stream(bundle, name, smoothing_frames=1).bank for name in ("first", "second")]
    on_device = OnDevice(device)
    walk = Walk()
    for window in windows:
        encoded = encoder.run(window)
        queries = {pool.query: encoded[pool.query] for pool in bundle.manifest.pools}
        walk.near_ties += sum(int(are_near_ties(host.snapshot()[pool.name], queries[pool.query]).sum()) for pool in bundle.manifest.pools)
        host_scores = decoder.run({**window, **encoded, **host.read(queries)})
        was_learned = bool(host.update(queries, host_scores)["is_updated"][0])
        given = on_device.put(queries)
        reads = [{name: device.download(array) for name, array in bank.read(given).items()} for bank in banks]
        decoded = decoder.run({**window, **encoded, **reads[0]})
        scores = on_device.put({"score/regular_score": decoded["score/regular_score"]})
        decisions = [bool(device.download(bank.update(given, scores)["is_updated"])[0]) for bank in banks]
        items = [bank.snapshot() for bank in banks]
        walk.frames += 1
        walk.learned += was_learned
        walk.decided_otherwise += decisions[0] is not was_learned
        differences = [np.abs(items[0][name] - wanted).max() for name, wanted in host.snapshot().items()]
        walk.worst = float(np.max([walk.worst, *differences]))  # a NaN stays one
        walk.differing_bits += decisions[0] is not decisions[1] or _bits(reads[0], items[0]) != _bits(reads[1], items[1])
    return walk


def are_near_ties(items: np.ndarray, query: np.ndarray) -> np.ndarray:
    """(K,) bool: the two items (M, D) that are nearest to a query, of (1, D, *grid), are so by less than float32 can be sure of."""
    logits = items.astype(np.float64) @ query.reshape(query.shape[1], -1)
    if len(items) < 2:
        return np.zeros(logits.shape[1], bool)
    second, first = np.partition(logits, len(items) - 2, axis=0)[-2:]
    return np.asarray(first - second < NEAR_TIE)


def _bits(*groups: Mapping[str, np.ndarray]) -> list[bytes]:
    return [array.tobytes() for group in groups for _, array in sorted(group.items())]


class OnDevice:
    """Arrays that lie in the same place frame after frame: the device gives memory once."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._arrays: dict[str, DeviceArray] = {}

    def put(self, arrays: Mapping[str, np.ndarray]) -> dict[str, DeviceArray]:
        """Copy arrays there, by name, after all work with what was there before. This waits for the GPU."""
        for name, array in arrays.items():
            if name in self._arrays:
                self._device.overwrite(self._arrays[name], array)
            else:
                self._arrays[name] = self._device.upload(array)
        return {name: self._arrays[name] for name in arrays}
