from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.clips import NormalClip, find_clips, read_frames, split_at_gaps
from calibration.score import CalibrationSettings, Choice, NormalRun, calibrate, choose_quantity, choose_threshold
from edge_runtime import Bundle, Detector, open_source
from edge_runtime.bundle.manifest_file import encode_manifest, parse_manifest
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation.scoring import open_evaluation_stream, score_frames
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.run.alarms import count_alarms
from edge_runtime.run.pipeline import Pipeline
from edge_runtime.score import Score
from tests.kit.drawn_footage import draw
from tests.kit.scores import make_score
from tests.kit.timed_video import every, write_timed_video
from tests.kit.wording import missing, raises

pytestmark = pytest.mark.slow

Toy = Callable[[str], Bundle]
NORMAL = "synthetic:?clips=2&seed=50&frames=100&anomalies=off&width=64&height=48&fps=10"
TAIL = -math.log10(0.05)


def run_of(scores: Sequence[float], fps: float = 1.0) -> NormalRun:
    return NormalRun(np.array(scores), np.arange(len(scores)) / fps)


def peaks_in(frames: int, *peaks: float) -> NormalRun:
    """Scores of 0.1 with single peaks far from each other."""
    scores = [0.1] * frames
    for i, peak in enumerate(peaks):
        scores[(i + 1) * frames // (len(peaks) + 1)] = peak
    return run_of(scores)


# threshold


@pytest.mark.parametrize(("rate", "between"), [(1.0, (4, 5)), (2.0, (3, 4)), (3.9, (2, 3))])
def test_an_hour_of_footage_counts_its_alarms(rate: float, between: tuple[float, float]) -> None:
    threshold = choose_threshold([peaks_in(3600, 2, 3, 5, 4)], 1.0, CalibrationSettings(false_alarms_per_hour=rate))
    assert between[0] < threshold.score <= between[1]
    assert threshold.score == math.nextafter(between[0], math.inf)
    assert (threshold.false_alarms_per_hour, threshold.is_extrapolated, threshold.hold_s) == (rate, False, 2.0)


def test_footage_is_counted_over_all_clips() -> None:
    clips = [peaks_in(1800, 2, 5), peaks_in(1800, 3, 4)]
    assert choose_threshold(clips, 1.0, CalibrationSettings()).score == math.nextafter(4, math.inf)


def test_a_threshold_so_low_that_one_alarm_never_ends_is_not_taken_for_a_quiet_one() -> None:
    scores = (-np.log10(np.random.default_rng(0).uniform(size=7200))).tolist()
    settings = CalibrationSettings(hold_s=20.0)  # at the median score an alarm lasts for hours
    threshold = choose_threshold([run_of(scores)], 1.0, settings)
    times_s = np.arange(7200.0)
    assert count_alarms(np.array(scores), times_s, threshold.score, 20.0) == 2
    assert count_alarms(np.array(scores), times_s, math.nextafter(threshold.score, 0), 20.0) == 3
    assert threshold.score > 3


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_less_footage_is_extrapolated_from_how_many_frames_make_an_alarm(rate: float) -> None:
    # 4 frames reach the tail, in 2 alarms: two frames an alarm. 10 frames a second are 36,000 an hour.
    scores = [0.1] * 600
    scores[100:103] = [2.0, 2.0, 2.0]
    scores[400] = 1.4
    threshold = choose_threshold([run_of(scores, fps=10.0)], 10.0, CalibrationSettings(false_alarms_per_hour=rate))
    assert threshold.score == pytest.approx(math.log10(36_000 * (2 / 4) / rate))
    assert threshold.is_extrapolated


def test_an_extrapolated_threshold_is_never_below_the_tail() -> None:
    threshold = choose_threshold([run_of([0.1] * 36)], 1.0, CalibrationSettings(false_alarms_per_hour=90.0))
    assert (threshold.score, threshold.is_extrapolated) == (pytest.approx(math.log10(40)), True)
    threshold = choose_threshold([run_of([2.0] * 36)], 1.0, CalibrationSettings(false_alarms_per_hour=90.0))
    assert threshold.score == pytest.approx(TAIL)  # one alarm of 36 frames: by itself it would be log10(40 / 36)


def test_more_false_alarms_wished_never_raise_the_threshold() -> None:
    scores = np.random.default_rng(1).exponential(0.5, 3600).tolist()
    thresholds = [choose_threshold([run_of(scores)], 1.0, CalibrationSettings(rate)).score for rate in (1.0, 2.0, 5.0, 20.0)]
    assert thresholds == sorted(thresholds, reverse=True)


def test_an_alarm_ends_at_a_gap_and_by_the_clock() -> None:
    # Two peaks with a frame between them are one alarm; with a gap there, or where that frame came late, they are two.
    scores = [0.1] * 10 + [2.0, 0.1, 2.0] + [0.1] * 10
    whole = run_of(scores)
    cut = [run_of(scores[:12]), run_of(scores[12:])]
    uneven = NormalRun(whole.scores, whole.times_s + 2.0 * (whole.times_s >= 11))
    extrapolated = [choose_threshold(runs, 1.0, CalibrationSettings()).score for runs in ([whole], cut, [uneven])]
    assert extrapolated == pytest.approx([math.log10(3600 * alarms / 2) for alarms in (1, 2, 2)])


# clips


def test_a_clip_is_split_at_its_gaps() -> None:
    frames = [Frame(np.zeros((1, 1, 3), np.uint8), i, 0.0, 0.0, "gate", "a pause" if i in (0, 2, 5) else None) for i in range(6)]
    assert [[frame.index for frame in stretch] for stretch in split_at_gaps(frames)] == [[0, 1], [2, 3, 4], [5]]
    assert [[frame.index for frame in stretch] for stretch in split_at_gaps(frames[3:])] == [[3, 4], [5]]


def test_clips_of_a_place_are_read_whole() -> None:
    clips = find_clips(NORMAL)
    assert [clip.name for clip in clips] == ["synthetic-00", "synthetic-01"]
    frames = list(read_frames(clips[0], 10.0))
    assert len(frames) == 100 and frames[0].gap == Gap(GapKind.START, "start") and frames[1].time_s == 0.1


def test_a_part_of_a_clip_counts_from_its_own_first_frame() -> None:
    frames = list(read_frames(NormalClip("part", find_clips(NORMAL)[0].uri, start=10, stop=13), 10.0))
    assert [(frame.index, frame.gap and frame.gap.text) for frame in frames] == [(0, "start"), (1, None), (2, None)]
    whole = list(read_frames(find_clips(NORMAL)[0], 10.0))
    assert np.array_equal(frames[0].image, whole[10].image)


# quantity

LOCAL, DISTANCE = Choice("local_error", None), Choice("query_distance", None)


def replay_of(local_errors: Sequence[float], distances: Sequence[float], truth: Sequence[bool]) -> list[list[Score]]:
    return [
        [
            make_score(frame=i, time_s=float(10 * i), local_error=local_error, query_distance=distance, truth=is_odd)
            for i, (local_error, distance, is_odd) in enumerate(zip(local_errors, distances, truth, strict=True))
        ]
    ]


def test_the_distance_is_taken_where_it_tells_pseudo_anomalies_better() -> None:
    replay = replay_of([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1.0, 0.0], [False, False, True, False])
    assert choose_quantity([LOCAL, DISTANCE], [replay], least_lead=0.5) == DISTANCE


def test_the_first_quantity_stays_where_the_lead_is_small() -> None:
    replay = replay_of([0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0], [False, False, True, False])
    assert choose_quantity([LOCAL, DISTANCE], [replay], least_lead=0.5) == LOCAL


def test_a_mixture_adds_up_what_each_part_says() -> None:
    mixture = Choice("mixture", {"local_error": 1.0, "query_distance": 1.0})
    replay = replay_of([1.0, 0.0, 0.9, 0.9], [0.0, 1.0, 0.9, 0.9], [False, False, True, True])
    assert choose_quantity([LOCAL, DISTANCE, mixture], [replay], least_lead=0.5) == mixture


# a bundle


def test_a_calibrated_bundle_is_valid_and_holds_what_it_was_calibrated_for(toy: Toy) -> None:
    bundle = toy("one_pool")
    settings = CalibrationSettings(pseudo_rounds=1, quantities=("local_error",))
    manifest = calibrate(bundle, find_clips(NORMAL), settings)
    assert parse_manifest(encode_manifest(manifest), "calibrated") == manifest
    precision = manifest.precisions["fp32"]
    assert manifest.gate.limit == pytest.approx(np.quantile(frozen_regular_scores(bundle), 0.9))
    assert manifest.paper_weight in settings.paper_weights
    assert precision.score_scale.quantity == "local_error" and precision.score_scale.smoothing_frames in (1, 2, 5, 8, 10)
    assert precision.threshold.is_extrapolated and precision.threshold.score >= TAIL
    assert precision.verdict == "The reference."
    untouched = {"precisions": bundle.manifest.precisions, "gate": bundle.manifest.gate, "paper_weight": bundle.manifest.paper_weight}
    assert replace(manifest, **untouched) == bundle.manifest
    assert calibrate(bundle, find_clips(NORMAL), settings) == manifest  # the same again


def test_the_scale_puts_a_twentieth_of_the_normal_frames_into_the_tail(toy: Toy) -> None:
    bundle = toy("one_pool")
    calibrated = replace(bundle, manifest=calibrate(bundle, find_clips(NORMAL), CalibrationSettings(pseudo_rounds=1)))
    detector = Detector.open(calibrated)
    scores = [
        score.score
        for clip in find_clips(NORMAL)
        for run in score_frames(detector, open_evaluation_stream(detector, is_learning=True), read_frames(clip, 10.0))
        for score in run
    ]
    assert np.mean(np.array(scores) > TAIL) == pytest.approx(0.05, abs=0.01)


def test_footage_with_pauses_is_measured_as_the_runtime_will_score_it(toy: Toy, tmp_path: Path) -> None:
    times_s = every(0.1, 70) + every(0.1, 3, start_s=30) + every(0.1, 40, start_s=60) + every(0.1, 40, start_s=90)
    video = write_timed_video(tmp_path / "gate.mp4", draw(153), times_s)
    bundle = toy("one_pool")
    settings = CalibrationSettings(pseudo_rounds=1, smoothing_s=(1.0,), quantities=("local_error",))
    calibrated = replace(bundle, manifest=calibrate(bundle, find_clips(str(video)), settings))
    precision = calibrated.manifest.precisions["fp32"]

    detector = Detector.open(calibrated, device="cpu", threshold=TAIL)
    stream = detector.open_stream("gate")
    runs = score_frames(detector, detector.open_stream("gate"), open_source(str(video)))
    pipeline = Pipeline(detector, open_source(str(video)), [], stream)
    pipeline.run()
    assert sum(map(len, runs)) == pipeline.progress.scored == 70 + 40 + 40 - 3 * 4
    errors = [[score.local_error for score in run] for run in runs]
    smoothed = [np.mean(run[max(i - 9, 0) : i + 1]) for run in errors for i in range(len(run))]  # ten frames are a second
    assert precision.score_scale.knots == pytest.approx(np.quantile(smoothed, np.linspace(0, 0.95, 65)))
    reached = sum(score.score >= TAIL for run in runs for score in run)
    assert precision.threshold.score == pytest.approx(math.log10(36_000 * pipeline.progress.alarms / reached))


def test_a_second_precision_is_told_apart_from_the_first(toy: Toy) -> None:
    bundle = toy("one_pool")
    twin = replace(bundle, manifest=replace(bundle.manifest, precisions=bundle.manifest.precisions | {"again": bundle.precision("fp32")}))
    manifest = calibrate(twin, find_clips(NORMAL), CalibrationSettings(pseudo_rounds=1))
    again = manifest.precisions["again"]
    assert not missing(again.verdict, "192 … 0 … fp32")
    assert again == replace(manifest.precisions["fp32"], verdict=again.verdict)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (NORMAL.replace("frames=100", "frames=4"), "window"),
        (NORMAL.replace("frames=100", "frames=25"), "6 s"),
    ],
)
def test_clips_that_are_too_short_are_refused(where: str, name: str, toy: Toy) -> None:
    with raises(ConfigError, name):
        calibrate(toy("one_pool"), find_clips(where), CalibrationSettings())


def test_many_short_clips_first_do_not_hide_those_with_room(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    short = find_clips(NORMAL.replace("clips=2", "clips=8").replace("frames=100", "frames=20"))
    shorter_than_a_window = find_clips(NORMAL.replace("clips=2", "clips=1").replace("frames=100", "frames=4"))
    with caplog.at_level(logging.WARNING):
        clips = [*shorter_than_a_window, *short, *find_clips(NORMAL)]
        manifest = calibrate(toy("one_pool"), clips, CalibrationSettings(pseudo_rounds=1, paper_weights=(0.3,)))
    assert manifest.paper_weight == 0.3
    assert any(not missing(message, "1 of 11 … 5 frames … synthetic-00") for message in caplog.messages)


def test_no_clip_at_all_is_refused(toy: Toy) -> None:
    with raises(ConfigError, "normal clip … none … --data"):
        calibrate(toy("one_pool"), [], CalibrationSettings())


def frozen_regular_scores(bundle: Bundle) -> list[float]:
    detector = Detector.open(bundle)
    return [
        score.regular_score
        for clip in find_clips(NORMAL)
        for run in score_frames(detector, open_evaluation_stream(detector, is_learning=False), read_frames(clip, 10.0))
        for score in run
    ]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_no_threshold_can_keep_is_refused(rate: float) -> None:
    with raises(ConfigError, f"false alarms … got {rate}"):
        CalibrationSettings(false_alarms_per_hour=rate)
