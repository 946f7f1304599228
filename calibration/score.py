"""Score calibration: gate, smoothing, λ, scale and threshold of a bundle, from normal footage alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, groupby, islice
from typing import TypeVar

import numpy as np

from calibration.box_anomalies import add_fast_forwards, add_giants
from calibration.clips import NormalClip, check_clips, read_frames
from calibration.replays import evaluate_replays, score_clips, without_aftermath
from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import GateSpec, Manifest, Precision
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation import roc_auc
from edge_runtime.evaluation.scoring import Runs, warn_of_short_clips
from edge_runtime.frames import Frame
from edge_runtime.preprocess import InputSpec, fit
from edge_runtime.run.alarms import count_alarms
from edge_runtime.score import Score
from edge_runtime.score_scale import MIXTURE, TAIL_PROBABILITY, Mixture, ScoreScale, Threshold, oddness, smooth

__all__ = ["CalibrationSettings", "Choice", "NormalRun", "calibrate", "choose_quantity", "choose_threshold"]

log = logging.getLogger(__name__)

MIXED = ("local_error", "query_distance")

Value = TypeVar("Value", int, float, str)


@dataclass(frozen=True)
class CalibrationSettings:
    """Attributes:
    false_alarms_per_hour: what the threshold is chosen for; one `alarm_start` is one alarm.
    gate_share: share of normal frames that the gate lets pass while the memory is frozen.
    quantities: what to choose the raw quantity behind the score from; a model without memory has no query distance. The first is
        taken unless another one's AUC on pseudo-anomalies is better by `least_lead` points.
    hold_s: an alarm ends after this many seconds below the threshold.
    alarm_within_s: smoothing is judged by the score that an event reaches within this time.
    smoothing_s: what to choose the smoothing from, in seconds; 0 is a single frame.
    paper_weights: what to choose λ of the protocol `paper` from.
    pseudo_rounds, pseudo_clips, pseudo_s: for these choices, how often a clip is replayed with pseudo-anomalies, how many clips with
        room for one are taken, and how many seconds of each.
    """

    false_alarms_per_hour: float = 1.0
    gate_share: float = 0.9
    quantities: tuple[str, ...] = ("local_error", "query_distance", MIXTURE)
    least_lead: float = 0.5
    hold_s: float = 2.0
    alarm_within_s: float = 1.0
    smoothing_s: tuple[float, ...] = (0.0, 0.2, 0.5, 0.8, 1.0)
    paper_weights: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    pseudo_rounds: int = 3
    pseudo_clips: int = 8
    pseudo_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.false_alarms_per_hour < float("inf"):
            raise ConfigError(f"false alarms per hour: expected a number above 0, got {self.false_alarms_per_hour}. One per day is 0.042.")


@dataclass(frozen=True, eq=False)
class NormalRun:
    """Scores (N,) of normal footage without a gap in it, and their times (N,) in seconds, rising."""

    scores: np.ndarray
    times_s: np.ndarray


def calibrate(bundle: Bundle, clips: Sequence[NormalClip], settings: CalibrationSettings) -> Manifest:
    """Measure a bundle on normal footage, in the update mode it ships with.

    The gate comes first, with the memory frozen; what the gate lets pass is then learned in every later pass, as it will be at
    the edge. Quantity, smoothing and λ are chosen on pseudo-anomalies. The memory is reset before each clip. At a gap in a clip the
    memory stays, but smoothing and alarms end, as at the edge.

    Args:
        clips: normal footage that training has not seen. Those shorter than a window are named in the log and left out.

    Returns:
        The bundle's manifest with gate, λ, and every precision's scale and threshold replaced.

    Raises:
        ConfigError: too little footage.
    """
    check_clips(clips)
    manifest = bundle.manifest
    first = next(iter(manifest.precisions))
    frozen = score_clips(bundle, first, _read_all(clips, manifest.fps), is_learning=False)
    bundle = replace(bundle, manifest=replace(manifest, gate=_choose_gate(frozen, settings)))
    warn_of_short_clips([clip.name for clip, runs in zip(clips, frozen, strict=True) if not runs], len(clips), manifest.input.span)
    choice = _choose_on_pseudo_anomalies(bundle, first, clips, settings)
    precisions: dict[str, Precision] = {}
    reference: list[bool] = []
    for name, precision in manifest.precisions.items():
        scored = score_clips(bundle, name, _read_all(clips, manifest.fps), is_learning=True)
        runs = list(chain.from_iterable(scored))
        values = [choice.smoothed(run) for run in runs]
        scale = ScoreScale.fit(np.concatenate(values), choice.quantity, choice.smoothing_frames, choice.mixture)
        normal = [_normal_run(run, of_run, scale) for run, of_run in zip(runs, values, strict=True)]
        threshold = choose_threshold(normal, manifest.fps, settings)
        sides = [bool(score >= threshold.score) for run in normal for score in run.scores]
        verdict = _verdict(first, reference, sides) if precisions else "The reference."
        reference = reference or sides
        precisions[name] = replace(precision, score_scale=scale, threshold=threshold, verdict=verdict)
    return replace(bundle.manifest, precisions=precisions, paper_weight=choice.paper_weight)


def _verdict(reference: str, wanted: Sequence[bool], got: Sequence[bool]) -> str:
    """On normal footage only: what a precision does to real alarms takes labels (`edge-report accuracy`)."""
    flipped = sum(a != b for a, b in zip(wanted, got, strict=True))
    return f"Of {len(got)} normal frames it was calibrated on, {flipped} fall on another side of the threshold than in {reference}."


def choose_threshold(runs: Sequence[NormalRun], fps: float, settings: CalibrationSettings) -> Threshold:
    """The smallest threshold that keeps to the wished number of alarms per hour.

    Where the footage is long enough to have shown that rate, alarms are counted. Else the rate is extrapolated: a score s is
    reached by a share 10^−s of the frames, and the footage tells how many such frames make one alarm.

    Args:
        runs: normal footage, cut at every gap, where an alarm ends.
        fps: frames per second of it.
    """
    hours = sum(run.scores.size for run in runs) / fps / 3600
    allowed = settings.false_alarms_per_hour * hours
    if allowed >= 1:
        score = _counted_threshold(runs, settings.hold_s, int(allowed))
        return Threshold(score, settings.false_alarms_per_hour, is_extrapolated=False, hold_s=settings.hold_s)
    tail = -float(np.log10(TAIL_PROBABILITY))
    reached = sum(int((run.scores >= tail).sum()) for run in runs)
    alarms = _alarms(runs, tail, settings.hold_s)
    alarms_per_frame = max(alarms, 1) / max(reached, 1)
    score = float(np.log10(3600 * fps * alarms_per_frame / settings.false_alarms_per_hour))
    return Threshold(max(score, tail), settings.false_alarms_per_hour, is_extrapolated=True, hold_s=settings.hold_s)


def _counted_threshold(runs: Sequence[NormalRun], hold_s: float, allowed: int) -> float:
    """Just above the smallest score at which no more than `allowed` alarms are left, coming from the largest.

    A low threshold merges all alarms of a run into one that never ends, so the count does not simply fall: the steps down
    from the largest score double until there are too many alarms, and a bisection finds where between the last two.
    """
    candidates = np.unique(np.concatenate([run.scores for run in runs]))[::-1]  # the largest first

    def keeps(i: int) -> bool:
        return _alarms(runs, float(np.nextafter(candidates[i], np.inf)), hold_s) <= allowed

    low, high = 0, 1
    while high < len(candidates) and keeps(high):
        low, high = high, 2 * high
    high = min(high, len(candidates))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return float(np.nextafter(candidates[low], np.inf))


def _alarms(runs: Iterable[NormalRun], threshold: float, hold_s: float) -> int:
    return sum(count_alarms(run.scores, run.times_s, threshold, hold_s) for run in runs)


def _choose_gate(clips: Sequence[Runs], settings: CalibrationSettings) -> GateSpec:
    values = [score.regular_score for runs in clips for run in runs for score in run]
    if not values:
        raise ConfigError("calibration: expected scored frames, got none: every clip is shorter than the window. Use longer clips.")
    return GateSpec(limit=float(np.quantile(values, settings.gate_share)))


@dataclass(frozen=True)
class Choice:
    """What pseudo-anomalies decide.

    Attributes:
        quantity, mixture, smoothing_frames: as in `ScoreScale`.
        paper_weight: λ of the protocol `paper`.
    """

    quantity: str
    mixture: Mixture | None
    smoothing_frames: int = 1
    paper_weight: float = 1.0

    def smoothed(self, scores: Sequence[Score]) -> np.ndarray:
        """(N,) the quantity of consecutive frames, averaged as at the edge."""
        return np.array(smooth([oddness(self.quantity, _raw(score), self.mixture) for score in scores], self.smoothing_frames))


def _choose_on_pseudo_anomalies(bundle: Bundle, precision: str, clips: Sequence[NormalClip], settings: CalibrationSettings) -> Choice:
    """The choice that tells best the held-out clips with and without pseudo-anomalies in them."""
    fps = bundle.manifest.fps
    normal: list[Runs] = []
    replays: list[Runs] = []
    for frames, changed in islice(_with_room(bundle, clips, settings), settings.pseudo_clips):
        normal += score_clips(bundle, precision, [frames], is_learning=True)
        replays += score_clips(bundle, precision, changed, is_learning=True)
    replays = [runs for runs in replays if runs]
    truth = [bool(score.truth) for runs in replays for run in runs for score in run]
    if all(truth) or not any(truth):
        raise ConfigError(
            "calibration: expected clips of 6 s or more without a pause, these leave no room for a pseudo-anomaly. Use longer clips."
        )
    quantity = choose_quantity(_candidates(normal, bundle, settings), replays, settings.least_lead)
    frames_of = sorted({max(round(seconds * fps), 1) for seconds in settings.smoothing_s})
    candidates = {frames: replace(quantity, smoothing_frames=frames) for frames in frames_of}
    peaks = {frames: _median_peak(normal, replays, choice, settings.alarm_within_s) for frames, choice in candidates.items()}
    auc_by_weight = {weight: evaluate_replays(replays, weight).paper for weight in settings.paper_weights}
    log.info("pseudo-anomalies: median peak score in time, by smoothing in frames: %s", _rounded(peaks))
    log.info("pseudo-anomalies: AUC of protocol paper by weight of the PSNR: %s", _rounded(auc_by_weight))
    return replace(candidates[_best(peaks)], paper_weight=_best(auc_by_weight))


def _candidates(normal: Sequence[Runs], bundle: Bundle, settings: CalibrationSettings) -> list[Choice]:
    """The quantities that this model has; a mixture weighs its parts by how little they vary on normal footage."""
    has_memory = bool(bundle.manifest.pools)
    names = [name for name in settings.quantities if has_memory or name == "local_error"]
    scores = [score for runs in normal for run in runs for score in run]
    spreads = {name: float(np.std([_raw(score)[name] for score in scores])) for name in MIXED if has_memory}
    can_mix = all(spread > 0 for spread in spreads.values())
    mixture = {name: 1 / spread for name, spread in spreads.items()} if can_mix else None
    return [Choice(name, mixture if name == MIXTURE else None) for name in names if name != MIXTURE or mixture]


def choose_quantity(candidates: Sequence[Choice], replays: Sequence[Runs], least_lead: float) -> Choice:
    """Return the first candidate, unless another one tells pseudo-anomalies better by more than chance would have it.

    Args:
        replays: scores of clips that know their truth.
        least_lead: AUC, in points, that makes up for the first being the usual one.
    """
    if len(candidates) == 1:
        return candidates[0]
    judged = [without_aftermath(chain.from_iterable(runs)) for runs in replays]
    truth = np.array([bool(score.truth) for scores in judged for score in scores])
    auc = {choice.quantity: roc_auc(np.concatenate([choice.smoothed(scores) for scores in judged]), truth) for choice in candidates}
    log.info("pseudo-anomalies: AUC by quantity: %s", _rounded(auc))
    first, best = candidates[0], max(candidates, key=lambda choice: auc[choice.quantity])
    return best if auc[best.quantity] >= auc[first.quantity] + least_lead else first


def _with_room(
    bundle: Bundle, clips: Sequence[NormalClip], settings: CalibrationSettings
) -> Iterator[tuple[list[Frame], list[list[Frame]]]]:
    """Clips and their replays, those in which nothing happens left out: they are too short for it."""
    fps = bundle.manifest.fps
    for clip, rng in zip(clips, _generators(settings), strict=False):
        # Small frames, one clip at a time: the replays need a whole clip in memory.
        frames = [_shrink(frame, bundle.manifest.input) for frame in islice(read_frames(clip, fps), int(settings.pseudo_s * fps))]
        add = add_fast_forwards if bundle.manifest.input.frames > 1 else add_giants
        changed = [add(frames, fps, rng) for _ in range(settings.pseudo_rounds)]
        if any(frame.truth for replay in changed for frame in replay):
            yield frames, changed


def _read_all(clips: Sequence[NormalClip], fps: float) -> Iterator[Iterator[Frame]]:
    return (read_frames(clip, fps) for clip in clips)


def _generators(settings: CalibrationSettings) -> Iterator[np.random.Generator]:
    return (np.random.default_rng([settings.seed, i]) for i in count())


def _shrink(frame: Frame, spec: InputSpec) -> Frame:
    """The frame at the network's size, still in colour."""
    planes = fit(frame.image, replace(spec, channels=3))
    return replace(frame, image=np.ascontiguousarray(planes.transpose(1, 2, 0)))


def _median_peak(normal: Sequence[Runs], replays: Iterable[Runs], choice: Choice, within_s: float) -> float:
    """The score that the middle one of the pseudo-anomalies reaches soon after it begins.

    An alarm is raised by a peak, and it must come in time: long smoothing calms normal footage, but answers late.
    """
    values = np.concatenate([choice.smoothed(run) for run in chain.from_iterable(normal)])
    scale = ScoreScale.fit(values, choice.quantity, choice.smoothing_frames, choice.mixture)
    peaks = []
    for run in chain.from_iterable(replays):
        smoothed = choice.smoothed(run)
        for is_event, event in groupby(zip(run, smoothed, strict=True), key=lambda pair: bool(pair[0].truth)):
            if is_event:
                pairs = list(event)
                peaks.append(max(scale.score(value) for score, value in pairs if score.time_s - pairs[0][0].time_s <= within_s))
    return float(np.median(peaks))


def _best(worth: Mapping[Value, float]) -> Value:
    return max(worth, key=lambda value: worth[value])


def _rounded(worth: Mapping[Value, float]) -> dict[Value, float]:
    return {value: round(figure, 2) for value, figure in worth.items()}


def _normal_run(run: Sequence[Score], smoothed: np.ndarray, scale: ScoreScale) -> NormalRun:
    return NormalRun(np.array([scale.score(value) for value in smoothed]), np.array([score.time_s for score in run]))


def _raw(score: Score) -> dict[str, float]:
    """Every quantity of a frame by name."""
    raw = {"local_error": score.local_error, "regular_score": score.regular_score, "psnr_db": score.psnr_db}
    return raw if score.query_distance is None else raw | {"query_distance": score.query_distance}
