"""How well a bundle tells normal from anomalous on labelled footage, with the memory updating and frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation import EventCounts, MemoryModeResult, check_clips, check_labels, evaluate, match_alarms, read_labels
from edge_runtime.evaluation.scoring import Runs, as_clip_scores, open_evaluation_stream, score_frames, warn_of_short_clips
from edge_runtime.frames import Frame
from edge_runtime.run.alarms import find_alarms
from edge_runtime.score import Score
from edge_runtime.sources import clip_uris, open_source

__all__ = ["AccuracyReport", "ModeReport", "count_events", "measure_accuracy", "sum_counts"]

MODES = {"updating": True, "frozen": False}


@dataclass(frozen=True)
class ModeReport:
    """One memory mode.

    Attributes:
        result: AUC by protocol, and what the memory learned.
        alarms: what the threshold makes of it: events, hits, missed, false alarms.
        scores: by clip, for plots; without clips that are shorter than a window.
    """

    result: MemoryModeResult
    alarms: EventCounts
    scores: dict[str, list[Score]]


@dataclass(frozen=True)
class AccuracyReport:
    """Attributes:
    backend, device, precision, fast_graphs: what ran.
    labels: by clip, (frames,) bool.
    memory: by mode, `updating` and `frozen`.
    """

    bundle: str
    backend: str
    device: str
    precision: str
    fast_graphs: bool
    threshold: float
    carries_memory: bool
    labels: dict[str, np.ndarray]
    memory: dict[str, ModeReport]


def measure_accuracy(
    bundle: Bundle,
    data: str,
    labels_at: str,
    *,
    precision: str = "auto",
    backend: str = "auto",
    device: str = "auto",
    carries_memory: bool = False,
    on_clip: Callable[[str], None] = lambda name: None,
) -> AccuracyReport:
    """Score every labelled clip in both memory modes. Clips shorter than a window are named in the log and left out.

    Args:
        data: folder of clips.
        labels_at: CSV `clip,frame,anomalous`, or a folder of masks.
        precision, backend, device: as for `Detector.open`.
        carries_memory: what one clip taught stays for the next, in the clips' order (as in the authors' release); else the
            memory is reset before each clip.
        on_clip: called with each clip's name when it begins.

    Raises:
        ConfigError: labels that do not match the frames, or no clip holds a window.
    """
    labels = read_labels(labels_at)
    clips = clip_uris(data)
    check_clips(labels, clips)
    detector = Detector.open(bundle, precision=precision, backend=backend, device=device)
    threshold = bundle.precision(detector.precision).threshold
    modes: dict[str, ModeReport] = {}
    for mode, is_learning in MODES.items():
        stream = open_evaluation_stream(detector, is_learning=is_learning)
        runs: dict[str, Runs] = {}
        counts: dict[str, int] = {}
        for name, uri in clips.items():
            on_clip(name)
            if not carries_memory:  # a new stream, not a reset one: a bank that froze in one clip must learn in the next
                stream = open_evaluation_stream(detector, is_learning=is_learning)
            frames = open_source(uri, default_fps=bundle.manifest.fps, stream=name)
            runs[name] = score_frames(detector, stream, _counted(frames, name, counts))
            check_labels(labels, {name: counts[name]})
        if not modes:  # once is enough
            warn_of_short_clips([name for name in runs if not runs[name]], len(runs), bundle.manifest.input.span)
        scores = {name: list(chain.from_iterable(of_clip)) for name, of_clip in runs.items() if of_clip}
        result = evaluate([as_clip_scores(*item) for item in scores.items()], labels, bundle.manifest.paper_weight)
        modes[mode] = ModeReport(result, _count_alarms(runs, labels, threshold.score, threshold.hold_s), scores)
    return AccuracyReport(
        bundle=bundle.manifest.name,
        backend=detector.backend,
        fast_graphs=detector.runs_fast_graphs,
        device=detector.device.name,
        precision=detector.precision,
        threshold=threshold.score,
        carries_memory=carries_memory,
        labels=labels,
        memory=modes,
    )


def _counted(frames: Iterable[Frame], name: str, counts: dict[str, int]) -> Iterator[Frame]:
    """Frames on their way, one at a time: a video does not fit into memory. Their number is left in `counts`."""
    counts[name] = 0
    for frame in frames:
        counts[name] += 1
        yield frame


def count_events(clips: dict[str, Runs], threshold: float, hold_s: float) -> dict[str, EventCounts]:
    """Alarms against the truth that the scores themselves carry, clip by clip.

    Raises:
        ConfigError: a score whose source does not know the truth.
    """
    for name, runs in clips.items():
        if any(score.truth is None for run in runs for score in run):
            raise ConfigError(f"{name}: expected a source that knows its truth (synthetic:), this one does not. Use edge-report accuracy.")
    truths = {name: [bool(score.truth) for score in chain.from_iterable(runs)] for name, runs in clips.items()}
    return {name: _match(runs, truths[name], threshold, hold_s) for name, runs in clips.items()}


def _count_alarms(clips: dict[str, Runs], labels: dict[str, np.ndarray], threshold: float, hold_s: float) -> EventCounts:
    truths = {name: [bool(labels[name][score.frame]) for score in chain.from_iterable(runs)] for name, runs in clips.items()}
    return sum_counts([_match(runs, truths[name], threshold, hold_s) for name, runs in clips.items()])


def sum_counts(counts: list[EventCounts]) -> EventCounts:
    """The counts of several clips together."""
    return EventCounts(
        events=sum(count.events for count in counts),
        hits=sum(count.hits for count in counts),
        missed=sum(count.missed for count in counts),
        false_alarms=sum(count.false_alarms for count in counts),
    )


def _match(runs: Runs, truth: list[bool], threshold: float, hold_s: float) -> EventCounts:
    """A gap ends an alarm, as it does at the edge; an anomaly that goes on after it is the same."""
    alarms = [alarm for run in runs for alarm in find_alarms(*_series(run), threshold, hold_s)]
    _, times_s = _series(list(chain.from_iterable(runs)))
    return match_alarms([(alarm.started_s, alarm.ended_s) for alarm in alarms], np.array(truth, bool), times_s)


def _series(scores: list[Score]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) scores and (N,) times in seconds."""
    return np.array([score.score for score in scores]), np.array([score.time_s for score in scores])
