from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime import Bundle, Detector, open_source
from edge_runtime.errors import BackendUnavailable, ConfigError, SinkError
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.run.alarms import AlarmTracker
from edge_runtime.run.pipeline import Pipeline
from edge_runtime.score import Event, EventKind, Score, Step
from edge_runtime.sinks import Sink
from edge_runtime.sinks.events.event_clips import EventClipsSink
from edge_runtime.sinks.events.event_store import EventStore, event_folder_name
from edge_runtime.sinks.events.packets import FrameEncoder, PacketRing
from edge_runtime.window import Window
from tests.kit.scores import make_score, make_step
from tests.kit.wording import raises

av: Any = pytest.importorskip("av")

ROOT = Path(__file__).parents[5]
FPS = 10
WALL_S = 1.7e9
FILES = ["clip.mp4", "event.json", "peak.jpg"]


class Camera:
    """Frames of one grey each that counts them, scores, and the alarms an `AlarmTracker` makes of them, into a sink."""

    def __init__(self, sink: Sink, *, hold_s: float = 1.0, size: tuple[int, int] = (96, 128)) -> None:
        self.sink = sink
        self.size = size
        self.now_s = 0.0
        self.index = 0
        self.events: list[Event] = []
        self._alarms = AlarmTracker(3.0, hold_s)
        self._window = Window(1, 0)

    def show(self, *scores: float, error_map: np.ndarray | None = None, step_s: float = 1 / FPS, gap: Gap | None = None) -> None:
        for value in scores:
            if gap is not None:
                self.end_alarm()
            frame = Frame(picture(self.index, *self.size), self.index, self.now_s, WALL_S + self.now_s, "gate", gap)
            self.now_s += step_s
            self.index += 1
            score = score_of(frame, value, error_map)
            self.sink.write_step(make_step(score, frame, self._window.push(frame).gap))
            self._tell(self._alarms.update(score))

    def end_alarm(self) -> None:
        self._tell(self._alarms.finish())

    def _tell(self, event: Event | None) -> None:
        if event is not None:
            self.events.append(event)
            self.sink.write_event(event)


def grey_of(index: int) -> int:
    return 30 + 5 * (index % 40)


def picture(index: int, height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), grey_of(index), np.uint8)


def score_of(frame: Frame, value: float, error_map: np.ndarray | None = None) -> Score:
    return make_score(frame.index, value, time_s=frame.time_s, wall_time_s=frame.wall_time_s, error_map=error_map)


@dataclass(frozen=True)
class Clip:
    times_s: list[float]
    greys: list[float]
    sizes: set[tuple[int, int]]

    def shows(self, first: int, last: int) -> bool:
        """The pictures are those of these frames, each in its place."""
        wanted = [grey_of(index) for index in range(first, last + 1)]
        return len(wanted) == len(self.greys) and np.abs(np.subtract(wanted, self.greys)).max() < 2.5


def played(event: Path) -> Clip:
    with av.open(str(event / "clip.mp4")) as container:
        frames = list(container.decode(video=0))
    assert frames[0].key_frame
    greys = [float(frame.to_ndarray(format="bgr24").mean()) for frame in frames]
    return Clip([frame.time for frame in frames], greys, {(frame.width, frame.height) for frame in frames})


def facts_of(event: Path) -> dict[str, Any]:
    facts = json.loads((event / "event.json").read_text())
    assert isinstance(facts, dict)
    return facts


def events_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if (path / "event.json").exists())


def only_event(folder: Path) -> Path:
    (event,) = [folder / name for name in os.listdir(folder)]
    assert sorted(os.listdir(event)) == FILES
    return event


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Callable[..., EventClipsSink]]:
    """Makes sinks that are closed in the end; nothing of theirs may stay open."""
    handles, threads = open_files(), threading.active_count()
    sinks: list[EventClipsSink] = []

    def make(**options: Any) -> EventClipsSink:
        sinks.append(EventClipsSink(tmp_path / "events", FPS, **options))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()
    assert (open_files(), threading.active_count()) == (handles, threads)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


# the clip


def test_a_clip_begins_before_its_alarm_and_ends_with_the_alarms_end(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder(pre_s=2))
    camera.show(*[1.0] * 50, *[4.0] * 5, *[1.0] * 30)
    assert [(event.event, event.frame) for event in camera.events] == [("alarm_start", 50), ("alarm_end", 64)]
    clip = played(only_event(tmp_path / "events"))
    assert clip.shows(30, 64)
    assert clip.times_s == pytest.approx([step / FPS for step in range(35)])


def test_a_browser_can_play_a_clip_before_it_has_all_of_it(recorder: Any, tmp_path: Path) -> None:
    Camera(recorder()).show(*[4.0] * 5, *[1.0] * 20)
    event = only_event(tmp_path / "events")
    content = (event / "clip.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(event / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_a_pre_roll_that_is_not_whole_seconds_is_at_most_a_second_longer(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder(pre_s=2.5))
    camera.show(*[1.0] * 57, *[4.0] * 5, *[1.0] * 30)
    event = only_event(tmp_path / "events")
    first = facts_of(event)["clip"]["first_frame"]
    assert first == 30  # 5.7 s - 2.5 s = 3.2 s; the keyframe before is that of 3 s
    assert played(event).shows(first, 71)


def test_an_alarm_of_the_first_frame_has_no_pre_roll(recorder: Any, tmp_path: Path) -> None:
    Camera(recorder()).show(*[4.0] * 5, *[1.0] * 20)
    event = only_event(tmp_path / "events")
    assert played(event).shows(0, 14)
    assert facts_of(event)["clip"]["alarm_at_s"] == 0


def test_a_clip_of_one_frame_shows_it_for_as_long_as_a_frame_lasts(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    camera.show(4.0)
    camera.end_alarm()
    with av.open(str(only_event(tmp_path / "events") / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.duration * stream.time_base) == (1, pytest.approx(1 / FPS))


def test_without_a_pre_roll_a_clip_begins_at_the_keyframe_before(recorder: Any, tmp_path: Path) -> None:
    Camera(recorder(pre_s=0)).show(*[1.0] * 27, *[4.0] * 5, *[1.0] * 20)
    event = only_event(tmp_path / "events")
    assert played(event).shows(20, 41)
    assert facts_of(event)["clip"]["alarm_at_s"] == pytest.approx(0.7)


def test_alarms_shortly_after_each_other_share_frames(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder(pre_s=3))
    camera.show(*[1.0] * 40, *[4.0] * 3, *[1.0] * 15, *[5.0] * 3, *[1.0] * 15)
    first, second = events_in(tmp_path / "events")
    assert played(first).shows(10, 52)
    assert played(second).shows(20, 70)  # 58 - 30 = 28


def test_a_long_alarm_is_cut(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder(pre_s=1, longest_s=4))
    camera.show(*[1.0] * 30, *[4.0] * 80, 9.0, *[1.0] * 20)
    event = only_event(tmp_path / "events")
    facts = facts_of(event)
    assert played(event).shows(20, 59)
    assert facts["clip"]["is_cut"] and facts["clip"]["frames"] == 40 and facts["clip"]["last_frame"] == 59
    assert facts["peak"]["frame"] == 110 and facts["clip"]["peak_at_s"] is None  # the alarm itself is not cut
    assert facts["end"]["frame"] == 120


def test_frames_keep_their_times_and_a_long_wait_is_shortened_to_a_second(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder(pre_s=1))
    camera.show(*[4.0] * 3, step_s=0.04)
    camera.show(4.0, step_s=0.25)
    camera.show(4.0, step_s=30.0)
    camera.show(4.0, step_s=-5.0)
    camera.show(4.0)
    camera.end_alarm()
    assert played(only_event(tmp_path / "events")).times_s == pytest.approx([0, 0.04, 0.08, 0.12, 0.37, 1.37, 1.47], abs=1e-4)


@pytest.mark.parametrize(("fps", "step_s"), [(0.2, 5.0), (1e-5, 1e3), (30, 0.002)])
def test_slow_and_fast_sources_play_at_their_own_pace(tmp_path: Path, fps: float, step_s: float) -> None:
    camera = Camera(EventClipsSink(tmp_path / "events", fps, longest_s=1e6))
    camera.show(*[4.0] * 4, step_s=step_s)
    camera.end_alarm()
    camera.sink.close()
    assert played(only_event(tmp_path / "events")).times_s == pytest.approx([0, step_s, 2 * step_s, 3 * step_s])


def test_a_gap_ends_the_pre_roll(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    camera.show(*[1.0] * 15)
    camera.show(1.0, gap=Gap(GapKind.RECONNECT, "reconnect"))
    camera.show(*[1.0] * 4, *[4.0] * 3, *[1.0] * 15)
    assert played(only_event(tmp_path / "events")).shows(15, 32)


def test_a_gap_in_an_alarm_ends_its_event(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    camera.show(*[1.0] * 15, *[4.0] * 5)
    camera.show(4.0, gap=Gap(GapKind.RECONNECT, "reconnect"))
    camera.show(4.0, *[1.0] * 15)
    first, second = events_in(tmp_path / "events")
    assert played(first).shows(0, 19)
    assert played(second).shows(20, 31)


def test_a_new_size_begins_anew(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    camera.show(*[1.0] * 15)
    camera.size = (120, 160)
    camera.show(*[1.0] * 5, *[4.0] * 3, *[1.0] * 15)
    clip = played(only_event(tmp_path / "events"))
    assert clip.shows(15, 32) and clip.sizes == {(160, 120)}


def test_a_new_size_in_an_alarm_that_goes_on_cuts_its_clip(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    camera.show(*[4.0] * 5)
    camera.size = (120, 160)
    camera.show(*[4.0] * 5, *[1.0] * 15)
    event = only_event(tmp_path / "events")
    assert played(event).shows(0, 4) and facts_of(event)["clip"]["is_cut"]


@pytest.mark.parametrize(
    ("size", "expected"), [((97, 131), (132, 96)), ((1080, 1920), (640, 360)), ((721, 1283), (640, 360)), ((1, 1), (2, 2))]
)
def test_any_size_becomes_an_even_one_of_at_most_640(
    recorder: Any, tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    Camera(recorder(), size=size).show(*[4.0] * 5, *[1.0] * 15)
    event = only_event(tmp_path / "events")
    clip = played(event)
    assert clip.shows(0, 14)
    assert clip.sizes == {expected}
    assert (facts_of(event)["clip"]["width"], facts_of(event)["clip"]["height"]) == expected
    peak = cv2.imread(str(event / "peak.jpg"))
    assert peak.shape[:2] == (min(size[0], round(size[0] * 1280 / size[1])), min(size[1], 1280))


def test_a_model_that_scores_the_middle_of_its_window_shows_every_frame_once(recorder: Any, tmp_path: Path) -> None:
    sink = recorder()
    frames = [Frame(picture(index, 96, 128), index, index / FPS, WALL_S + index / FPS, "gate") for index in range(40)]
    alarms = AlarmTracker(3.0, 0.5)
    for frame in frames[:15]:
        sink.write_step(make_step(None, frame))
    for frame, target in zip(frames[15:], frames[8:], strict=False):
        score = score_of(target, 4.0 if target.index in (9, 10) else 1.0)
        sink.write_step(Step(frame, None, target, score))
        event = alarms.update(score)
        if event is not None:
            sink.write_event(event)
    facts = facts_of(only_event(tmp_path / "events"))
    assert (facts["start"]["frame"], facts["end"]["frame"]) == (9, 15)
    assert played(only_event(tmp_path / "events")).shows(0, 22)  # the newest then
    assert facts["clip"]["alarm_at_s"] == pytest.approx(0.9)


def test_the_pre_roll_is_that_of_the_frame_that_is_scored(recorder: Any, tmp_path: Path) -> None:
    sink = recorder(pre_s=2)
    frames = [Frame(picture(index, 96, 128), index, index / FPS, WALL_S + index / FPS, "gate") for index in range(60)]
    alarms = AlarmTracker(3.0, 0.5)
    for frame, target in zip(frames[7:], frames, strict=False):
        score = score_of(target, 4.0 if target.index == 40 else 1.0)
        sink.write_step(Step(frame, None, target, score))
        event = alarms.update(score)
        if event is not None:
            sink.write_event(event)
    facts = facts_of(only_event(tmp_path / "events"))
    assert (facts["start"]["frame"], facts["clip"]["first_frame"], facts["clip"]["last_frame"]) == (40, 17, 52)


def test_a_pipeline_leaves_an_event_with_heat_map_for_every_alarm(toy: Callable[[str], Bundle], tmp_path: Path) -> None:
    detector = Detector.open(toy("two_banks"), threshold=0.0)
    detector.keeps_error_maps = True
    source = open_source("synthetic:?frames=40&width=64&height=48&fps=10", loop=True)
    notes = EventNotes(tmp_path / "events")
    pipeline = Pipeline(detector, source, [EventClipsSink(notes.folder, FPS), notes], detector.open_stream("gate"))
    pipeline.run(max_frames=70)
    first, second = notes.complete
    for event, first_frame, last_frame in ((first, 0, 39), (second, 40, 69)):
        facts = facts_of(event)
        assert facts["has_heat_map"] and not facts["clip"]["is_cut"]
        assert (facts["clip"]["first_frame"], facts["clip"]["last_frame"]) == (first_frame, last_frame)
        assert len(played(event).times_s) == last_frame - first_frame + 1
        assert facts["start"]["frame"] <= facts["peak"]["frame"] <= facts["end"]["frame"]


class EventNotes:
    """A sink that looks for an event's folder when it hears of its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.complete: list[Path] = []

    def write_step(self, step: Step) -> None:
        pass

    def write_event(self, event: Event) -> None:
        if event.event == "alarm_end":
            self.complete.append(self.folder / event_folder_name(str(event.detail["alarm"])))
            assert sorted(os.listdir(self.complete[-1])) == FILES

    def close(self) -> None:
        pass


# the peak and the facts


def test_the_peak_is_the_oddest_frame_with_its_errors_over_it(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    wrong = np.zeros((16, 16), np.float32)
    wrong[:, 8:] = 0.3**2
    camera.show(*[1.0] * 5, 4.0, error_map=wrong * 0)
    camera.show(8.0, error_map=wrong)
    camera.show(5.0, *[1.0] * 15, error_map=wrong * 0)
    event = only_event(tmp_path / "events")
    left, right = cv2.imread(str(event / "peak.jpg"))[48, [20, 110]].astype(int)
    assert np.abs(left - grey_of(6)).max() < 4
    assert right[2] - right[0] > 60  # red
    assert facts_of(event)["has_heat_map"] is True


def test_without_error_maps_the_peak_is_a_plain_picture(recorder: Any, tmp_path: Path) -> None:
    Camera(recorder()).show(*[1.0] * 5, 4.0, 8.0, 5.0, *[1.0] * 15)
    event = only_event(tmp_path / "events")
    assert np.abs(cv2.imread(str(event / "peak.jpg")).astype(int) - grey_of(6)).max() < 4
    assert facts_of(event)["has_heat_map"] is False


def test_an_event_tells_its_facts(recorder: Any, tmp_path: Path) -> None:
    Camera(recorder(pre_s=2)).show(*[1.0] * 35, 4.0, 8.0, 5.0, *[1.0] * 15)
    event = only_event(tmp_path / "events")
    assert event.name == f"gate-{WALL_S + 3.5:.3f}"
    assert facts_of(event) == {
        "alarm": event.name,
        "stream": "gate",
        "start": {"frame": 35, "time_s": pytest.approx(3.5), "wall_time_s": pytest.approx(WALL_S + 3.5)},
        "peak": {"frame": 36, "time_s": pytest.approx(3.6), "wall_time_s": pytest.approx(WALL_S + 3.6), "score": 8.0},
        "end": {"frame": 47, "time_s": pytest.approx(4.7), "wall_time_s": pytest.approx(WALL_S + 4.7)},
        "duration_s": pytest.approx(0.2),
        "threshold": 3.0,
        "has_heat_map": False,
        "clip": {
            "frames": 38,
            "first_frame": 10,
            "last_frame": 47,
            "duration_s": pytest.approx(3.7),
            "alarm_at_s": pytest.approx(2.5),
            "peak_at_s": pytest.approx(2.6),
            "width": 128,
            "height": 96,
            "is_cut": False,
        },
        "files": {name: (event / name).stat().st_size for name in ("clip.mp4", "peak.jpg")},
    }


def test_an_event_is_complete_when_its_end_was_written_and_hidden_until_then(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    camera.show(*[1.0] * 5, *[4.0] * 3, *[1.0] * 9)
    assert events_in(tmp_path / "events") == []
    assert all(name.startswith(".") for name in os.listdir(tmp_path / "events"))
    camera.show(1.0)
    assert camera.events[-1].event == "alarm_end"
    assert sorted(os.listdir(only_event(tmp_path / "events"))) == FILES


def test_an_alarm_that_the_end_of_a_run_ends_is_kept(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    camera.show(*[1.0] * 5, *[4.0] * 3)
    camera.end_alarm()
    camera.sink.close()
    assert played(only_event(tmp_path / "events")).shows(0, 7)


def test_an_alarm_that_nothing_ended_leaves_nothing(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    camera.show(*[1.0] * 5, *[4.0] * 3)
    camera.sink.close()
    assert os.listdir(tmp_path / "events") == []


@pytest.mark.parametrize(
    ("alarm", "name"),
    [
        ("gate-1732.500", "gate-1732.500"),
        ("../yard 2/a:b-1", "_yard_2_a_b-1"),
        ("Hof-ü-1", "Hof-ü-1"),
        ("...", "alarm"),
        ("-rf-1", "rf-1"),
        ("x" * 300 + "-1.5", "x" * 196 + "-1.5"),
        ("ü" * 150 + "-1.5", "ü" * 98 + "-1.5"),
        ("bad\udcffname", "bad_name"),
        ("", "alarm"),
    ],
)
def test_an_alarms_name_becomes_one_that_every_file_system_takes(alarm: str, name: str) -> None:
    assert event_folder_name(alarm) == name


# the ring


def test_the_ring_holds_the_pre_roll_and_less_than_a_second_more() -> None:
    encoder, ring = FrameEncoder(picture(0, 96, 128), FPS), PacketRing(2.0)
    for index in range(500):
        encoded = encoder.encode(Frame(picture(index, 96, 128), index, index / FPS, 0.0))
        ring.append(encoded)
        ring.forget(encoded.pts)
        held = len(list(ring))
        assert min(index + 1, 21) <= held <= 30
    assert held == 30


def test_a_picture_full_of_noise_takes_a_bounded_rate() -> None:
    seeded = np.random.default_rng(0)
    encoder = FrameEncoder(np.zeros((360, 640, 3), np.uint8), 25)
    noise = [seeded.integers(0, 255, (360, 640, 3), dtype=np.uint8) for _ in range(5)]
    size = sum(len(encoder.encode(Frame(noise[index % 5], index, index / 25, 0.0)).data) for index in range(150))
    assert size < 6 * 450_000  # bytes in 6 s


def test_a_clock_that_stands_still_does_not_let_the_ring_grow() -> None:
    encoder, ring = FrameEncoder(picture(0, 16, 16), FPS), PacketRing(1.0)
    for index in range(100):
        encoded = encoder.encode(Frame(picture(index, 16, 16), index, 7.0, 0.0))
        ring.append(encoded)
        ring.forget(encoded.pts)
    assert len(list(ring)) <= 20


# the store


def put_event(folder: Path, name: str, size: int, completed_s: int) -> Path:
    event = folder / name
    event.mkdir(parents=True)
    (event / "clip.mp4").write_bytes(bytes(size - 2))
    (event / "event.json").write_text("{}")
    os.utime(event / "event.json", (completed_s, completed_s))
    return event


def keep_event(store: EventStore, name: str, size: int) -> None:
    event = store.begin(name)
    (event.hidden / "clip.mp4").write_bytes(bytes(size - 2))
    (event.hidden / "event.json").write_text("{}")
    store.keep(event)


def test_the_oldest_events_go_first_also_those_of_earlier_runs(tmp_path: Path) -> None:
    for name, completed_s in (("b", 1000), ("c", 2000), ("a", 3000)):
        put_event(tmp_path, name, 300_000, completed_s)
    store = EventStore(tmp_path, capacity_mb=1)
    keep_event(store, "d", 100_000)  # just full
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c", "d"]
    keep_event(store, "e", 10)
    assert sorted(os.listdir(tmp_path)) == ["a", "c", "d", "e"]
    keep_event(store, "f", 700_000)
    assert sorted(os.listdir(tmp_path)) == ["d", "e", "f"]


def test_the_newest_event_stays_even_if_it_is_larger_than_the_capacity(tmp_path: Path) -> None:
    put_event(tmp_path, "old", 1000, 1000)
    keep_event(EventStore(tmp_path, capacity_mb=0.5), "new", 900_000)
    assert os.listdir(tmp_path) == ["new"]


def test_foreign_files_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(bytes(2_000_000))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".event-mine").mkdir()
    put_event(tmp_path / "elsewhere", "real", 2_000_000, 10)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "real")
    note = put_event(tmp_path, "with a note", 2_000_000, 20) / "look at this.txt"
    note.write_text("the thief")
    put_event(tmp_path, "old", 600_000, 3000)
    before = set(os.listdir(tmp_path))
    store = EventStore(tmp_path, capacity_mb=1)
    keep_event(store, "new", 300_000)
    assert set(os.listdir(tmp_path)) == before | {"new"}
    keep_event(store, "newer", 300_000)
    assert set(os.listdir(tmp_path)) == before - {"old"} | {"new", "newer"}


def test_the_sink_keeps_within_its_capacity(recorder: Any, tmp_path: Path) -> None:
    sink = recorder(capacity_mb=0.03)
    camera = Camera(sink)
    for _ in range(30):
        camera.show(*[4.0] * 3, *[1.0] * 12)
    events = events_in(tmp_path / "events")
    assert 1 <= len(events) < 30
    assert sum(file.stat().st_size for event in events for file in event.iterdir()) <= 30_000
    assert facts_of(events[-1])["alarm"] == camera.events[-1].detail["alarm"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".event-0123abcd").mkdir()
    (tmp_path / ".event-0123abcd" / ".clip.12345678.mp4").write_bytes(bytes(1000))
    EventStore(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_another_run_is_writing_is_left_alone(tmp_path: Path) -> None:
    writing = EventStore(tmp_path).begin("gate-1")
    EventStore(tmp_path)
    assert writing.hidden.is_dir()
    writing.unlock()
    EventStore(tmp_path)
    assert not writing.hidden.exists()


def test_a_run_that_is_killed_in_an_alarm_leaves_no_half_event(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from edge_runtime.sinks.events.event_clips import EventClipsSink
from tests.unit.edge_runtime.sinks.events.test_event_clips import Camera
camera = Camera(EventClipsSink(Path({str(tmp_path / "events")!r}), 10))
camera.show(*[1.0] * 20, *[4.0] * 3, *[1.0] * 15)
camera.show(*[4.0] * 200)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == -signal.SIGKILL
    visible = [name for name in os.listdir(tmp_path / "events") if not name.startswith(".")]
    assert len(visible) == 1 and len(os.listdir(tmp_path / "events")) == 2
    assert played(tmp_path / "events" / visible[0]).shows(0, 32)
    EventClipsSink(tmp_path / "events", FPS).close()
    assert os.listdir(tmp_path / "events") == visible


# what can go wrong


def test_a_full_disk_loses_the_event_and_nothing_else(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        lose_an_event_to_a_full_disk(disk)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # also where a failure left files open


def lose_an_event_to_a_full_disk(disk: Path) -> None:
    handles = open_files()
    camera = Camera(EventClipsSink(disk / "events", FPS))
    camera.show(*[1.0] * 20, 4.0)
    (disk / "filler").write_bytes(bytes(free_bytes(disk)))
    with raises(SinkError, f"'gate-{WALL_S + 2:.3f}' … {disk / 'events'} … No space left on device"):
        camera.show(*[1.0] * 20)
    assert os.listdir(disk / "events") == []
    assert open_files() == handles
    with raises(SinkError, f"{disk / 'events'} … No space left on device"):
        camera.show(4.0, *[1.0] * 20)
    (disk / "filler").unlink()
    camera.show(*[1.0] * 20, 4.0, *[1.0] * 20)
    camera.sink.close()
    assert facts_of(only_event(disk / "events"))["peak"]["score"] == 4.0
    assert open_files() == handles


def free_bytes(disk: Path) -> int:
    return os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize


def test_an_event_whose_name_is_taken_is_a_sink_error_and_leaves_what_is_there(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    taken = tmp_path / "events" / f"gate-{WALL_S:.3f}"
    taken.write_text("mine")
    with raises(SinkError, f"{taken} … 'File exists'"):
        camera.show(4.0, *[1.0] * 10)
    assert os.listdir(tmp_path / "events") == [taken.name]
    camera.show(4.0, *[1.0] * 10)
    assert len(events_in(tmp_path / "events")) == 1


def test_a_folder_that_was_tidied_away_is_made_again(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    (tmp_path / "events").rmdir()
    camera.show(4.0, *[1.0] * 10)
    assert len(events_in(tmp_path / "events")) == 1


def test_a_clip_that_is_removed_under_the_sink_loses_its_event_only(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder())
    camera.show(4.0)
    (hidden,) = (tmp_path / "events").iterdir()
    for file in hidden.iterdir():
        file.unlink()
    hidden.rmdir()
    with raises(SinkError, f"'gate-{WALL_S:.3f}'"):
        camera.show(*[1.0] * 10)
    camera.show(4.0, *[1.0] * 10)
    assert len(events_in(tmp_path / "events")) == 1


def test_a_picture_that_cannot_be_encoded_loses_the_event_and_the_encoder(recorder: Any, tmp_path: Path) -> None:
    camera = Camera(recorder(), size=(40_000, 2))  # more lines than libx264 takes
    for _ in range(2):
        with raises(SinkError, "2x40000 … 'edge-runtime[video]'"):
            camera.show(4.0)
    camera.size = (96, 128)
    camera.show(*[4.0] * 2)
    camera.size = (40_000, 2)
    with raises(SinkError, f"'gate-{WALL_S + 0.2:.3f}' … 2x40000"):
        camera.show(4.0)
    assert os.listdir(tmp_path / "events") == []
    for kind in ("alarm_start", "alarm_end"):  # of the frame that was lost
        camera.sink.write_event(Event(EventKind(kind), "gate", camera.index, camera.now_s, 0.0, {"alarm": "gate-0", "duration_s": 0.0}))
    assert os.listdir(tmp_path / "events") == []
    camera.size = (96, 128)
    camera.show(*[1.0] * 12, 4.0, *[1.0] * 12)
    assert len(events_in(tmp_path / "events")) == 1


def test_its_folder_is_made_with_those_above(tmp_path: Path) -> None:
    EventClipsSink(tmp_path / "nowhere" / "events", FPS).close()
    assert (tmp_path / "nowhere" / "events").is_dir()


def test_a_folder_that_is_a_file_is_a_sink_error(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("")
    with raises(SinkError, f"{tmp_path / 'events'} … 'File exists'"):
        EventClipsSink(tmp_path / "events", FPS)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"fps": 0}, "frame rate … got 0"),
        ({"fps": float("nan")}, "frame rate … got nan"),
        ({"pre_s": -1}, "seconds … got -1"),
        ({"pre_s": 10, "longest_s": 11}, "12 s … got 11"),
        ({"longest_s": float("inf")}, "longest clip … got inf"),
        ({"capacity_mb": 0}, "capacity_mb … got 0"),
        ({"capacity_mb": float("nan")}, "capacity_mb … got nan"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, options: dict[str, float], names: str) -> None:
    with raises(ConfigError, names):
        EventClipsSink(tmp_path / "events", **{"fps": 25, **options})
    assert not (tmp_path / "events").exists()


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with raises(BackendUnavailable, "event clips … pip install 'edge-runtime[video]'"):
        EventClipsSink(tmp_path / "events", FPS)
