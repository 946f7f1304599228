"""A bundle's precisions on the same clips: what each does to the scores, the alarms and the memory, against the first one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from statistics import median

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import Verdict
from edge_runtime.detector import Detector
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation import MemoryModeResult, check_clips, check_labels, evaluate, read_labels
from edge_runtime.evaluation.ranks import rank_correlation
from edge_runtime.evaluation.scoring import as_clip_scores, open_evaluation_stream, score_frames, warn_of_short_clips
from edge_runtime.frames import Frame
from edge_runtime.report.accuracy import MODES
from edge_runtime.report.verdict import budget_of, is_within
from edge_runtime.score import Score
from edge_runtime.sources import clip_uris, open_source

__all__ = ["Compared", "PrecisionReport", "measure_precisions"]

EVERY = 100  # frames from one look at the memory to the next
JUDGED = ("paper", "causal")  # protocols

Items = dict[str, np.ndarray]


@dataclass(frozen=True)
class Compared:
    """One precision in one memory mode.

    Attributes:
        auc: by protocol, in percent; None without labels.
        ms: median time of a frame, preprocessing to update.
        rank_correlation: Spearman's, of the scores with those of the first precision, as are all that follow.
        alarm_flips: share of frames on another side of the threshold, each precision's own.
        psnr_change_db: mean absolute.
        gates_differ: share of frames that one memory learned and the other did not.
        cosines: by frames into a clip, the smallest cosine of an item to the same one of the first precision, over all clips.
    """

    auc: MemoryModeResult | None
    ms: float
    rank_correlation: float
    alarm_flips: float
    psnr_change_db: float
    gates_differ: float
    cosines: dict[int, float]


@dataclass(frozen=True)
class PrecisionReport:
    """Attributes:
    backend, device: what ran, by precision where they differ.
    frames: scored, in each mode.
    precisions: by precision and memory mode; the first is what the others are held against.
    verdicts: of all but the first.
    """

    bundle: str
    backend: str
    device: str
    frames: int
    precisions: dict[str, dict[str, Compared]]
    verdicts: dict[str, Verdict]


@dataclass(frozen=True)
class _Seen:
    """One clip in one precision and mode: scores, and the memory after every 100 frames."""

    scores: list[Score]
    items: dict[int, Items]


def measure_precisions(
    bundle: Bundle,
    data: str,
    labels_at: str | None = None,
    *,
    precisions: Sequence[str] | None = None,
    backend: str = "auto",
    device: str = "auto",
    on_clip: Callable[[str], None] = lambda name: None,
) -> PrecisionReport:
    """Score every clip in every precision and both memory modes, one clip after the other, so that all see the same load of the machine.

    Args:
        data: clips, or a folder of them; the memory is reset before each.
        labels_at: CSV `clip,frame,anomalous`, or a folder of masks; None: scores are compared without.
        precisions: to compare, the first of them what the others are held against; None: all that the bundle has.
        backend, device: as for `Detector.open`.

    Raises:
        ConfigError: one precision alone; labels that do not match the frames; no clip holds a window.
    """
    names = list(bundle.manifest.precisions) if precisions is None else list(precisions)
    if len(names) < 2:
        raise ConfigError(
            f"{bundle.path}: expected two precisions or more to compare, got {', '.join(names)}. Add one: make calibrate-int8"
        )
    clips = clip_uris(data)
    labels = None if labels_at is None else read_labels(labels_at)
    if labels is not None:
        check_clips(labels, clips)
    detectors = {name: Detector.open(bundle, precision=name, backend=backend, device=device) for name in names}
    digest = hashlib.sha256()
    seen: dict[tuple[str, str], dict[str, _Seen]] = {(name, mode): {} for name in names for mode in MODES}
    for clip, uri in clips.items():
        on_clip(clip)
        digest.update(clip.encode())
        counted = 0
        for place, (name, mode) in enumerate(seen):
            frames: Iterable[Frame] = open_source(uri, default_fps=bundle.manifest.fps, stream=clip)
            if not place:  # once is enough
                frames = _hashed(frames, digest)
            seen[name, mode][clip], counted = _score(detectors[name], frames, is_learning=MODES[mode])
        if labels is not None:
            check_labels(labels, {clip: counted})
            digest.update(labels[clip].tobytes())
    first = seen[names[0], next(iter(MODES))]
    short = [clip for clip, of_clip in first.items() if not of_clip.scores]
    warn_of_short_clips(short, len(clips), bundle.manifest.input.span)
    if len(short) == len(clips):
        raise ConfigError(f"{data}: expected a clip of {bundle.manifest.input.span} frames or more, got none. Use longer clips.")
    kept = {key: {clip: of_clip for clip, of_clip in of_key.items() if of_clip.scores} for key, of_key in seen.items()}
    compared = {
        name: {mode: _compare(kept[names[0], mode], kept[name, mode], labels, bundle.manifest.paper_weight) for mode in MODES}
        for name in names
    }
    return PrecisionReport(
        bundle=bundle.manifest.name,
        backend=", ".join(dict.fromkeys(detector.backend for detector in detectors.values())),
        device=", ".join(dict.fromkeys(detector.device.name for detector in detectors.values())),
        frames=sum(len(of_clip.scores) for of_clip in first.values()),
        precisions=compared,
        verdicts={name: _judge(compared[names[0]], compared[name], digest.hexdigest()) for name in names[1:]},
    )


def _score(detector: Detector, frames: Iterable[Frame], *, is_learning: bool) -> tuple[_Seen, int]:
    """A clip's scores, and how many frames it has."""
    stream = open_evaluation_stream(detector, is_learning=is_learning)
    scores: list[Score] = []
    items: dict[int, Items] = {}
    rest, counted = iter(frames), 0
    while part := list(islice(rest, EVERY)):  # decoded frames; a hundred fit into memory
        scores += chain.from_iterable(score_frames(detector, stream, part))
        counted += len(part)
        if len(part) == EVERY:
            items[counted] = stream.bank.snapshot()
    return _Seen(scores, items), counted


def _hashed(frames: Iterable[Frame], digest: hashlib._Hash) -> Iterator[Frame]:
    for frame in frames:
        digest.update(frame.image.tobytes())
        yield frame


def _compare(first: dict[str, _Seen], other: dict[str, _Seen], labels: dict[str, np.ndarray] | None, paper_weight: float) -> Compared:
    pairs = [(a, b) for clip in first for a, b in zip(first[clip].scores, other[clip].scores, strict=True)]
    correlation = rank_correlation(np.array([a.score for a, _ in pairs]), np.array([b.score for _, b in pairs]))
    cosines: dict[int, float] = {}
    for clip, of_clip in first.items():
        for frames, items in of_clip.items.items():
            least = min((_least_cosine(items[pool], other[clip].items[frames][pool]) for pool in items), default=1.0)
            cosines[frames] = min(cosines.get(frames, 1.0), least)
    return Compared(
        auc=None if labels is None else evaluate([as_clip_scores(clip, s.scores) for clip, s in other.items()], labels, paper_weight),
        ms=median(b.latency_ms.total for _, b in pairs),
        rank_correlation=1.0 if correlation is None else correlation,
        alarm_flips=float(np.mean([a.is_anomalous != b.is_anomalous for a, b in pairs])),
        psnr_change_db=float(np.mean([abs(a.psnr_db - b.psnr_db) for a, b in pairs])),
        gates_differ=float(np.mean([a.memory_updated != b.memory_updated for a, b in pairs])),
        cosines=cosines,
    )


def _least_cosine(items: np.ndarray, others: np.ndarray) -> float:
    """Of any item (D,) of two pools (M, D)."""
    lengths = np.linalg.norm(items, axis=1) * np.linalg.norm(others, axis=1)
    return float((np.einsum("md,md->m", items, others, dtype=np.float64) / np.maximum(lengths, 1e-12)).min())


def _judge(first: dict[str, Compared], other: dict[str, Compared], data_hash: str) -> Verdict:
    """The worse memory mode decides."""
    pairs = [(first[mode], other[mode]) for mode in other]
    measured = {
        "rank_correlation": min(got.rank_correlation for _, got in pairs),
        "alarm_flips": max(got.alarm_flips for _, got in pairs),
        "psnr_change_db": max(got.psnr_change_db for _, got in pairs),
        "gates_differ": max(got.gates_differ for _, got in pairs),
        "memory_cosine": min((cosine for _, got in pairs for cosine in got.cosines.values()), default=1.0),
        "time": sum(got.ms for _, got in pairs) / max(sum(wanted.ms for wanted, _ in pairs), 1e-9),
    }
    losses = [
        getattr(wanted.auc, protocol) - getattr(got.auc, protocol)
        for wanted, got in pairs
        for protocol in JUDGED
        if wanted.auc is not None and got.auc is not None
    ]
    if losses:
        measured["auc_loss"] = max(losses)
    budget = budget_of(has_labels=bool(losses))
    return Verdict(is_within(budget, measured), budget, {name: round(value, 6) for name, value in measured.items()}, data_hash)
