"""Which of several bundles tells anomalies best, from normal footage alone.

Who has no labels can still choose: the footage is replayed with anomalies of two kinds made from itself, the same for every bundle. What is
ranked are the same frames for all; what remains is chance in the replays, so every lead over the first bundle comes with its error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice, product

import numpy as np

from calibration.box_anomalies import add_fast_forwards
from calibration.clips import NormalClip, check_clips, frame_rate, read_frames, split_at_gaps
from calibration.compare.gliders import ROOM_S, CutOut, add_gliders, brisk_speed, cut_out_movers
from calibration.replays import without_aftermath
from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation import roc_auc
from edge_runtime.evaluation.protocols import paper_score
from edge_runtime.evaluation.scoring import Runs, as_clip_scores, open_evaluation_stream, score_frames
from edge_runtime.frames import Frame
from edge_runtime.optional.opencv import opencv
from edge_runtime.report.accuracy import count_events, sum_counts
from edge_runtime.run.rate_watch import holds_at
from edge_runtime.sources.footage import agree_on_rate

__all__ = ["BOXES", "CompareSettings", "Comparison", "KindResult", "Lead", "compare"]

log = logging.getLogger(__name__)

GLIDERS = ((1.3, 1.8), (1.8, 2.5), (2.5, 4.0))  # times the speed of what is brisk in the footage
BOXES = "fast boxes"
LONGEST_SIDE_PX = 640
MOST_S = 86_400.0
RESAMPLES = 400


@dataclass(frozen=True)
class CompareSettings:
    """Attributes:
    rounds: replays of each clip, of each kind.
    clip_s: how many seconds of each clip, from its beginning, 6 to 86,400; so much is in memory.
    precision: of the graphs, which run on the CPU.
    seed: of the replays; another one makes others.

    Raises:
        ConfigError: out of range.
    """

    rounds: int = 4
    clip_s: float = 60.0
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"rounds: expected 1 or more, got {self.rounds}. Eight or more tell close bundles apart.")
        if not ROOM_S <= self.clip_s <= MOST_S:
            raise ConfigError(
                f"seconds of each clip: expected {ROOM_S:g} to {MOST_S:g}, got {self.clip_s:g}: less leaves no room for a pseudo-anomaly, "
                "and so much is in memory. 60 is the default."
            )
        if self.seed < 0:
            raise ConfigError(f"seed: expected 0 or more, got {self.seed}. Any such number will do.")


@dataclass(frozen=True)
class Lead:
    """An AUC less that of the first bundle, in percent, and its standard error over replays (bootstrap); 0 and 0 for the first."""

    auc: float
    error: float


@dataclass(frozen=True)
class KindResult:
    """One bundle on one kind of pseudo-anomaly.

    Attributes:
        paper, causal: AUC by protocol, in percent; the memory learns, and the second after each pseudo-anomaly is left out.
        paper_lead, causal_lead: over the first bundle.
        events, hits: pseudo-anomalies, and those that raise an alarm at the bundle's threshold.
        false_alarms: alarms where nothing was put in.
    """

    paper: float
    causal: float
    paper_lead: Lead
    causal_lead: Lead
    events: int
    hits: int
    false_alarms: int


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    kinds: by bundle, then by kind of pseudo-anomaly.
    footage_s, replays: seconds of normal footage, and how often it was replayed for each kind.
    """

    kinds: Mapping[str, Mapping[str, KindResult]]
    footage_s: float
    replays: int


@dataclass(frozen=True, eq=False)
class _Ranked:
    """The frames of one replay as one bundle ranks them: truth (N,) bool, paper and causal (N,)."""

    truth: np.ndarray
    paper: np.ndarray
    causal: np.ndarray


_Replay = Callable[[Sequence[Frame], int, np.random.Generator], list[Frame]]  # of a clip, its number, and chance
_Scored = dict[str, dict[str, list[Runs]]]  # by kind and bundle, the scores of every replay


def compare(bundles: Mapping[str, Bundle], clips: Sequence[NormalClip], settings: CompareSettings) -> Comparison:
    """Score the same replays with every bundle.

    Args:
        bundles: by name; of one frame rate.
        clips: normal footage, all of one size, that no bundle was trained or calibrated on. Those without room for a pseudo-anomaly are
            named in the log and left out.

    Raises:
        ConfigError: too little footage, nothing in it that moves and stands free; several sizes or frame rates.
    """
    check_clips(clips)
    fps = _frame_rate(bundles, clips)
    with ExitStack() as stack:
        opened = {name: Detector.open(bundle, precision=settings.precision, device="cpu") for name, bundle in bundles.items()}
        detectors = {name: stack.enter_context(detector) for name, detector in opened.items()}
        clips, kinds = _look_at(clips, fps, settings)
        scored: _Scored = {kind: {name: [] for name in bundles} for kind in kinds}
        frames_in_all = 0
        for number, clip in enumerate(clips):
            frames = _read(clip, fps, settings)
            frames_in_all += len(frames)
            for (index, kind), i in product(enumerate(kinds), range(settings.rounds)):
                replay = kinds[kind](frames, number, np.random.default_rng([settings.seed, index, number, i]))
                for name, detector in detectors.items():
                    scored[kind][name].append(score_frames(detector, open_evaluation_stream(detector, is_learning=True), replay))
            log.info("clip %d of %d (%s): scored", number + 1, len(clips), clip.name)
    results = {kind: _judge(bundles, of_kind, settings) for kind, of_kind in scored.items()}
    return Comparison({name: {kind: results[kind][name] for kind in kinds} for name in bundles}, frames_in_all / fps, settings.rounds)


def _frame_rate(bundles: Mapping[str, Bundle], clips: Sequence[NormalClip]) -> float:
    rates = {bundle.manifest.fps for bundle in bundles.values()}
    calibrated_fps = agree_on_rate(rates)
    if calibrated_fps is None:
        raise ConfigError(f"compare: expected bundles of one frame rate, got {sorted(rates)}. Compare those that were made for one camera.")
    fps = frame_rate(clips, calibrated_fps)
    if not holds_at(fps, calibrated_fps):
        raise ConfigError(
            f"compare: expected footage at {calibrated_fps:g} frames per second, as the bundles were calibrated, got {fps:g}. "
            "Take footage of their camera."
        )
    return fps


def _look_at(clips: Sequence[NormalClip], fps: float, settings: CompareSettings) -> tuple[list[NormalClip], dict[str, _Replay]]:
    """The clips with room for a pseudo-anomaly, and how such a clip is replayed, by name of the kind."""
    taken: list[NormalClip] = []
    cut_outs: list[list[CutOut]] = []
    speeds, sizes = [], set()
    for clip in clips:
        frames = _read(clip, fps, settings)
        sizes |= {frame.image.shape[:2] for frame in frames}
        if len(sizes) > 1:
            raise ConfigError(f"compare: expected footage of one size, {clip.name} has another. Take clips of one camera.")
        if max(map(len, split_at_gaps(frames)), default=0) < ROOM_S * fps:
            continue
        taken.append(clip)
        cut_outs.append(cut_out_movers(frames))
        speeds.append(brisk_speed(frames))
    _check_room(clips, taken)
    return taken, _kinds(cut_outs, speeds, fps)


def _check_room(clips: Sequence[NormalClip], taken: Sequence[NormalClip]) -> None:
    if not taken:
        raise ConfigError(
            f"compare: expected clips of {ROOM_S:g} s or more without a pause, none leaves room for a pseudo-anomaly. Use longer clips."
        )
    left_out = [clip.name for clip in clips if clip not in taken]
    if left_out:
        log.warning(
            "%d of %d clips have no %g s without a pause, which leaves no room for a pseudo-anomaly, and are left out; the first: %s",
            *(len(left_out), len(clips), ROOM_S, left_out[0]),
        )


def _kinds(cut_outs: Sequence[Sequence[CutOut]], speeds: Sequence[float], fps: float) -> dict[str, _Replay]:
    """How a clip is replayed, by name of the kind; what was cut out, and what is brisk, is given by clip."""
    moving = [speed for speed in speeds if speed > 0]
    if not moving or not any(cut_outs):
        raise ConfigError(
            "compare: expected footage in which something moves and now and then stands free, found nothing to cut out. "
            "Take clips with more life in them."
        )
    speed_px = float(np.median(moving))
    log.info("%d things cut out; what is brisk moves %.2f pixels a frame", sum(map(len, cut_outs)), speed_px)

    def glide(slow: float, fast: float) -> _Replay:
        bounds = (slow * speed_px, fast * speed_px)
        return lambda frames, number, rng: add_gliders(frames, _from_others(cut_outs, number), bounds, fps, rng)

    gliders = {f"gliders {slow:g}-{fast:g}x": glide(slow, fast) for slow, fast in GLIDERS}
    return gliders | {BOXES: lambda frames, _, rng: add_fast_forwards(frames, fps, rng)}


def _from_others(cut_outs: Sequence[Sequence[CutOut]], number: int) -> list[CutOut]:
    """What was cut out of the other clips, so that nothing meets its double; of the clip itself where the others have nothing."""
    others = [cut_out for i, found in enumerate(cut_outs) if i != number for cut_out in found]
    return others or list(cut_outs[number])


def _read(clip: NormalClip, fps: float, settings: CompareSettings) -> list[Frame]:
    return [_shrink(frame) for frame in islice(read_frames(clip, fps), int(settings.clip_s * fps))]


def _shrink(frame: Frame) -> Frame:
    height, width = frame.image.shape[:2]
    scale = LONGEST_SIDE_PX / max(height, width)
    if scale >= 1:
        return frame
    cv2 = opencv()
    size = (round(scale * width), round(scale * height))
    return replace(frame, image=cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA))


def _judge(bundles: Mapping[str, Bundle], scored: Mapping[str, list[Runs]], settings: CompareSettings) -> dict[str, KindResult]:
    """One kind of pseudo-anomaly: every bundle's figures."""
    shared = [set.intersection(*map(_frames, of_all)) for of_all in zip(*scored.values(), strict=True)]  # windows differ in length
    ranked = {
        name: [_rank(runs, frames, bundles[name].manifest.paper_weight) for runs, frames in zip(replays, shared, strict=True)]
        for name, replays in scored.items()
    }
    reference = ranked[next(iter(bundles))]
    results = {}
    for name, replays in scored.items():
        threshold = bundles[name].precision(settings.precision).threshold
        counts = count_events({str(i): runs for i, runs in enumerate(replays)}, threshold.score, threshold.hold_s)
        alarms = sum_counts(list(counts.values()))
        results[name] = KindResult(
            paper=_auc(ranked[name], "paper"),
            causal=_auc(ranked[name], "causal"),
            paper_lead=_lead(ranked[name], reference, "paper"),
            causal_lead=_lead(ranked[name], reference, "causal"),
            events=alarms.events,
            hits=alarms.hits,
            false_alarms=alarms.false_alarms,
        )
    return results


def _frames(runs: Runs) -> set[int]:
    return {score.frame for score in chain.from_iterable(runs)}


def _rank(runs: Runs, frames: Collection[int], paper_weight: float) -> _Ranked:
    judged = without_aftermath(score for score in chain.from_iterable(runs) if score.frame in frames)
    clip = as_clip_scores("replay", judged)
    return _Ranked(np.array([bool(score.truth) for score in judged]), paper_score(clip, paper_weight), clip.score)


def _auc(replays: Sequence[_Ranked], protocol: str) -> float:
    return roc_auc(np.concatenate([getattr(r, protocol) for r in replays]), np.concatenate([r.truth for r in replays]))


def _lead(replays: Sequence[_Ranked], reference: Sequence[_Ranked], protocol: str) -> Lead:
    """Both see the same replays, so these are drawn in pairs: what makes a replay hard for one makes it hard for the other."""
    if replays is reference:
        return Lead(0.0, 0.0)
    rng = np.random.default_rng(0)
    leads = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(len(replays), size=len(replays))
        leads.append(_auc([replays[i] for i in drawn], protocol) - _auc([reference[i] for i in drawn], protocol))
    return Lead(_auc(replays, protocol) - _auc(reference, protocol), float(np.std(leads)))
