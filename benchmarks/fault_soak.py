"""An hour's frames from a camera on the network with every fault mixed: is it always back, honestly, and with nothing left behind?"""

from __future__ import annotations

import gc
import os
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from benchmarks.rows import Row
from edge_runtime.detector import Detector
from edge_runtime.run.pipeline import Pipeline
from edge_runtime.run.state import StateStore
from edge_runtime.run.summary import Progress, Summary
from edge_runtime.score import Event, EventKind, Step
from edge_runtime.sinks.tables.jsonl import JsonLinesSink, read_scores
from edge_runtime.sources.address import CameraOptions
from edge_runtime.sources.cameras.camera import CameraSource
from tests.kit.cameras import Proxy, RtspCamera
from tests.kit.drawn_footage import Reel, draw, number_in, write_reel
from tests.kit.toy_bundles import TOYS

__all__ = ["measure"]

FRAMES = 36_000  # an hour at ten a second
CAMERA_FPS = 120
PICTURES = 240
LONGEST_RUN_S = 13 * 60
SETTLED_FRAMES = 4_000
STALL_S = 2.0
CALM_S, FAULT_S = (1.5, 4.0), (0.3, 6.0)
PATIENCE_S = 30.0  # after so long without a frame the next fault comes anyway
LONGEST_STEP_S = 1.5
MOST_DIFFERENCE = 5.0  # grey levels on average, of a picture from the one that was sent
ENDS_CONNECTIONS = ("hang-up", "another size", "cut", "kill")
OVER_AT_ONCE = ("hang-up", "another size", "another size within the session", "cut")
SEED = 7


def measure() -> list[Row]:
    """A small bundle that learns, scores.jsonl and the memory's state, behind a line that can be cut."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        shown = Shown(folder)
        detector = Detector.open(TOYS["one_pool"](folder / "bundle"))
        with RtspCamera(shown.reel) as camera:  # what PyAV opens once and keeps
            CameraSource(camera.uri).close()
        gc.collect()
        before = _handles(), threading.active_count()
        run = _soak(folder, shown, detector)
        gc.collect()
        left = _handles() - before[0], threading.active_count() - before[1]
        return _rows(run, left, list(read_scores(folder / "scores.jsonl")), detector.bundle.manifest.input.span)


@dataclass
class Shown:
    """What the camera shows: the built-in scene in two sizes, each picture with its number in the corner."""

    folder: Path
    originals: dict[int, list[np.ndarray]] = field(default_factory=dict)
    reels: list[Reel] = field(default_factory=list)

    def __post_init__(self) -> None:
        for width, height in ((160, 120), (320, 240)):
            pictures = draw(PICTURES, width=width, height=height)
            self.originals[width] = [picture[height // 2 :].astype(np.int16) for picture in pictures]
            self.reels.append(write_reel(self.folder / f"{width}", pictures, CAMERA_FPS))

    @property
    def reel(self) -> Reel:
        return self.reels[0]

    def other(self) -> Reel:
        """The reel of the other size, which is `reel` from now on."""
        self.reels.reverse()
        return self.reel

    def is_undamaged(self, image: np.ndarray) -> bool:
        """Whether it is one of the pictures as they are sent now; the number lies in its upper half."""
        height, width = image.shape[:2]
        if width != self.reel.width:
            return False
        original = self.originals[width][number_in(image) % PICTURES]
        return bool(np.abs(image[height // 2 :] - original).mean() < MOST_DIFFERENCE)


class Recovery:
    """A sink that waits for the first undamaged picture that arrived after a fault was mended."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._mended_s: float | None = None
        self._is_connected = True
        self._came = threading.Event()

    def expect_a_loss(self) -> None:
        """From now on frames count after the next reconnect only: those before were under way."""
        self._is_connected = False

    def expect(self, timeout_s: float) -> float:
        """Seconds from now until it is there; `timeout_s` if it was not."""
        self._came.clear()
        began_s = self._mended_s = monotonic()
        self._came.wait(timeout_s)
        self._mended_s, self._is_connected = None, True
        return monotonic() - began_s

    def write_step(self, step: Step) -> None:
        mended_s, frame = self._mended_s, step.frame
        if self._is_connected and mended_s is not None and frame.time_s > mended_s and self._shown.is_undamaged(frame.image):
            self._came.set()

    def write_event(self, event: Event) -> None:
        self._is_connected = self._is_connected or event.event is EventKind.RECONNECT

    def close(self) -> None:
        """Nobody needs to wait any more."""
        self._came.set()


class Faults(threading.Thread):
    """Breaks the camera and the line to it, one way after another in a seeded order, until it is told to stop; then all is mended.

    Attributes:
        recovered_s: by kind of fault, seconds from its end to the first undamaged picture.
    """

    def __init__(self, camera: RtspCamera, line: Proxy, shown: Shown, recovery: Recovery) -> None:
        super().__init__(name="faults")
        self.recovered_s: dict[str, list[float]] = {}
        self._random = random.Random(SEED)
        self._recovery = recovery
        self._stopping = threading.Event()
        self._kinds: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "kill": (camera.kill, camera.start),
            "stall": (camera.stall, camera.resume),
            "hang-up": (camera.hang_up, lambda: None),
            "another size": (lambda: camera.switch(shown.other()), lambda: None),
            "another size within the session": (lambda: camera.switch(shown.other(), hang_up=False), lambda: None),
            "freeze": (camera.freeze, camera.thaw),
            "black": (camera.black, lambda: camera.show(shown.reel)),
            "corrupt bytes": (lambda: line.corrupt(self._random.choice((0.0005, 0.01, 0.2))), line.mend),
            "lost packets": (lambda: line.lose(0.02), lambda: line.lose(0.0)),
            "cut": (line.cut, lambda: None),
            "black hole": (line.blackhole, line.mend),
        }

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        while not self._stopping.is_set():
            for kind in self._random.sample(list(self._kinds), len(self._kinds)):
                if self._stopping.wait(self._random.uniform(*CALM_S)):
                    return
                self._break(kind)

    def _break(self, kind: str) -> None:
        harm, mend = self._kinds[kind]
        if kind in ENDS_CONNECTIONS:
            self._recovery.expect_a_loss()
        harm()
        if kind not in OVER_AT_ONCE:
            self._stopping.wait(self._random.uniform(*FAULT_S))
        mend()
        took_s = self._recovery.expect(PATIENCE_S)
        if not self._stopping.is_set():  # else nobody takes frames any more
            self.recovered_s.setdefault(kind, []).append(took_s)


@dataclass(frozen=True)
class Run:
    """What a soak gave; the memory in MB."""

    summary: Summary
    recovered_s: dict[str, list[float]]
    resident_mb: list[float]


def _soak(folder: Path, shown: Shown, detector: Detector) -> Run:
    resident_mb: list[float] = []

    def watch(progress: Progress) -> None:
        if progress.frames >= SETTLED_FRAMES and progress.frames % 100 == 0:
            resident_mb.append(_resident_mb())

    with RtspCamera(shown.reel) as camera, Proxy(camera.port, seed=SEED) as line:
        options = CameraOptions(stall_s=STALL_S)
        with closing(CameraSource(camera.uri_at(line.port), stream="soak", options=options)) as source:
            recovery = Recovery(shown)
            faults = Faults(camera, line, shown, recovery)
            ends_s = monotonic() + LONGEST_RUN_S
            pipeline = Pipeline(
                detector,
                source,
                [JsonLinesSink(folder / "scores.jsonl"), recovery],
                detector.open_stream("soak"),
                state=StateStore(folder / "state", "soak", detector.bundle, every_s=10.0),
                on_frame=watch,
                on_round=lambda: pipeline.stop() if monotonic() > ends_s else None,
            )
            faults.start()
            try:
                pipeline.run(FRAMES)
            finally:
                faults.stop()
    return Run(pipeline.summary(), faults.recovered_s, resident_mb)


def _rows(run: Run, left: tuple[int, int], lines: list[dict[str, Any]], span: int) -> list[Row]:
    summary, source = run.summary, run.summary.source
    assert source is not None
    every_s = [seconds for some in run.recovered_s.values() for seconds in some]
    counts = Counter({kind: len(some) for kind, some in sorted(run.recovered_s.items())})
    faults = ", ".join(f"{kind} {count}" for kind, count in counts.items())
    setting = (
        f"the kit's RTSP camera at {CAMERA_FPS} frames per second of 160x120 and 320x240 (H.264), so {FRAMES:,} frames are an hour of a "
        f"camera at 10; faults and recovery take their real time; stall_s {STALL_S:g}; a toy bundle that learns, so that the camera is "
        "what limits; scores and state written; other work on the machine"
    )
    mended = f"from the end of a fault to the first undamaged picture, of {len(every_s)} faults: {faults}"
    return [
        Row("frames", summary.frames, FRAMES, "", "higher", setting),
        Row("frames scored", summary.scored, None, "", "higher", setting),
        Row("frames dropped while the detector was busy", source.dropped, None, "", "lower", setting),
        Row("damaged pictures left out", source.damaged, None, "", "lower", "as far as FFmpeg can tell, each up to the next key frame"),
        Row("faults", len(every_s), None, "", "higher", faults),
        Row("camera lost and found again", source.losses, None, "", "lower", f"{source.connects} connections, {source.stalls} stalls"),
        Row("gaps", summary.gaps, None, "", "lower", "events in scores.jsonl: the window was emptied"),
        Row("scores across a gap", _across(lines, span), 0, "", "lower", _how_across(span)),
        Row("recovery, p50", float(np.percentile(every_s, 50)), None, "s", "lower", mended),
        Row("recovery, p99", float(np.percentile(every_s, 99)), 5.0, "s", "lower", mended),
        *(
            Row(f"recovery after {kind}, longest", max(some), None, "s", "lower", f"of {len(some)}")
            for kind, some in sorted(run.recovered_s.items())
        ),
        Row(
            "growth of resident memory",
            max(run.resident_mb) - run.resident_mb[0],
            10.0,
            "MB",
            "lower",
            f"largest − after {SETTLED_FRAMES:,} frames",
        ),
        Row("resident memory", max(run.resident_mb), None, "MB", "lower", "largest, the bad line and its damage in the same process"),
        Row("file handles more than before", left[0], 0, "", "lower", "source, camera and line closed, against before they were opened"),
        Row("threads more than before", left[1], 0, "", "lower", "the same"),
        Row("minutes", summary.frames / summary.fps / 60, None, "min", "lower", "wall time"),
    ]


def _across(lines: list[dict[str, Any]], span: int) -> int:
    """Scores whose window holds a gap that was said, or frames too far apart in time."""
    gaps = [line["frame"] for line in lines if line.get("event") == "gap"]
    scores = [line for line in lines if "event" not in line]
    barred = {frame for gap in gaps for frame in range(gap, gap + span - 1)}
    said = {score["frame"] for score in scores if score["frame"] in barred}
    apart = {
        later["frame"]
        for earlier, later in pairwise(scores)
        if later["frame"] == earlier["frame"] + 1 and later["time_s"] - earlier["time_s"] > LONGEST_STEP_S
    }
    return len(said | apart)


def _how_across(span: int) -> str:
    return f"of the {span} frames of a score none comes after a gap; and consecutive ones lie less than {LONGEST_STEP_S:g} s apart"


def _handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
