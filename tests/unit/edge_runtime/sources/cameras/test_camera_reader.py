"""The reader's own arithmetic and its way out of a driver that hangs; real cameras are in tests/integration."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice, pairwise
from time import monotonic

import numpy as np
import pytest

from edge_runtime.commands import READERS
from edge_runtime.errors import ConfigError, SourceOpenError, SourceStalled
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.score import Event, EventKind
from edge_runtime.sources import LiveSource, SourceHealth, open_source
from edge_runtime.sources.address import CameraOptions, parse_address
from edge_runtime.sources.cameras import camera, capture, gstreamer
from edge_runtime.sources.cameras.camera import CameraSource
from edge_runtime.sources.cameras.hand_over import MOST_NOTICES, HandOver, Notice, Picture
from edge_runtime.sources.cameras.pyav_capture import AccessRefused
from edge_runtime.sources.cameras.reader import LONGEST_WAIT_S, Pace, waits_s
from tests.kit.wording import raises

pytestmark = pytest.mark.waits

START = Gap(GapKind.START, "start")


def picture(grey: int, gap: Gap | None = None) -> Picture:
    return Picture(np.full((4, 4, 3), grey, np.uint8), gap, float(grey), 0.0)


def taken_at(fps: float | None, times_s: np.ndarray) -> np.ndarray:
    pace = Pace(fps)
    return np.array([time_s for time_s in times_s.tolist() if pace.is_due(time_s)])


def test_without_a_wish_every_frame_is_due() -> None:
    assert len(taken_at(None, np.arange(10) / 30)) == 10


@pytest.mark.parametrize(("camera_fps", "fps"), [(30, 10), (25, 10), (12, 10), (30, 7), (15, 15), (10, 15)])
def test_the_pace_is_that_wished_or_the_cameras(camera_fps: float, fps: float) -> None:
    taken = taken_at(fps, np.arange(30 * camera_fps) / camera_fps)
    assert len(taken) / 30 == pytest.approx(min(camera_fps, fps), rel=0.02)
    assert np.diff(taken).max() <= 1 / min(camera_fps, fps) + 1 / camera_fps + 1e-9


def test_a_jittering_camera_of_the_rate_wished_loses_next_to_nothing() -> None:
    rng = np.random.default_rng(0)
    times_s = np.arange(600) / 10 + rng.uniform(-0.03, 0.03, 600)
    assert len(taken_at(10, times_s)) >= 590


def test_after_a_pause_nothing_is_made_up_for() -> None:
    times_s = np.concatenate([np.arange(30) / 30, 60 + np.arange(30) / 30])
    taken = taken_at(10, times_s)
    assert (taken >= 60).sum() <= 11


def test_waits_double_are_bounded_and_jittered() -> None:
    first, second = (list(islice(waits_s(), 12)) for _ in range(2))
    assert first != second
    assert all(0.125 <= wait_s <= LONGEST_WAIT_S for wait_s in first)
    assert all(wait_s >= LONGEST_WAIT_S / 2 for wait_s in first[5:])


def test_the_newest_picture_wins_and_inherits_the_gap() -> None:
    hand_over = HandOver(SourceHealth("test:", "reading"))
    hand_over.put(picture(1, gap=START))
    hand_over.put(picture(2))
    hand_over.note(Notice(EventKind.FILLER))
    item = hand_over.take(0)
    assert isinstance(item, Picture) and item.time_s == 2.0 and item.gap == START
    assert isinstance(hand_over.take(0), Notice)
    assert hand_over.take(0) is None
    assert hand_over.health().dropped == 1


def test_notices_are_bounded() -> None:
    hand_over = HandOver(SourceHealth("test:", "reading"))
    for number in range(MOST_NOTICES + 5):
        hand_over.note(Notice(EventKind.FILLER, {"number": number}))
    item = hand_over.take(0)
    assert isinstance(item, Notice) and item.detail == {"number": 5}


class Driver:
    """Stands in for a driver that hangs: the next `hanging_reads` return when it `lets_go`, and no sooner; `hangs` says one does."""

    decoder, fps, is_damaged = "driver", 10.0, False

    def __init__(self, *_: object) -> None:
        self.hanging_reads = 0
        self.hangs = threading.Event()
        self.lets_go = threading.Event()
        self.opened = self.closed = 0
        self._grey = 0

    def open(self) -> Driver:
        self.opened += 1
        return self

    def read(self) -> np.ndarray | None:
        if self.hanging_reads:
            self.hanging_reads -= 1
            self.hangs.set()
            self.lets_go.wait()
            return None
        self.lets_go.wait(0.01)
        self._grey += 1
        image = np.zeros((8, 8, 3), np.uint8)
        image[:4] = self._grey % 200 + 20
        return image

    def close(self) -> None:
        self.closed += 1


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in READERS]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    driver = Driver()
    monkeypatch.setattr(camera, "Opener", lambda *_: driver)
    yield driver
    driver.lets_go.set()


def until(source: LiveSource, event: str, rounds: int = 200) -> list[Event]:
    events = []
    for _ in range(rounds):
        item = source.poll(0.05)
        if isinstance(item, Event):
            events.append(item)
            if item.event == event:
                return events
    raise AssertionError(f"no {event} among {events}")


def test_a_hanging_driver_is_left_behind_and_the_camera_opened_again(driver: Driver) -> None:
    source = open_source("camera:0", camera=CameraOptions(stall_s=0.1))
    assert isinstance(source, LiveSource)
    driver.hanging_reads = 1
    [lost] = until(source, "source_lost")
    assert lost.detail == {"reason": "the driver does not answer"}
    until(source, "reconnect")
    health = source.health()
    assert (health.state, health.losses, health.stalls, health.connects) == ("reading", 1, 1, 2)
    driver.lets_go.set()
    source.close()
    assert driver.closed == driver.opened == 2
    assert not readers()


@pytest.mark.parametrize(("passed_s", "hangs"), [(10.9, False), (11.1, True)])
def test_a_read_may_take_twice_the_patience(driver: Driver, passed_s: float, hangs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for what comes and gives no picture, and once more for what does not come."""
    source = CameraSource("camera:0", options=CameraOptions(stall_s=5))
    driver.hanging_reads = 1
    assert driver.hangs.wait(10)
    assert readers() == [source._reader]
    began_s = monotonic()
    with monkeypatch.context() as patches:
        patches.setattr("edge_runtime.sources.cameras.reader.time.monotonic", lambda: began_s + passed_s)
        assert source._reader.hangs() is hangs
    driver.lets_go.set()
    source.close()


def test_a_driver_that_never_returns_ends_the_run(driver: Driver) -> None:
    source = open_source("camera:0", camera=CameraOptions(stall_s=0.1))
    assert isinstance(source, LiveSource)
    driver.hanging_reads = 100
    with raises(SourceStalled, "4 calls"):
        until(source, "no such event", rounds=2000)
    assert source.health().stalls == 3
    driver.lets_go.set()
    source.close()


def test_closing_does_not_wait_for_a_patient_cameras_next_frame(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "LONGEST_CLOSE_S", 0.1)
    source = open_source("camera:0", camera=CameraOptions(stall_s=3600))
    assert isinstance(source, LiveSource)
    driver.hanging_reads = 1
    assert driver.hangs.wait(10)
    source.close()
    assert source.health().state == "closed" and readers()
    driver.lets_go.set()
    [reader] = readers()
    reader.join(10)
    assert not readers()


def test_iterating_gives_frames_alone_with_times_that_rise(driver: Driver) -> None:
    source = open_source("camera:0", camera=CameraOptions(stall_s=1))
    frames: list[Frame] = list(islice(source, 5))
    source.close()
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4] and frames[0].gap == START and frames[1].gap is None
    assert all(before.time_s < after.time_s for before, after in pairwise(frames))
    assert source.fps == 10.0 and source.frame_count is None and source.stream == "camera-0"


def test_damaged_pictures_are_counted_and_left_out_and_said_once(driver: Driver) -> None:
    source = open_source("camera:0", camera=CameraOptions(stall_s=1))
    assert isinstance(source, LiveSource)
    frames = islice(source, 3)
    assert [frame.gap for frame in frames] == [START, None, None]
    driver.is_damaged = True
    [filler] = until(source, "filler")
    assert filler.detail == {"reason": "damaged"}
    assert [source.poll(0.05) for _ in range(4)] == [None] * 4
    damaged = source.health().damaged
    driver.is_damaged = False
    after = list(islice(source, 3))
    source.close()
    assert damaged >= 2 and [frame.gap and frame.gap.kind for frame in after] == [GapKind.DAMAGED, None, None]


def test_damage_again_and_again_is_said_once_until_the_line_was_clean(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.sources.cameras.reader.CLEAN_S", 1.0)
    source = open_source("camera:0", camera=CameraOptions(stall_s=1))
    assert isinstance(source, LiveSource)
    gaps: list[Gap | None] = []
    for clean_s, events in ((0.0, ["filler"]), (0.1, []), (0.1, []), (2.0, ["filler"])):
        gaps += [frame.gap for frame in frames_for(source, clean_s)]
        damaged = source.health().damaged
        driver.is_damaged = True
        while source.health().damaged < damaged + 3:
            threading.Event().wait(0.005)
        driver.is_damaged = False
        came: list[Frame | Event] = []
        while not came or not isinstance(came[-1], Frame) or came[-1].gap != Gap(GapKind.DAMAGED, "damaged pictures"):
            item = source.poll(1.0)
            came += [] if item is None else [item]
        assert [item.event for item in came if isinstance(item, Event)] == events
    source.close()
    assert set(gaps) <= {None, START}


def frames_for(source: LiveSource, seconds: float) -> list[Frame]:
    ends_s = monotonic() + seconds
    items = []
    while monotonic() < ends_s:
        items.append(source.poll(0.05))
    return [item for item in items if isinstance(item, Frame)]


def test_a_camera_that_sends_nothing_whole_is_lost_once_until_it_does(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.sources.cameras.reader.ONLY_DAMAGE_S", 0.1)
    source = open_source("camera:0", camera=CameraOptions(stall_s=1))
    assert isinstance(source, LiveSource)
    driver.is_damaged = True
    assert until(source, "source_lost")[-1].detail == {"reason": "only damaged pictures for 0 s"}
    opened = driver.opened
    while driver.opened < opened + 3:
        assert not isinstance(source.poll(0.05), Event)
    assert source.health().state != "reading"
    driver.is_damaged = False
    assert [event.event for event in until(source, "reconnect")] == ["reconnect"]
    frame = next(iter(source))
    health = source.health()
    source.close()
    assert frame.gap is not None and frame.gap.kind is GapKind.RECONNECT
    assert (health.state, health.connects, health.losses) == ("reading", 2, 1)


@pytest.mark.parametrize(
    ("pyav", "pipelines", "ways"),
    [
        (True, "none", ["FFmpeg (PyAV)"]),
        (True, "software", ["FFmpeg (PyAV)"]),
        (True, "hardware", ["GStreamer, hardware (nvv4l2decoder)", "FFmpeg (PyAV)"]),
        (False, "none", ["FFmpeg (OpenCV)"]),
        (False, "software", ["GStreamer, software", "FFmpeg (OpenCV)"]),
        (False, "hardware", ["GStreamer, hardware (nvv4l2decoder)", "GStreamer, software", "FFmpeg (OpenCV)"]),
    ],
)
def test_hardware_goes_first_then_what_tells_most(
    pyav: bool, pipelines: str, ways: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(capture, "has_pyav", lambda: pyav)
    monkeypatch.setattr(gstreamer, "has_gstreamer", lambda: pipelines != "none")
    monkeypatch.setattr(gstreamer, "has_element", lambda name: pipelines == "hardware")
    opener = capture.Opener(parse_address("rtsp://user:hunter2@gate/stream"), CameraOptions())
    assert [way.name for way in opener._ways] == ways
    assert ("damaged pictures" in caplog.text) is (ways == ["FFmpeg (OpenCV)"])
    assert "hunter2" not in caplog.text


def test_a_failure_of_the_reader_itself_is_told(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source("camera:0", camera=CameraOptions(stall_s=1))
    assert isinstance(source, LiveSource)
    monkeypatch.setattr(driver, "read", lambda: "not a picture")
    with raises(SourceStalled, "AttributeError"):
        until(source, "no such event")
    source.close()


@pytest.mark.parametrize(("error", "waits"), [(AccessRefused, True), (SourceOpenError, False)])
def test_a_camera_that_refuses_a_password_is_not_asked_again_soon(
    error: type[SourceOpenError], waits: bool, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    def refuse() -> None:
        tries.append(monotonic())
        raise error("no entry")

    monkeypatch.setattr(driver, "open", refuse)
    source = open_source("camera:0", camera=CameraOptions(stall_s=1, waits=True))
    assert isinstance(source, LiveSource)
    assert source.poll(2 * LONGEST_WAIT_S) is None
    source.close()
    assert (len(tries) == 1) is waits and source.health().last_error == "no entry"
    assert not readers()


def test_a_reader_that_fails_at_the_start_is_an_error_at_once(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "open", lambda: "no camera")
    began_s = monotonic()
    with raises(SourceOpenError, "camera:0 … AttributeError"):
        open_source("camera:0", camera=CameraOptions(stall_s=60))
    assert monotonic() - began_s < 60


@pytest.mark.parametrize("uri", ["camera:98", "/dev/video98", "v4l2:///dev/v4l/by-id/usb-nothing"])
def test_a_camera_that_is_not_there_is_named(uri: str) -> None:
    with raises(SourceOpenError, f"{uri} … ls /dev/video*"):
        open_source(uri)
    assert not readers()


def test_a_camera_cannot_loop() -> None:
    with raises(ConfigError, "camera:98 … --loop"):
        open_source("camera:98", loop=True)


def test_an_unknown_kind_of_address_is_refused_with_the_kinds_there_are() -> None:
    with raises(SourceOpenError, "ftp://***@gate … rtsp://"):
        open_source("ftp://user:hunter2@gate")
