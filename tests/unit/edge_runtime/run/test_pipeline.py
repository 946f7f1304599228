from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime import Bundle, Detector, open_source
from edge_runtime.errors import SinkError, SourceError
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.run.pipeline import Pipeline
from edge_runtime.run.state import StateStore
from edge_runtime.run.summary import Progress
from edge_runtime.score import Event, EventKind, Score, Step
from edge_runtime.sources import BREAKING_EVENTS, SourceHealth
from edge_runtime.stream import Stream
from tests.kit.changed_bundles import rewrite_manifest
from tests.kit.wording import missing, raises

Toy = Callable[[str], Bundle]


class Notebook:
    """A sink that keeps what it is given: `scored 4`, `frame 0` while the window fills, an event's name, `closed`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.scores: list[Score] = []
        self.events: list[Event] = []

    def write_step(self, step: Step) -> None:
        if step.target is None or step.score is None:
            self.lines.append(f"frame {step.frame.index}")
        else:
            assert step.target.index == step.score.frame
            self.lines.append(f"scored {step.target.index}")
            self.scores.append(step.score)

    def write_event(self, event: Event) -> None:
        self.lines.append(event.event.value)
        self.events.append(event)

    def close(self) -> None:
        self.lines.append("closed")


class FullDisk(Notebook):
    """A sink that fails when it is closed."""

    def close(self) -> None:
        super().close()
        raise SinkError("scores.jsonl: the disk is full")


def put_clip(folder: Path, count: int, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        assert cv2.imwrite(str(folder / f"{i:03d}.png"), rng.integers(0, 256, (32, 32, 3), np.uint8))


def pipeline_of(
    bundle: Bundle,
    where: Path | str,
    *sinks: Notebook,
    threshold: float | None = None,
    state: StateStore | None = None,
    on_frame: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Pipeline, Stream]:
    detector = Detector.open(bundle, threshold=threshold)
    stream = detector.open_stream("gate")
    source = open_source(str(where), fps=10)
    return Pipeline(detector, source, sinks, stream, state=state, on_frame=on_frame), stream


def test_a_run_hands_everything_to_every_sink_in_order_and_closes_them(toy: Toy, tmp_path: Path) -> None:
    put_clip(tmp_path / "clips" / "1", 7)
    put_clip(tmp_path / "clips" / "2", 6, seed=1)
    sinks = Notebook(), Notebook()
    pipeline, _ = pipeline_of(toy("one_pool"), tmp_path / "clips", *sinks, threshold=0.0)
    pipeline.run()
    first = ["frame 0", "frame 1", "frame 2", "frame 3", "scored 4", "alarm_start", "scored 5", "scored 6", "alarm_end", "gap"]
    second = ["frame 7", "frame 8", "frame 9", "frame 10", "scored 11", "alarm_start", "scored 12", "alarm_end", "closed"]
    assert sinks[0].lines == sinks[1].lines == first + second
    start, end, gap, *_ = sinks[0].events
    assert (start.frame, start.time_s, end.frame) == (4, 0.4, 6)
    assert end.detail["duration_s"] == pytest.approx(0.2)
    assert (gap.frame, gap.stream, gap.detail) == (7, "gate", {"reason": "next clip after 1"})


def test_the_summary_counts_what_happened(toy: Toy, tmp_path: Path) -> None:
    put_clip(tmp_path / "clips" / "1", 7)
    put_clip(tmp_path / "clips" / "2", 6, seed=1)
    notebook = Notebook()
    pipeline, _ = pipeline_of(toy("one_pool"), tmp_path / "clips", notebook, threshold=0.0)
    pipeline.run()
    summary = pipeline.summary()
    assert (summary.frames, summary.scored, summary.alarms, summary.updates, summary.gaps) == (13, 5, 2, 5, 1)
    assert (summary.bundle, summary.backend, summary.device, summary.precision) == ("one_pool", "onnxruntime", "cpu", "fp32")
    assert summary.ended_by == "end of source" and summary.fps > 0 and not summary.memory_frozen
    assert summary.drift == notebook.scores[-1].memory.drift > 0
    assert summary.latency_ms is not None and 0 < summary.latency_ms.p50 <= summary.latency_ms.p95 <= summary.latency_ms.p99
    assert sum(score.memory_updated for score in notebook.scores) == 5


def test_an_alarm_that_flickers_is_counted_once(toy: Toy) -> None:
    notebook = Notebook()
    pipeline, _ = pipeline_of(toy("one_pool"), "synthetic:?frames=30", notebook, threshold=0.0)
    pipeline.run()
    assert pipeline.summary().alarms == 1
    assert [event.event for event in notebook.events] == ["alarm_start", "alarm_end"]


def test_without_a_score_at_the_threshold_there_is_no_alarm(toy: Toy) -> None:
    notebook = Notebook()
    pipeline, _ = pipeline_of(toy("one_pool"), "synthetic:?frames=10", notebook, threshold=1e9)
    pipeline.run()
    assert pipeline.summary().alarms == 0 and notebook.events == []


def test_a_scored_frames_latency_covers_all_stages(toy: Toy) -> None:
    notebook = Notebook()
    pipeline, _ = pipeline_of(toy("one_pool"), "synthetic:?frames=7", notebook)
    pipeline.run()
    first, second, _ = (score.latency_ms for score in notebook.scores)
    assert first.grab > 0 and first.sinks == 0 and second.sinks > 0
    for latency in (first, second):
        stages = (latency.grab, latency.preprocess, latency.encoder, latency.memory, latency.decoder, latency.sinks)
        assert latency.total >= math.fsum(stages) - 1e-6


@pytest.mark.parametrize(("most", "frames", "ended_by"), [(0, 0, "max frames"), (6, 6, "max frames"), (99, 8, "end of source")])
def test_it_ends_after_the_frames_it_may_take(most: int, frames: int, ended_by: str, toy: Toy) -> None:
    notebook = Notebook()
    pipeline, _ = pipeline_of(toy("one_pool"), "synthetic:?frames=8", notebook)
    pipeline.run(most)
    assert (pipeline.summary().frames, pipeline.summary().ended_by) == (frames, ended_by)
    assert len(notebook.lines) == frames + 1 and notebook.lines[-1] == "closed"


def test_told_to_stop_it_finishes_the_frame_and_the_files(toy: Toy, tmp_path: Path) -> None:
    def stop_at_six(progress: Progress) -> None:
        if progress.frames == 6:
            pipeline.stop()

    bundle, notebook = toy("one_pool"), Notebook()
    state = StateStore(tmp_path / "state", "gate", bundle)
    pipeline, stream = pipeline_of(bundle, "synthetic:?frames=50", notebook, state=state, on_frame=stop_at_six)
    pipeline.run()
    assert (pipeline.summary().frames, pipeline.summary().scored, pipeline.summary().ended_by) == (6, 2, "interrupted")
    assert notebook.lines[-2:] == ["scored 5", "closed"]
    restored = Detector.open(bundle).open_stream("gate")
    assert state.load(restored.bank)
    assert np.array_equal(restored.bank.snapshot()["memory"], stream.bank.snapshot()["memory"])


class ThatBreaks:
    """A live source: the frames of a scene, then one thing that happens to the camera, and no more frames."""

    uri, stream, fps, frame_count, is_live = "scene", "gate", 10.0, None, True

    def __init__(self, what: EventKind, frames: int) -> None:
        scene = open_source(f"synthetic:?frames={frames}&width=32&height=32&fps=10")
        self._items: list[Frame | Event] = [*scene, Event(what, "gate", frames, frames / 10, 1e9)]

    def __iter__(self) -> Iterator[Frame]:
        return (item for item in self._items if isinstance(item, Frame))

    def poll(self, timeout_s: float) -> Frame | Event | None:
        return self._items.pop(0) if self._items else None

    def health(self) -> SourceHealth:
        return SourceHealth("scene", "reading")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("what", BREAKING_EVENTS)
def test_an_alarm_does_not_wait_for_a_camera_that_shows_nothing(what: EventKind, toy: Toy) -> None:
    notes = Notebook()
    detector = Detector.open(toy("one_pool"), threshold=-1.0)
    source = ThatBreaks(what, 8)
    stream = detector.open_stream("gate")
    pipeline = Pipeline(detector, source, [notes], stream, on_round=lambda: what.value in notes.lines and pipeline.stop())
    pipeline.run()
    assert notes.lines[-3:] == ["alarm_end", what.value, "closed"]


@pytest.mark.parametrize(("kind", "alarms"), [(kind, 1 if kind is GapKind.DAMAGED else 2) for kind in GapKind])
def test_an_alarm_outlasts_damaged_pictures_and_no_other_gap(kind: GapKind, alarms: int, toy: Toy) -> None:
    notes = Notebook()
    source = ThatBreaks(EventKind.SOURCE_LOST, 16)
    source._items[8] = replace(source._items[8], gap=Gap(kind, "of some kind"))  # type: ignore[arg-type]
    detector = Detector.open(toy("one_pool"), threshold=-1.0)
    pipeline = Pipeline(
        detector, source, [notes], detector.open_stream("gate"), on_round=lambda: "source_lost" in notes.lines and pipeline.stop()
    )
    pipeline.run()
    assert (notes.lines.count("alarm_start"), notes.lines.count("alarm_end"), notes.lines.count("gap")) == (alarms, alarms, 1)


def test_an_error_in_the_source_ends_the_alarm_closes_the_sinks_saves_the_state_and_is_told(toy: Toy, tmp_path: Path) -> None:
    put_clip(tmp_path / "clip", 6)
    (tmp_path / "clip" / "006.png").write_bytes(b"no image")
    bundle, sinks = toy("one_pool"), (Notebook(), Notebook())
    state = StateStore(tmp_path / "state", "gate", bundle)
    pipeline, _ = pipeline_of(bundle, tmp_path / "clip", *sinks, threshold=0.0, state=state)
    with raises(SourceError, "006.png … image"):
        pipeline.run()
    for sink in sinks:
        assert sink.lines[-3:] == ["scored 5", "alarm_end", "closed"]
    assert os.listdir(tmp_path / "state") == ["gate.safetensors"]
    assert pipeline.summary().ended_by.startswith("error: ") and "006.png" in pipeline.summary().ended_by
    assert (pipeline.summary().frames, pipeline.summary().scored) == (6, 2)


def test_a_sink_that_cannot_be_closed_keeps_no_other_from_it(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    sinks = Notebook(), FullDisk(), Notebook()
    state = StateStore(tmp_path / "state", "gate", bundle)
    pipeline, _ = pipeline_of(bundle, "synthetic:?frames=6", *sinks, state=state)
    with raises(SinkError, "scores.jsonl"):
        pipeline.run()
    assert [sink.lines.count("closed") for sink in sinks] == [1, 1, 1]
    assert state.path.exists()


def test_a_memory_that_drifts_past_its_limit_is_frozen_once_and_told(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    bundle = toy("one_pool")
    update = replace(bundle.manifest.update, drift_limit=1e-9)
    bundle = rewrite_manifest(bundle.path, replace(bundle.manifest, update=update))
    notebook = Notebook()
    pipeline, _ = pipeline_of(bundle, "synthetic:?frames=8", notebook, threshold=1e9)
    with caplog.at_level(logging.WARNING):
        pipeline.run()
    [event] = notebook.events
    assert (event.event, event.frame, event.detail["drift_limit"]) == ("memory_frozen", 4, 1e-9)
    assert not missing(caplog.text, "gate: … 1e-09 … frozen")
    assert pipeline.summary().memory_frozen and pipeline.summary().updates == 0 and pipeline.summary().scored == 4


def test_a_memory_frozen_from_the_start_is_no_event(toy: Toy) -> None:
    notebook = Notebook()
    pipeline, stream = pipeline_of(toy("one_pool"), "synthetic:?frames=6", notebook, threshold=1e9)
    stream.bank.freeze()
    pipeline.run()
    assert notebook.events == [] and pipeline.summary().memory_frozen and pipeline.summary().updates == 0


def test_a_source_shorter_than_a_window_has_no_score_and_no_percentiles(toy: Toy) -> None:
    notebook = Notebook()
    pipeline, _ = pipeline_of(toy("one_pool"), "synthetic:?frames=3", notebook)
    pipeline.run()
    summary = pipeline.summary()
    assert (summary.frames, summary.scored, summary.latency_ms, summary.drift) == (3, 0, None, None)
    assert notebook.lines == ["frame 0", "frame 1", "frame 2", "closed"]
