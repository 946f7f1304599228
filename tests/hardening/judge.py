"""Feeds damaged files to the runtime and says what came of each, a line of JSON a case.

A process of its own, because a damaged file may take the one that reads it along. One case again, to look into it:

    python -m tests.hardening.judge TOYS WORK graph/fields 217 218
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import EdgeError
from edge_runtime.frames import Frame
from edge_runtime.run.state import StateStore
from edge_runtime.sinks.tables.jsonl import JsonLinesSink
from edge_runtime.stream import Stream
from tests.kit.mutations import damage_bytes, damage_json, damage_protobuf, damage_safetensors

__all__ = ["BROKEN", "REFUSED", "SCORED", "Verdict"]

SCORED, REFUSED, BROKEN = "scored", "refused", "broken"
TOYS = ("one_pool", "two_banks", "three_pools")
GRAPHS = ("encoder", "decoder")
FRAMES = 6  # one or two scores
LONGEST_REASON = 2100  # characters
ADDRESS_SPACE = 6 << 30  # bytes; what wants more fails where it asks, and not by the system's out-of-memory killer


@dataclass(frozen=True)
class Verdict:
    """What came of a case.

    Attributes:
        outcome: `scored`, `refused` with an EdgeError, or `broken`: by anything else.
        reason: the error.
        peak_mib: the most memory the process has held so far.
    """

    case: int
    outcome: str
    reason: str
    peak_mib: float


def main(toys: str, work: str, kind: str, first: str, stop: str) -> None:
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    bench = Bench(Path(toys), Path(work))
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1) as verdicts:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no verdict
        for case in range(int(first), int(stop)):
            print(json.dumps(asdict(bench.judge(kind, case))), file=verdicts)


class Bench:
    """The toy bundles, and copies of them to damage."""

    def __init__(self, toys: Path, work: Path) -> None:
        self.toys = toys
        self.work = work
        for name in TOYS:
            shutil.copytree(toys / name, work / name, dirs_exist_ok=True)

    def judge(self, kind: str, case: int) -> Verdict:
        """Make the damage of a case, use what came of it, and mend it."""
        random = Random(f"{kind} {case}")
        toy = TOYS[case % len(TOYS)]
        outcome, reason = SCORED, ""
        try:
            KINDS[kind](self, toy, random)
        except EdgeError as error:
            outcome, reason = REFUSED, f"{type(error).__name__}: {error}"
            if not reason.isprintable() or len(reason) > LONGEST_REASON:
                outcome = BROKEN
        except Exception:  # noqa: BLE001  (whatever else there is: that is the question)
            outcome, reason = BROKEN, traceback.format_exc()
        return Verdict(case, outcome, reason, peak_mib())

    def damaged(self, toy: str, file: str, content: bytes, *, is_hash_right: bool) -> Bundle:
        """Load a toy with another content of one of its files, all others whole."""
        folder = self.work / toy
        for name in ("manifest.json", "memory.safetensors", "encoder.fp32.onnx", "decoder.fp32.onnx"):
            if name != file:
                shutil.copyfile(self.toys / toy / name, folder / name)
        original = (self.toys / toy / file).read_bytes()
        (folder / file).write_bytes(content)
        if is_hash_right:
            manifest = (folder / "manifest.json").read_text()
            (folder / "manifest.json").write_text(manifest.replace(_sha256(original), _sha256(content)))
        return Bundle.load(folder)

    @cache  # noqa: B019  (one bench a process)
    def detector(self, toy: str) -> Detector:
        """The graphs of a whole toy."""
        return Detector.open(Bundle.load(self.toys / toy), threads=1)


def peak_mib() -> float:
    """The most memory this process has held. Not `getrusage`'s: that begins with what its parent held."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def damage_manifest_bytes(bench: Bench, toy: str, random: Random) -> None:
    content = damage_bytes((bench.toys / toy / "manifest.json").read_bytes(), random)
    use(bench.damaged(toy, "manifest.json", content, is_hash_right=False), bench.work)


def damage_manifest_values(bench: Bench, toy: str, random: Random) -> None:
    content = damage_json((bench.toys / toy / "manifest.json").read_bytes(), random)
    use(bench.damaged(toy, "manifest.json", content, is_hash_right=False), bench.work)


def damage_graph(damage: Callable[[bytes, Random], bytes], *, is_hash_right: bool) -> Callable[[Bench, str, Random], None]:
    def judge(bench: Bench, toy: str, random: Random) -> None:
        file = f"{random.choice(GRAPHS)}.fp32.onnx"
        original = (bench.toys / toy / file).read_bytes()
        content = damage(original, random)
        use(bench.damaged(toy, file, content, is_hash_right=is_hash_right), bench.work)
        assert is_hash_right or content == original, "a file that is not the one that was hashed was used"

    return judge


def damage_memory(damage: Callable[[bytes, Random], bytes], *, is_hash_right: bool) -> Callable[[Bench, str, Random], None]:
    def judge(bench: Bench, toy: str, random: Random) -> None:
        original = (bench.toys / toy / "memory.safetensors").read_bytes()
        content = damage(original, random)
        bundle = bench.damaged(toy, "memory.safetensors", content, is_hash_right=is_hash_right)
        detector = bench.detector(toy)
        stream = detector.device.open_stream(bundle, "gate", smoothing_frames=2)
        assert is_hash_right or content == original, "a file that is not the one that was hashed was used"
        score(detector, stream, bench.work)

    return judge


def damage_state(damage: Callable[[bytes, Random], bytes]) -> Callable[[Bench, str, Random], None]:
    def judge(bench: Bench, toy: str, random: Random) -> None:
        detector = bench.detector(toy)
        store = StateStore(bench.work / "state", toy, detector.bundle)
        stream = detector.open_stream()
        store.save(stream.bank)
        store.path.write_bytes(damage(store.path.read_bytes(), random))
        store.load(stream.bank)
        score(detector, stream, bench.work)

    return judge


def planted_error(bench: Bench, toy: str, random: Random) -> None:
    raise ValueError("planted: not an EdgeError")


def planted_crash(bench: Bench, toy: str, random: Random) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def planted_hang(bench: Bench, toy: str, random: Random) -> None:
    signal.pause()


KINDS: dict[str, Callable[[Bench, str, Random], None]] = {
    "manifest/bytes": damage_manifest_bytes,
    "manifest/values": damage_manifest_values,
    "graph/unhashed": damage_graph(damage_bytes, is_hash_right=False),
    "graph/bytes": damage_graph(damage_bytes, is_hash_right=True),
    "graph/fields": damage_graph(damage_protobuf, is_hash_right=True),
    "memory/unhashed": damage_memory(damage_bytes, is_hash_right=False),
    "memory/bytes": damage_memory(damage_bytes, is_hash_right=True),
    "memory/values": damage_memory(damage_safetensors, is_hash_right=True),
    "state/bytes": damage_state(damage_bytes),
    "state/values": damage_state(damage_safetensors),
    # What must never happen, so that a test can see that it would be noticed.
    "planted/error": planted_error,
    "planted/crash": planted_crash,
    "planted/hang": planted_hang,
}


def use(bundle: Bundle, work: Path) -> None:
    """What `edge-run` does with a bundle, without a source."""
    name = next(iter(bundle.manifest.precisions))
    detector = Detector.open(bundle, precision=name, threads=1)
    score(detector, detector.open_stream(), work)


def score(detector: Detector, stream: Stream, work: Path) -> None:
    """A few frames, as far as a line in scores.jsonl."""
    sink = JsonLinesSink(work / "scores.jsonl")
    try:
        for index in range(FRAMES):
            frame = Frame(_image(index), index, index / 10, index / 10, "gate")
            [step] = detector.step([(stream, frame)])
            sink.write_step(step)
            assert step.score is None or np.isfinite(step.score.score), step.score
    finally:
        sink.close()
    assert _is_text(detector.bundle.manifest.name)
    assert all(np.isfinite(items).all() for items in stream.bank.snapshot().values())


@cache
def _image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_text(words: str) -> bool:
    """It can be printed and written to a log; half a surrogate pair cannot."""
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
