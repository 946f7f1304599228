"""Which of several bundles tells anomalies best, from normal footage alone.

Who has no labels can still choose: the footage is replayed with anomalies of two kinds made from itself, the same for every bundle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from calibration.clips import NormalClip, check_clips, frame_rate, read_frames
from calibration.gliders import CutOut, add_gliders, brisk_speed, cut_out_movers
from calibration.pseudo_anomalies import add_fast_forwards
from calibration.replays import evaluate_replays, score_clips
from edge_runtime.bundle import Bundle
from edge_runtime.errors import ConfigError
from edge_runtime.frames import Frame
from edge_runtime.opencv import opencv
from edge_runtime.report.accuracy import count_events, sum_counts
from edge_runtime.score import Score

__all__ = ["CompareSettings", "Comparison", "KindResult", "compare"]

log = logging.getLogger(__name__)

GLIDERS = ((1.3, 1.8), (1.8, 2.5), (2.5, 4.0))  # times the speed of what is brisk in the footage
BOXES = "fast boxes"
LONGEST_SIDE_PX = 640  # a whole clip is in memory


@dataclass(frozen=True)
class CompareSettings:
    """Attributes:
    rounds: replays of each clip, of each kind.
    clip_s: how many seconds of each clip.
    precision: of the graphs.
    seed: of the replays; another one makes others.

    Raises:
        ConfigError: no round at all.
    """

    rounds: int = 4
    clip_s: float = 60.0
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"rounds: expected 1 or more, got {self.rounds}.")


@dataclass(frozen=True)
class KindResult:
    """One bundle on one kind of pseudo-anomaly.

    Attributes:
        paper, causal: AUC by protocol, in percent; the memory learns.
        events, hits: pseudo-anomalies, and those that raise an alarm at the bundle's threshold.
        false_alarms: alarms where nothing was put in.
    """

    paper: float
    causal: float
    events: int
    hits: int
    false_alarms: int


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    kinds: by bundle, then by kind of pseudo-anomaly.
    hours: of footage that each kind was made of, replays counted.
    """

    kinds: Mapping[str, Mapping[str, KindResult]]
    hours: float


Replay = Callable[[Sequence[Frame], int, np.random.Generator], list[Frame]]  # a clip, its number, and chance


def compare(bundles: Mapping[str, Bundle], clips: Sequence[NormalClip], settings: CompareSettings) -> Comparison:
    """Score the same replays with every bundle.

    Args:
        bundles: by name; of one frame rate.
        clips: normal footage that none of them was trained on.

    Raises:
        ConfigError: too little footage, nothing in it that moves and stands free, bundles of several frame rates.
    """
    check_clips(clips)
    fps = _frame_rate(bundles, clips)
    kinds = _kinds(clips, fps, settings)
    scored: dict[str, dict[str, list[list[Score]]]] = {name: {kind: [] for kind in kinds} for name in bundles}
    frames_in_all = 0
    for number, clip in enumerate(clips):
        frames = _read(clip, fps, settings)
        frames_in_all += len(frames) * settings.rounds
        for index, (kind, make) in enumerate(kinds.items()):
            rngs = [np.random.default_rng([settings.seed, index, number, i]) for i in range(settings.rounds)]
            replays = [make(frames, number, rng) for rng in rngs]
            for name, bundle in bundles.items():
                scored[name][kind] += score_clips(bundle, settings.precision, replays, is_learning=True)
        log.info("clip %s scored", clip.name)
    results = {name: {kind: _judge(bundles[name], replays, settings) for kind, replays in of.items()} for name, of in scored.items()}
    return Comparison(results, frames_in_all / fps / 3600)


def _frame_rate(bundles: Mapping[str, Bundle], clips: Sequence[NormalClip]) -> float:
    rates = {bundle.manifest.fps for bundle in bundles.values()}
    if len(rates) != 1:
        raise ConfigError(f"compare: expected bundles of one frame rate, got {sorted(rates)}. Calibrate them on the same footage first.")
    return frame_rate(clips, rates.pop())


def _kinds(clips: Sequence[NormalClip], fps: float, settings: CompareSettings) -> dict[str, Replay]:
    """How a clip is replayed, by name of the kind."""
    cut_outs: list[list[CutOut]] = []
    speeds = []
    for clip in clips:
        frames = _read(clip, fps, settings)
        cut_outs.append(cut_out_movers(frames))
        speeds.append(brisk_speed(frames))
    speed_px = float(np.median(speeds))
    if not any(cut_outs) or speed_px == 0:
        raise ConfigError(
            "compare: expected footage in which something moves and now and then stands free, found nothing to cut out. "
            "Take clips with more life in them."
        )
    log.info("%d things cut out; what is brisk moves %.2f pixels a frame", sum(map(len, cut_outs)), speed_px)

    def glide(factors: tuple[float, float]) -> Replay:
        bounds = (factors[0] * speed_px, factors[1] * speed_px)
        return lambda frames, number, rng: add_gliders(frames, _from_others(cut_outs, number), bounds, fps, rng)

    gliders = {f"gliders {slow:g}-{fast:g}x": glide((slow, fast)) for slow, fast in GLIDERS}
    return gliders | {BOXES: lambda frames, _, rng: add_fast_forwards(frames, fps, rng)}


def _from_others(cut_outs: Sequence[Sequence[CutOut]], number: int) -> list[CutOut]:
    """What was cut out of the other clips, so that nothing meets its double; of the clip itself where there is no other."""
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


def _judge(bundle: Bundle, replays: Sequence[list[Score]], settings: CompareSettings) -> KindResult:
    scored = [scores for scores in replays if scores]
    truth = [bool(score.truth) for scores in scored for score in scores]
    if not truth or all(truth) or not any(truth):
        raise ConfigError("compare: expected clips of 6 s or more, these leave no room for a pseudo-anomaly. Use longer clips.")
    threshold = bundle.precision(settings.precision).threshold
    result = evaluate_replays(scored, bundle.manifest.paper_weight)
    counts = count_events({str(i): scores for i, scores in enumerate(scored)}, threshold.score, threshold.hold_s)
    alarms = sum_counts(list(counts.values()))
    return KindResult(result.paper, result.causal, alarms.events, alarms.hits, alarms.false_alarms)
