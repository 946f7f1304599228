from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_runtime import Bundle, Detector
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.errors import BackendError, BackendUnavailable, ConfigError, ManifestError, ShapeError
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.score import Score
from edge_runtime.stream import Stream
from tests.kit.changed_bundles import rewrite_manifest, with_gate
from tests.kit.wording import raises

Toy = Callable[[str], Bundle]
NEXT_CLIP = Gap(GapKind.NEXT_CLIP, "next clip after 1")
TOYS = ("one_pool", "two_banks", "three_pools")
SPANS = {"one_pool": 5, "two_banks": 4, "three_pools": 3}
LAGS = {"one_pool": 0, "two_banks": 1, "three_pools": 0}  # frames by which the target lies before the newest


def frames_of(count: int, seed: int = 0, **changes: object) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [Frame(rng.integers(0, 256, (20, 24, 3), np.uint8), i, i / 10, 1e9 + i / 10, "gate", **changes) for i in range(count)]


def run(detector: Detector, stream: Stream, frames: Sequence[Frame]) -> list[Score | None]:
    return [detector.step([(stream, frame)])[0].score for frame in frames]


def without_times(score: Score | None) -> Score | None:
    return None if score is None else replace(score, latency_ms=replace(score.latency_ms, **dict.fromkeys(vars(score.latency_ms), 0.0)))


@pytest.mark.parametrize("name", TOYS)
def test_the_scored_frame_is_the_target_and_there_is_none_while_the_window_fills(name: str, toy: Toy) -> None:
    detector = Detector.open(toy(name))
    scores = run(detector, detector.open_stream("gate"), frames_of(8, truth=True))
    filling, scored = scores[: SPANS[name] - 1], scores[SPANS[name] - 1 :]
    assert filling == [None] * (SPANS[name] - 1)
    for index, score in enumerate(scored, start=SPANS[name] - 1):
        assert score is not None
        target = index - LAGS[name]
        assert (score.stream, score.frame, score.time_s, score.wall_time_s) == ("gate", target, target / 10, 1e9 + target / 10)
        assert score.truth is True
        assert score.is_anomalous is (score.score >= score.threshold)
        assert score.score >= 0 and 0 < score.local_error < 1 and 0 < score.regular_score < 1


@pytest.mark.parametrize("name", TOYS)
def test_the_latency_is_told_by_stage(name: str, toy: Toy) -> None:
    detector = Detector.open(toy(name))
    score = run(detector, detector.open_stream(), frames_of(5))[-1]
    assert score is not None
    latency = score.latency_ms
    assert min(latency.preprocess, latency.encoder, latency.memory, latency.decoder) > 0
    assert latency.total >= latency.preprocess + latency.encoder + latency.memory + latency.decoder - 1e-6


def test_every_pool_has_a_distance_and_their_mean_is_the_query_distance(toy: Toy) -> None:
    detector = Detector.open(toy("three_pools"))
    score = run(detector, detector.open_stream(), frames_of(3))[-1]
    assert score is not None and list(score.distances) == ["level_1", "level_2", "level_3"]
    assert min(score.distances.values()) > 0
    assert score.query_distance == pytest.approx(sum(score.distances.values()) / 3)


@pytest.mark.parametrize(("quantity", "mixture"), [("query_distance", None), ("mixture", {"local_error": 2.0, "query_distance": 0.5})])
def test_the_score_may_be_made_of_the_mean_distance(quantity: str, mixture: dict[str, float] | None, toy: Toy) -> None:
    bundle = toy("three_pools")
    precision = bundle.manifest.precisions["fp32"]
    scale = replace(precision.score_scale, quantity=quantity, mixture=mixture, smoothing_frames=1)
    precisions = {"fp32": replace(precision, score_scale=scale)}
    detector = Detector.open(rewrite_manifest(bundle.path, replace(bundle.manifest, precisions=precisions)))
    score = run(detector, detector.open_stream(), frames_of(3))[-1]
    assert score is not None and score.query_distance is not None
    value = score.query_distance if mixture is None else 2 * score.local_error + 0.5 * score.query_distance
    assert score.score == pytest.approx(scale.score(value))


@pytest.mark.parametrize("name", TOYS)
def test_a_step_says_what_came_the_gap_before_it_and_what_was_scored(name: str, toy: Toy) -> None:
    detector = Detector.open(toy(name))
    stream, loop = detector.open_stream(), Gap(GapKind.LOOP, "loop")
    frames = frames_of(9) + [replace(frame, gap=loop if i == 0 else None) for i, frame in enumerate(frames_of(9, seed=1))]
    ahead = [detector.submit([(stream, frame)]) for frame in frames]  # all before the first is collected
    steps = [step for submitted in ahead for step in detector.collect(submitted)]
    assert [step.frame is frame for step, frame in zip(steps, frames, strict=True)] == [True] * 18
    assert [step.gap for step in steps] == [None] * 9 + [loop] + [None] * 8
    filling, lag = [None] * (SPANS[name] - 1), LAGS[name]
    targets = [frames.index(step.target) if step.target else None for step in steps]
    assert targets == [*filling, *range(SPANS[name] - 1 - lag, 9 - lag), *filling, *range(9 + SPANS[name] - 1 - lag, 18 - lag)]
    assert [step.score and step.score.frame for step in steps] == [step.target and step.target.index for step in steps]


@pytest.mark.parametrize(("name", "learns"), [("one_pool", True), ("two_banks", False), ("three_pools", True)])
def test_what_passes_the_gate_is_learned_where_a_pool_learns(name: str, learns: bool, toy: Toy) -> None:
    detector = Detector.open(toy(name))
    stream = detector.open_stream()
    shipped = stream.bank.snapshot()
    scores = [score for score in run(detector, stream, frames_of(8)) if score]
    assert all(score.memory_updated is learns for score in scores)
    assert [np.array_equal(items, shipped[pool]) for pool, items in stream.bank.snapshot().items()] == [not learns] * len(shipped)


def test_an_update_changes_the_next_score_and_not_its_own(toy: Toy) -> None:
    bundle = toy("one_pool")
    learning, closed = Detector.open(bundle), Detector.open(with_gate(bundle, 0.0))
    one, two = (run(detector, detector.open_stream(), frames_of(6)) for detector in (learning, closed))
    assert one[4] is not None and two[4] is not None and one[5] is not None and two[5] is not None
    assert (one[4].memory_updated, two[4].memory_updated) == (True, False)
    assert one[4].regular_score == two[4].regular_score
    assert one[5].query_distance != two[5].query_distance


@pytest.mark.parametrize("name", TOYS)
def test_two_streams_in_one_batch_score_as_each_alone_bit_for_bit(name: str, toy: Toy) -> None:
    detector = Detector.open(toy(name))
    detector.keeps_error_maps = True
    left, right = frames_of(10, seed=1), frames_of(10, seed=2)
    alone = [run(detector, detector.open_stream("gate"), frames) for frames in (left, right)]
    streams = [detector.open_stream("gate"), detector.open_stream("gate")]
    together = [[step.score for step in detector.step(list(zip(streams, pair, strict=True)))] for pair in zip(left, right, strict=True)]
    for i in (0, 1):
        for got, wanted in zip([pair[i] for pair in together], alone[i], strict=True):
            assert without_times(got) == without_times(wanted)
            if got is not None and wanted is not None:
                assert np.array_equal(got.error_map, wanted.error_map)
    assert alone[0] != alone[1]


def test_a_batch_may_hold_streams_whose_windows_are_not_full(toy: Toy) -> None:
    detector = Detector.open(toy("one_pool"))
    old, new = detector.open_stream("old"), detector.open_stream("new")
    frames = frames_of(5)
    run(detector, old, frames[:4])
    first, second = [step.score for step in detector.step([(new, frames[4]), (old, frames[4])])]
    assert first is None and second is not None and second.stream == "old"


def test_an_empty_batch_has_no_scores(toy: Toy) -> None:
    assert Detector.open(toy("one_pool")).step([]) == []


@pytest.mark.parametrize("kind", [GapKind.NEXT_CLIP, GapKind.SIZE])
def test_after_a_gap_there_is_no_score_and_no_update_until_the_window_is_full_again(kind: GapKind, toy: Toy) -> None:
    detector = Detector.open(toy("one_pool"))
    stream = detector.open_stream()
    before, after = frames_of(6), frames_of(6, seed=1)
    run(detector, stream, before)
    learned = stream.bank.snapshot()
    if kind is GapKind.SIZE:
        after = [replace(frame, image=frame.image[:16].copy()) for frame in after]
    else:
        after[0] = replace(after[0], gap=Gap(kind, "next clip"))
    scores = run(detector, stream, after[:4])
    assert scores == [None] * 4
    assert np.array_equal(stream.bank.snapshot()["memory"], learned["memory"])
    [score] = run(detector, stream, after[4:5])
    assert score is not None and score.memory_updated


def test_after_a_gap_nothing_of_the_past_is_in_the_score(toy: Toy) -> None:
    detector = Detector.open(with_gate(toy("one_pool"), 0.0))  # the memory would remember, and should
    stream = detector.open_stream("gate")
    clip = frames_of(7, seed=1)
    run(detector, stream, frames_of(7, seed=2))
    after_gap = run(detector, stream, [replace(clip[0], gap=NEXT_CLIP), *clip[1:]])
    fresh = run(detector, detector.open_stream("gate"), clip)
    assert [without_times(score) for score in after_gap] == [without_times(score) for score in fresh]


@pytest.mark.parametrize("name", TOYS)
def test_steps_submitted_ahead_score_as_one_by_one_also_across_a_gap(name: str, toy: Toy) -> None:
    frames = frames_of(8) + [replace(frame, gap=NEXT_CLIP if i == 0 else None) for i, frame in enumerate(frames_of(8, seed=1))]
    detector = Detector.open(toy(name))
    expected = run(detector, detector.open_stream(), frames)
    stream, scores, ahead = detector.open_stream(), [], []
    for frame in frames:
        ahead.append(detector.submit([(stream, frame)]))
        if len(ahead) == 3:
            scores += [step.score for step in detector.collect(ahead.pop(0))]
    for submitted in ahead:
        scores += [step.score for step in detector.collect(submitted)]
    assert list(map(without_times, scores)) == list(map(without_times, expected))


def test_scores_that_are_not_numbers_name_the_precision(toy: Toy) -> None:
    bundle = toy("one_pool")
    detector = Detector.open(with_broken_decoder(bundle))
    stream = detector.open_stream("gate")
    shipped = stream.bank.snapshot()
    frames = frames_of(5)
    run(detector, stream, frames[:4])
    with raises(BackendError, "gate, frame 4 … nan … --precision fp32 … fp32)"):
        detector.step([(stream, frames[4])])
    assert np.array_equal(stream.bank.snapshot()["memory"], shipped["memory"])


def test_a_frame_that_is_no_picture_is_refused(toy: Toy) -> None:
    detector = Detector.open(toy("one_pool"))
    with raises(ShapeError, "(H, W, 3) uint8 BGR … (8, 8, 3) float32"):
        detector.step([(detector.open_stream(), Frame(np.zeros((8, 8, 3), np.float32), 0, 0.0, 0.0))])


def test_error_maps_come_only_when_they_are_asked_for(toy: Toy) -> None:
    detector = Detector.open(with_gate(toy("one_pool"), 0.0))
    stream = detector.open_stream()
    frames = frames_of(6)
    without = run(detector, stream, frames[:5])[-1]
    assert without is not None and without.error_map is None
    detector.keeps_error_maps = True
    [score] = run(detector, stream, frames[5:])
    assert score is not None and score.error_map is not None
    assert score.error_map.shape == (32, 32) and score.error_map.dtype == np.float32
    assert -10 * math.log10(score.error_map.mean()) == pytest.approx(score.psnr_db, abs=1e-4)


def test_the_threshold_is_the_calibrated_one_unless_another_is_said(toy: Toy) -> None:
    bundle = toy("one_pool")
    assert Detector.open(bundle).threshold == 1.5
    detector = Detector.open(bundle, threshold=0.0)
    score = run(detector, detector.open_stream(), frames_of(5))[-1]
    assert score is not None and (score.threshold, score.is_anomalous) == (0.0, True)


@pytest.mark.parametrize("threshold", [math.nan, math.inf])
def test_a_threshold_that_is_no_number_is_refused(threshold: float, toy: Toy) -> None:
    with raises(ConfigError, f"threshold … {threshold}"):
        Detector.open(toy("one_pool"), threshold=threshold)


@pytest.mark.parametrize(("kind", "known"), [("backend", "auto, onnxruntime, tensorrt, tensorrt-rtx"), ("device", "auto, cpu, cuda")])
def test_an_unknown_backend_or_device_is_an_error_never_a_fallback(kind: str, known: str, toy: Toy) -> None:
    with raises(BackendUnavailable, f"{kind} … {known} … 'tpu'"):
        Detector.open(toy("one_pool"), **{kind: "tpu"})


def test_a_precision_the_bundle_does_not_have_is_an_error(toy: Toy) -> None:
    with raises(ManifestError, "'fp16' … fp32"):
        Detector.open(toy("one_pool"), precision="fp16")


def test_a_closed_detector_says_so_and_may_be_closed_again(toy: Toy) -> None:
    bundle = toy("one_pool")
    with Detector.open(bundle) as detector:
        stream = detector.open_stream()
        assert run(detector, stream, frames_of(1)) == [None]
    detector.close()
    with raises(BackendError, f"{bundle.path} … closed"):
        detector.step([(stream, frames_of(2)[1])])


def with_broken_decoder(bundle: Bundle) -> Bundle:
    """The bundle with every weight of its decoder not a number."""
    path = bundle.path / "decoder.fp32.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(values, np.nan), tensor.name))
    path.write_bytes(model.SerializeToString())
    return rewrite_manifest(bundle.path, with_decoder_hash(bundle.manifest, path.read_bytes()))


def with_decoder_hash(manifest: Manifest, content: bytes) -> Manifest:
    precision = manifest.precisions["fp32"]
    decoder = replace(precision.decoder, sha256=hashlib.sha256(content).hexdigest())
    return replace(manifest, precisions={"fp32": replace(precision, decoder=decoder)})
