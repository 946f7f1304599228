"""20,000 frames through the shipped bundle: does the resident memory stay where it is?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.rows import Row
from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import ConfigError
from edge_runtime.run.pipeline import Pipeline
from edge_runtime.run.state import StateStore
from edge_runtime.run.summary import Progress
from edge_runtime.sinks.tables.jsonl import JsonLinesSink
from edge_runtime.sources import open_source

__all__ = ["measure"]

FRAMES = 20_000
SETTLED = 1_000
EVERY = 100


def measure() -> list[Row]:
    """Ped2's test clips in a loop, memory updating, scores.jsonl and the memory's state written."""
    if "PED2_DIR" not in os.environ:
        raise ConfigError("benchmark soak: expected UCSD Ped2 at PED2_DIR, the variable is not set. Set it, or name other benchmarks.")
    bundle = Bundle.load(Path(__file__).parent.parent / "bundles" / "ped2-lite")
    detector = Detector.open(bundle, device="cpu")
    stream = detector.open_stream("soak")
    resident_mb: list[float] = []

    def watch(progress: Progress) -> None:
        if progress.frames >= SETTLED and progress.frames % EVERY == 0:
            resident_mb.append(_resident_mb())

    with tempfile.TemporaryDirectory() as work:
        source = open_source(f"{os.environ['PED2_DIR']}/testing/frames", fps=bundle.manifest.fps, loop=True)
        state = StateStore(Path(work) / "state", "soak", bundle, every_s=10.0)
        sinks = [JsonLinesSink(Path(work) / "scores.jsonl")]
        pipeline = Pipeline(detector, source, sinks, stream, state=state, on_frame=watch)
        pipeline.run(FRAMES)
    summary = pipeline.summary()
    how = f"Ped2's test clips in a loop, {FRAMES:,} frames, memory updating, scores and state written; largest − after {SETTLED:,} frames"
    return [
        Row("growth of resident memory", float(np.max(resident_mb)) - resident_mb[0], 10.0, "MB", "lower", how),
        Row("resident memory", float(np.max(resident_mb)), None, "MB", "lower", how),
        Row("memory drift at the end", summary.drift or 0.0, bundle.manifest.update.drift_limit, "1 − cosine", "lower", how),
        Row("frames per second", summary.fps, None, "1/s", "higher", how),
    ]


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
