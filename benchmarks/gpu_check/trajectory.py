"""The memory on the GPU against the NumPy one, over hundreds of frames in which both learn, each from what it reads itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.settings import Settings
from edge_runtime.bundle import Bundle
from edge_runtime.devices.cuda.device import CudaDevice
from edge_runtime.devices.host import HostDevice
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from edge_runtime.sources import open_source
from edge_runtime.stream import Bank

__all__ = ["Walk", "compare", "measure", "trajectory_bundle", "windows_of"]

BUNDLES = Path(__file__).parents[2] / "bundles"
RULES = ("ema", "mnad")
TOLERANCE = 1e-4


@dataclass
class Walk:
    """What came of one trajectory.

    Attributes:
        frames: that were compared.
        worst: largest absolute difference of any item at any frame.
        learned: frames that NumPy's gate let pass.
        decided_otherwise: frames for which the two gates differ.
        differing_bits: frames whose read, decision or items differed between two runs on the GPU.
    """

    frames: int = 0
    worst: float = 0.0
    learned: int = 0
    decided_otherwise: int = 0
    differing_bits: int = 0
    prints: list[str] = field(default_factory=list)


def measure(settings: Settings, work: Path, findings: Findings) -> None:
    """Rows for both update rules."""
    source = settings.footage or f"synthetic:?frames={settings.trajectory_frames + 20}&seed=0"
    shipped = BUNDLES / ("ped2-lite" if settings.footage else "synthetic-lite")
    footage = f"real frames of {Path(settings.footage).parents[1].name}" if settings.footage else "frames of the built-in scene"
    if not settings.footage:
        findings.not_run("the trajectory over real footage", "neither --footage nor PED2_DIR says where it lies; the built-in scene took its place")
    device = CudaDevice()
    for rule in RULES:
        bundle = trajectory_bundle(shipped, rule)
        walk = compare(bundle, device, islice(windows_of(bundle, source), settings.trajectory_frames))
        if walk.frames < settings.trajectory_frames:
            findings.not_run(f"{settings.trajectory_frames - walk.frames} frames of the trajectory", f"{source} has no more")
        _tell(findings, walk, rule, f"{shipped.name}, rule {rule}, {walk.frames} {footage}, {walk.learned} of them learned")
    device.close()


def _tell(findings: Findings, walk: Walk, rule: str, how: str) -> None:
    findings.row(
        f"CUDA against NumPy, items ({rule})", walk.worst, TOLERANCE, "abs", "lower", f"{how}; each decodes and gates its own reads; largest of all frames"
    )
    findings.row(f"CUDA against NumPy, gate decisions that differ ({rule})", walk.decided_otherwise, 0, "frames", "lower", how)
    findings.row(
        f"CUDA, two runs, frames with differing bits ({rule})", walk.differing_bits, 0, "frames", "lower", f"{how}; reads, distances, decisions, items"
    )


def trajectory_bundle(folder: Path, rule: str) -> Bundle:
    """A shipped bundle that learns by a rule, its drift limit out of the way."""
    bundle = Bundle.load(folder)
    manifest = bundle.manifest
    pools = tuple(replace(pool, update=rule) for pool in manifest.pools)
    return replace(bundle, manifest=replace(manifest, pools=pools, update=replace(manifest.update, drift_limit=2.0)))


def windows_of(bundle: Bundle, source: str) -> Iterator[Mapping[str, np.ndarray]]:
    """`clip` and `target` of every full window, preprocessed on the host."""
    stream = HostDevice().open_stream(bundle, "trajectory", smoothing_frames=1)
    for frame in open_source(source, fps=None if source.startswith("synthetic:") else bundle.manifest.fps):
        if stream.push(frame):
            yield stream.ring.view(stream.window.start)


def compare(bundle: Bundle, device: CudaDevice, windows: Iterator[Mapping[str, np.ndarray]]) -> Walk:
    """Walk NumPy and two banks on the GPU through the same windows."""
    graphs = bundle.precision("fp32")
    encoder, decoder = OnnxRuntimeGraph(bundle, graphs.encoder), OnnxRuntimeGraph(bundle, graphs.decoder)
    host = HostDevice().open_stream(bundle, "numpy", smoothing_frames=1).bank
    first, second = (device.open_stream(bundle, name, smoothing_frames=1).bank for name in ("first", "second"))
    walk = Walk()
    for window in windows:
        encoded = encoder.run(window)
        queries = {pool.query: encoded[pool.query] for pool in bundle.manifest.pools}
        uploaded = {name: device.upload(query) for name, query in queries.items()}
        wanted = host.read(queries)
        got, again = _read(device, first, uploaded), _read(device, second, uploaded)
        was_learned = bool(host.update(queries, decoder.run({**window, **encoded, **wanted}))["is_updated"][0])
        decoded = decoder.run({**window, **encoded, **got})
        scores = {"score/regular_score": device.upload(decoded["score/regular_score"])}
        decisions = [_update(device, bank, uploaded, scores) for bank in (first, second)]
        items, repeated = first.snapshot(), second.snapshot()
        walk.frames += 1
        walk.learned += was_learned
        walk.decided_otherwise += decisions[0] is not was_learned
        walk.worst = max(walk.worst, *(float(np.abs(items[name] - array).max()) for name, array in host.snapshot().items()))
        walk.differing_bits += decisions[0] is not decisions[1] or _print_of(got, items) != _print_of(again, repeated)
    return walk
