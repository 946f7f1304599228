from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.sources import open_source
from edge_runtime.sources.drawn.canvas import Canvas
from edge_runtime.sources.drawn.figures import ASPECTS, Actor, draw_actor
from edge_runtime.sources.drawn.synthetic import SyntheticSource, events, synthetic_clips, walkers
from tests.kit.wording import raises


def frames(uri: str) -> list[Frame]:
    return list(SyntheticSource.from_uri(uri))


def take(iterator: Iterator[Frame], count: int) -> list[Frame]:
    return list(itertools.islice(iterator, count))


def truths(uri: str) -> list[bool | None]:
    return [frame.truth for frame in SyntheticSource.from_uri(uri)]


def crossing(kind: str, start_x: float, end_x: float, y: float = 170.0) -> Actor:
    """Someone who takes ten seconds, with feet at the height where people are 54 units tall."""
    grey = (90, 90, 90)
    return Actor(kind, 0.0, 10.0, (start_x, y), (end_x, y), 1.0, 0.0, grey, grey, grey, grey)


def test_the_same_uri_gives_the_same_bytes() -> None:
    first, second = frames("synthetic:?seed=3&frames=20"), frames("synthetic:?seed=3&frames=20")
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))


def test_an_iterator_begins_at_the_first_frame_each_time() -> None:
    source = SyntheticSource.from_uri("synthetic:?frames=3")
    assert [frame.index for frame in source] == [frame.index for frame in source] == [0, 1, 2]


def test_different_seeds_show_different_people() -> None:
    first, second = frames("synthetic:?seed=1&frames=1"), frames("synthetic:?seed=2&frames=1")
    difference = np.abs(first[0].image.astype(int) - second[0].image)
    assert difference.max() > 60


def test_the_place_is_the_same_for_all_seeds() -> None:
    corners = [frames(f"synthetic:?seed={seed}&frames=1")[0].image[:60, :120].astype(float) for seed in range(4)]
    for corner in corners[1:]:
        gain = corner.mean() / corners[0].mean()
        assert 0.93 < gain < 1.07  # the light drifts by 3 % either way
        assert np.abs(corner - gain * corners[0]).mean() < 4


def test_nothing_is_anomalous_with_anomalies_off() -> None:
    assert set(truths("synthetic:?frames=200&anomalies=off")) == {False}


@pytest.mark.parametrize("seed", range(5))
def test_truth_has_events_of_some_seconds_after_a_normal_start(seed: int) -> None:
    truth = truths(f"synthetic:?seed={seed}&frames=400")
    runs = [(value, len(list(run))) for value, run in itertools.groupby(truth)]
    assert runs[0][0] is False and runs[0][1] >= 45
    whole = runs[1:-1]  # the last one is cut by the end
    assert any(value for value, _ in whole)
    assert all(30 <= length <= 75 for value, length in whole if value)
    assert all(45 <= length <= 120 for value, length in whole if not value)


def test_anomalies_are_the_only_difference_between_on_and_off() -> None:
    on, off = frames("synthetic:?frames=140"), frames("synthetic:?frames=140&anomalies=off")
    assert np.array_equal(on[30].image, off[30].image)
    anomalous = [number for number, frame in enumerate(on) if frame.truth]
    assert anomalous
    assert not any(np.array_equal(on[number].image, off[number].image) for number in anomalous)


def test_options_are_honoured() -> None:
    source = SyntheticSource.from_uri("synthetic:?frames=4&width=200&height=160&fps=5")
    got = list(source)
    assert (source.fps, source.frame_count, source.is_live) == (5.0, 4, False)
    assert {(frame.image.shape, frame.image.dtype.name) for frame in got} == {((160, 200, 3), "uint8")}
    assert [frame.index for frame in got] == [0, 1, 2, 3]
    assert [frame.time_s for frame in got] == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_defaults() -> None:
    source = SyntheticSource.from_uri("synthetic:")
    frame = next(iter(source))
    assert (source.uri, source.fps, source.frame_count) == ("synthetic:", 15.0, 400)
    assert frame.image.shape == (240, 320, 3)
    assert (frame.stream, frame.gap, frame.truth) == ("synthetic", Gap(GapKind.START, "start"), False)


def test_the_rate_changes_the_sampling_and_not_the_scene() -> None:
    slow, fast = truths("synthetic:?frames=100&fps=5"), truths("synthetic:?frames=300&fps=15")
    assert slow == fast[::3]


def test_open_source_overrides_rate_and_stream() -> None:
    source = open_source("synthetic:?frames=2&fps=5", fps=10, stream="gate")
    second = list(source)[1]
    assert (source.fps, second.time_s, second.stream) == (10.0, 0.1, "gate")


def test_a_loop_marks_the_gap_and_plays_the_same_again() -> None:
    source = SyntheticSource.from_uri("synthetic:?frames=3", loop=True)
    got = take(iter(source), 7)
    assert source.frame_count is None
    assert [frame.gap and frame.gap.text for frame in got] == ["start", None, None, "loop", None, None, "loop"]
    assert [frame.index for frame in got] == list(range(7))
    assert np.array_equal(got[0].image, got[3].image)


@pytest.mark.parametrize(
    "uri",
    [
        "synthetic:?sed=7",
        "synthetic:?seed=many",
        "synthetic:?seed=-1",
        "synthetic:?seed=1&seed=2",
        "synthetic:?frames=0",
        "synthetic:?anomalies=maybe",
        "synthetic:?width=5",
        "synthetic:?fps=0",
        "synthetic:?fps=nan",
        "synthetic:?clips=4",
        "synthetic:seed=7",
    ],
)
def test_a_wrong_uri_names_the_valid_keys(uri: str) -> None:
    with raises(ConfigError, "seed, frames, anomalies, width, height, fps"):
        SyntheticSource.from_uri(uri)


def test_clips_are_consecutive_seeds() -> None:
    assert synthetic_clips("synthetic:?clips=3&seed=100&anomalies=off") == [
        "synthetic:?seed=100&anomalies=off",
        "synthetic:?seed=101&anomalies=off",
        "synthetic:?seed=102&anomalies=off",
    ]
    assert synthetic_clips("synthetic:?clips=2") == ["synthetic:?seed=0", "synthetic:?seed=1"]


def test_without_clips_a_uri_stands_for_itself() -> None:
    assert synthetic_clips("synthetic:?seed=5") == ["synthetic:?seed=5"]


@pytest.mark.parametrize("uri", ["synthetic:?clips=0", "synthetic:?clips=4&colour=red"])
def test_wrong_clips_name_the_valid_keys(uri: str) -> None:
    with raises(ConfigError, "seed"):
        synthetic_clips(uri)


def test_half_a_box_inside_is_a_visible_share_of_a_half() -> None:
    actor = crossing("runner", 0.0, 320.0)
    assert actor.visible_share(0.0) == pytest.approx(0.5)
    assert actor.visible_share(5.0) == pytest.approx(1.0)
    assert crossing("runner", -60.0, 380.0).visible_share(0.0) == 0.0


@pytest.mark.parametrize("kind", ASPECTS)
def test_an_actor_is_drawn_inside_its_box(kind: str) -> None:
    actor, time_s = crossing(kind, -100.0, 420.0), 5.0
    canvas = Canvas(np.full((240, 320, 3), 200, np.uint8))
    draw_actor(canvas, actor, time_s)
    rows, columns = np.nonzero((canvas.image != 200).any(axis=2))
    (x, y), height = actor.feet(time_s), actor.height(time_s)
    reach = ASPECTS[kind] * height / 2 + 0.1 * height
    assert x - reach <= columns.min() < columns.max() <= x + reach
    assert rows.max() <= y + 0.4 * ASPECTS[kind] * height  # its shadow
    assert 0.9 * height <= y - rows.min() <= 1.3 * height


@pytest.mark.parametrize("row_of", [walkers, events])
def test_nobody_is_in_the_picture_when_setting_out_or_gone(
    row_of: Callable[[np.random.Generator], Iterator[Actor]],
) -> None:
    for actor in itertools.islice(row_of(np.random.default_rng(0)), 40):
        for time_s in (actor.start_s, actor.end_s):
            canvas = Canvas(np.full((240, 320, 3), 200, np.uint8))
            draw_actor(canvas, actor, time_s)
            assert (canvas.image == 200).all(), f"{actor} pops at {time_s} s"
