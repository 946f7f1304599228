"""Learns and saves without end, to be killed: one learner after the other, each forked from a process that has everything loaded.

    python -m tests.hardening.learner BUNDLE STATE

A line on stdin starts the next. It reports on stdout, a line at once: `pid N`, `loaded HASH`, then `saving HASH` and `saved HASH` for
every save; and when it is dead, `dead`. Forking is sound because there is one thread; for that reason the detector's graphs are in
NumPy: ONNX Runtime begins one of its own as it is imported.
"""

from __future__ import annotations

import hashlib
import os
import sys
from itertools import count, islice
from pathlib import Path

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.devices.host import HostDevice
from edge_runtime.frames import Frame
from edge_runtime.loading import Loaded
from edge_runtime.run.state import StateStore
from edge_runtime.stream import Arrays, Bank

__all__ = ["STREAM", "digest"]

STREAM = "gate"


def main(bundle: str, state: str) -> None:
    whole = Bundle.load(bundle)
    detector = Detector(whole, Loaded("fp32", "numpy", RandomEncoder(), EvenDecoder(), HostDevice(), None), None)
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"expected one thread before a fork, got {threads}")
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            learn(detector, Path(state))
        os.waitpid(child, 0)
        report("dead")


def learn(detector: Detector, state: Path) -> None:
    """As `edge-run --state` does, but saving after every frame."""
    report("pid", str(os.getpid()))
    store = StateStore(state, STREAM, detector.bundle, every_s=0)
    stream = detector.open_stream(STREAM)
    store.load(stream.bank)
    frames = (Frame(np.zeros((32, 32, 3), np.uint8), index, index / 10, index / 10, STREAM) for index in count())
    for frame in islice(frames, detector.bundle.manifest.input.span - 1):  # nothing is learned before the window is full
        detector.step([(stream, frame)])
    report("loaded", digest(stream.bank))
    for frame in frames:
        detector.step([(stream, frame)])
        report("saving", digest(stream.bank))
        store.save_if_due(stream.bank)
        report("saved", digest(stream.bank))


class RandomEncoder:
    """Queries of `one_pool` that no item has seen, so that every frame teaches something."""

    def run(self, inputs: Arrays) -> Arrays:
        query = np.random.default_rng().standard_normal((1, 16, 4, 4), np.float32)
        return {"query": query / np.linalg.norm(query, axis=1, keepdims=True)}


class EvenDecoder:
    """Scores that the gate lets pass."""

    def run(self, inputs: Arrays) -> Arrays:
        return {name: np.full(1, 0.1, np.float32) for name in ("score/psnr_db", "score/regular_score", "score/local_error")}


def report(*words: str) -> None:
    os.write(1, f"{' '.join(words)}\n".encode())


def digest(bank: Bank) -> str:
    """What a bank holds, in 16 letters."""
    items = bank.snapshot()
    return hashlib.sha256(b"".join(items[name].tobytes() for name in sorted(items))).hexdigest()[:16]


if __name__ == "__main__":
    main(*sys.argv[1:])
