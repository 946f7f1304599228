"""One suite over every graph and device: whatever runs a bundle scores, learns and forgets as ONNX Runtime and NumPy on the CPU do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Bundle, Detector
from edge_runtime.bundle.manifest import GateSpec, UpdateSpec
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.run.state import StateStore
from edge_runtime.score import Score, Step
from edge_runtime.stream import Stream
from export.tolerances import TOLERANCES
from tests.kit.agreement import assert_same_items, assert_same_score
from tests.kit.graphs_and_devices import PAIRS, Pair, opened, parameters, with_engine

TOYS = ("one_pool", "two_banks", "three_pools")
LEARNING = ("one_pool", "three_pools")
SPANS = {"one_pool": 5, "two_banks": 4, "three_pools": 3}
HOST = Pair("onnxruntime", "cpu")

Prepared = Callable[[Pair, str], Bundle]

each_pair = pytest.mark.parametrize("pair", parameters(PAIRS))
each_toy = pytest.mark.parametrize("name", TOYS)


@pytest.fixture(scope="module")
def prepared(toy_originals: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A toy with the engine that a pair takes, built once."""
    made: dict[tuple[str, str], Bundle] = {}

    def prepare(pair: Pair, name: str) -> Bundle:
        if (str(pair), name) not in made:
            folder = tmp_path_factory.mktemp("prepared") / name
            made[str(pair), name] = with_engine(Bundle.load(shutil.copytree(toy_originals[name], folder)), pair, "fp32")
        return made[str(pair), name]

    return prepare


@each_pair
@each_toy
def test_scores_decisions_and_items_are_those_of_the_host(pair: Pair, name: str, prepared: Prepared) -> None:
    bundle = prepared(pair, name)
    wanted, wanted_items = scored(bundle, HOST, frames_of(12))
    got, got_items = scored(bundle, pair, frames_of(12))
    assert sum(score is not None for score in wanted) == 13 - SPANS[name]
    for one, other in zip(got, wanted, strict=True):
        assert_same_score(one, other)
    assert_same_items(got_items, wanted_items, TOLERANCES["fp32"].memory)


@each_pair
@each_toy
def test_two_runs_are_equal_to_the_bit(pair: Pair, name: str, prepared: Prepared) -> None:
    bundle = prepared(pair, name)
    with opened(bundle, pair) as detector:
        runs = [trace(detector, frames_of(10)) for _ in range(2)]
    assert runs[0] == runs[1]


@each_pair
@each_toy
def test_a_stream_scores_and_learns_alone_as_in_a_batch(pair: Pair, name: str, prepared: Prepared) -> None:
    cameras = [frames_of(9, seed=seed) for seed in (1, 2, 3)]
    with opened(prepared(pair, name), pair) as detector:
        alone = [(stream := detector.open_stream("gate"), run(detector, stream, frames)) for frames in cameras]
        streams = [detector.open_stream("gate") for _ in cameras]
        together = [scores_of(detector.step(list(zip(streams, frames, strict=True)))) for frames in zip(*cameras, strict=True)]
        for i, (stream, scores) in enumerate(alone):
            for got, wanted in zip([step[i] for step in together], scores, strict=True):
                assert_same_score(got, wanted)
            assert_same_items(streams[i].bank.snapshot(), stream.bank.snapshot(), TOLERANCES["fp32"].memory)
    assert numbers(alone[0][1]) != numbers(alone[1][1])


@each_pair
def test_streams_join_and_leave_a_batch_with_their_own_memory(pair: Pair, prepared: Prepared) -> None:
    first, second = frames_of(9, seed=1), frames_of(9, seed=2)
    with opened(prepared(pair, "one_pool"), pair) as detector:
        alone = [run(detector, detector.open_stream("gate"), frames) for frames in (first, second)]
        one, two = detector.open_stream("gate"), detector.open_stream("gate")
        got = [scores_of(detector.step([(one, frame)])) for frame in first[:3]]
        got += [scores_of(detector.step([(two, other), (one, frame)])) for frame, other in zip(first[3:], second, strict=False)]
        got += [scores_of(detector.step([(two, frame)])) for frame in second[6:]]
    for frames, stream, scores in ((first, -1, got[:9]), (second, 0, got[3:])):
        wanted = alone[0] if frames is first else alone[1]
        for step, expected in zip(scores, wanted, strict=True):
            assert_same_score(step[stream], expected)


@each_pair
@each_toy
def test_steps_submitted_ahead_score_as_one_by_one(pair: Pair, name: str, prepared: Prepared) -> None:
    frames = [*frames_of(8), *after_gap(frames_of(8, seed=1))]
    with opened(prepared(pair, name), pair) as detector:
        wanted = run(detector, detector.open_stream("gate"), frames)
        stream, got, ahead = detector.open_stream("gate"), [], []
        for frame in frames:
            ahead.append(detector.submit([(stream, frame)]))
            if len(ahead) == 2:
                got += scores_of(detector.collect(ahead.pop(0)))
        got += [score for submitted in ahead for score in scores_of(detector.collect(submitted))]
    assert numbers(got) == numbers(wanted)


@each_pair
@each_toy
def test_a_gap_empties_the_window_and_nothing_is_learned_across_it(pair: Pair, name: str, prepared: Prepared) -> None:
    bundle = prepared(pair, name)
    with opened(with_limits(bundle, gate=0.0), pair) as detector:  # the memory would remember, and should
        stream = detector.open_stream("gate")
        run(detector, stream, frames_of(7, seed=2))
        got = run(detector, stream, after_gap(frames_of(7, seed=1)))
        wanted = run(detector, detector.open_stream("gate"), frames_of(7, seed=1))
    assert got[: SPANS[name] - 1] == [None] * (SPANS[name] - 1)
    assert numbers(got) == numbers(wanted)


@each_pair
@pytest.mark.parametrize("name", LEARNING)
def test_while_a_window_fills_again_the_memory_stays(pair: Pair, name: str, prepared: Prepared) -> None:
    with opened(prepared(pair, name), pair) as detector:
        stream = detector.open_stream("gate")
        run(detector, stream, frames_of(8))
        learned = stream.bank.snapshot()
        run(detector, stream, after_gap(frames_of(SPANS[name] - 1, seed=1)))
        assert bits(stream.bank.snapshot()) == bits(learned)


@each_pair
@each_toy
def test_a_closed_gate_learns_nothing_and_an_open_one_what_has_a_rule(pair: Pair, name: str, prepared: Prepared) -> None:
    for limit, learns in ((0.0, False), (1.0, name in LEARNING)):
        with opened(with_limits(prepared(pair, name), gate=limit), pair) as detector:
            stream = detector.open_stream("gate")
            shipped = bits(stream.bank.snapshot())
            scores = [score for score in run(detector, stream, frames_of(8)) if score]
            assert scores and all(score.memory_updated is learns for score in scores)
            changed = [now != before for now, before in zip(bits(stream.bank.snapshot()), shipped, strict=True)]
            assert changed == [learns] * len(changed)


@each_pair
def test_a_frozen_bank_scores_and_learns_nothing_until_it_is_unfrozen(pair: Pair, prepared: Prepared) -> None:
    frames = frames_of(12)
    with opened(prepared(pair, "one_pool"), pair) as detector:
        stream = detector.open_stream("gate")
        run(detector, stream, frames[:6])
        stream.bank.freeze()
        frozen = bits(stream.bank.snapshot())
        scores = run(detector, stream, frames[6:9])
        assert [score and score.memory_updated for score in scores] == [False] * 3
        assert stream.bank.is_frozen and bits(stream.bank.snapshot()) == frozen
        stream.bank.unfreeze()
        [score] = run(detector, stream, frames[9:10])
        assert score is not None and score.memory_updated
        assert not stream.bank.is_frozen and bits(stream.bank.snapshot()) != frozen


@each_pair
@pytest.mark.parametrize("name", LEARNING)
def test_past_the_drift_limit_a_step_is_discarded_and_the_bank_freezes(pair: Pair, name: str, prepared: Prepared) -> None:
    with opened(with_limits(prepared(pair, name), gate=1.0, drift=1e-7), pair) as detector:
        stream = detector.open_stream("gate")
        shipped = bits(stream.bank.snapshot())
        scores = [score for score in run(detector, stream, frames_of(8)) if score]
        assert scores and not any(score.memory_updated for score in scores)
        assert stream.bank.is_frozen and bits(stream.bank.snapshot()) == shipped


@each_pair
@pytest.mark.parametrize("name", TOYS)
def test_a_state_goes_to_disk_and_back(pair: Pair, name: str, prepared: Prepared, tmp_path: Path) -> None:
    bundle, frames = prepared(pair, name), frames_of(14)
    with opened(bundle, pair) as detector:
        lasting, second = detector.open_stream("gate"), detector.open_stream("gate")
        run(detector, lasting, frames[:8])
        StateStore(tmp_path, "gate", bundle).save(lasting.bank)
        assert StateStore(tmp_path, "gate", bundle).load(second.bank)
        assert bits(second.bank.snapshot()) == bits(lasting.bank.snapshot())
        wanted = run(detector, lasting, after_gap(frames[8:]))
        got = run(detector, second, frames[8:])
        assert numbers(got) == numbers(wanted)
        assert bits(second.bank.snapshot()) == bits(lasting.bank.snapshot())


@each_pair
@pytest.mark.parametrize("name", LEARNING)
def test_a_reset_gives_the_shipped_items_back(pair: Pair, name: str, prepared: Prepared) -> None:
    bundle = prepared(pair, name)
    with opened(bundle, pair) as detector:
        stream = detector.open_stream("gate")
        wanted = numbers(run(detector, stream, frames_of(8)))
        stream.bank.reset()
        assert_same_items(stream.bank.snapshot(), bundle.read_items(), 0.0)
        got = numbers(run(detector, stream, after_gap(frames_of(8))))
    assert got == wanted


@each_pair
def test_error_maps_come_when_they_are_asked_for(pair: Pair, prepared: Prepared) -> None:
    bundle = prepared(pair, "three_pools")
    maps = []
    for each in (pair, HOST):
        with opened(bundle, each) as detector:
            stream = detector.open_stream("gate")
            assert all(score.error_map is None for score in run(detector, stream, frames_of(4)) if score)
            detector.keeps_error_maps = True
            [score] = run(detector, stream, frames_of(5)[4:])
            assert score is not None and score.error_map is not None
            maps.append(score.error_map)
    assert maps[0].shape == maps[1].shape == (16, 16)
    assert np.abs(maps[0] - maps[1]).max() <= TOLERANCES["fp32"].prediction


def frames_of(count: int, seed: int = 0) -> list[Frame]:
    """Noise, 24 x 20: every toy resizes it."""
    rng = np.random.default_rng(seed)
    return [Frame(rng.integers(0, 256, (20, 24, 3), np.uint8), i, i / 10, 1e9 + i / 10, "gate") for i in range(count)]


def after_gap(frames: Sequence[Frame]) -> list[Frame]:
    return [replace(frames[0], gap=Gap(GapKind.NEXT_CLIP, "next clip")), *frames[1:]]


def with_limits(bundle: Bundle, *, gate: float, drift: float = 2.0) -> Bundle:
    """The same files with another gate and drift limit."""
    update: UpdateSpec = replace(bundle.manifest.update, drift_limit=drift)
    return replace(bundle, manifest=replace(bundle.manifest, gate=GateSpec(gate), update=update))


def scored(bundle: Bundle, pair: Pair, frames: Sequence[Frame]) -> tuple[list[Score | None], dict[str, np.ndarray]]:
    """Scores with their error maps, and the items afterwards."""
    with opened(bundle, pair) as detector:
        detector.keeps_error_maps = True
        stream = detector.open_stream("gate")
        return run(detector, stream, frames), stream.bank.snapshot()


def run(detector: Detector, stream: Stream, frames: Sequence[Frame]) -> list[Score | None]:
    return [detector.step([(stream, frame)])[0].score for frame in frames]


def scores_of(steps: Sequence[Step]) -> list[Score | None]:
    return [step.score for step in steps]


def trace(detector: Detector, frames: Sequence[Frame]) -> tuple[list[object], list[bytes]]:
    stream = detector.open_stream("gate")
    return numbers(run(detector, stream, frames)), bits(stream.bank.snapshot())


def numbers(scores: Sequence[Score | None]) -> list[object]:
    """Everything that a score says but how long it took."""
    zeros = [
        score and replace(score, latency_ms=replace(score.latency_ms, **dict.fromkeys(vars(score.latency_ms), 0.0))) for score in scores
    ]
    return list(zeros)


def bits(items: dict[str, np.ndarray]) -> list[bytes]:
    return [array.tobytes() for _, array in sorted(items.items())]
