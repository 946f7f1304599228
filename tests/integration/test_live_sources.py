"""Live sources against cameras that misbehave: an RTSP server and one for MJPEG over HTTP, each on the loopback."""

from __future__ import annotations

import logging
import os
import random
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from edge_runtime.errors import SourceOpenError
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.score import Event
from edge_runtime.sources.address import CameraOptions, parse_address
from edge_runtime.sources.cameras import capture
from edge_runtime.sources.cameras.camera import CameraSource
from edge_runtime.sources.cameras.pyav_capture import END_OF_JPEG, AccessRefused
from edge_runtime.window import Window
from tests.kit.cameras import Proxy, RtspCamera
from tests.kit.drawn_footage import Reel, draw, number_in, reel_pictures, video_frames, write_reel
from tests.kit.mjpeg_server import MjpegCamera
from tests.kit.odd_rtsp import OddRtsp
from tests.kit.wording import raises

pytestmark = pytest.mark.waits

Item = Frame | Event
Camera = RtspCamera | MjpegCamera

PICTURES, FPS = 60, 15
RESTARTS, LONGEST_DOWN_S, BACK_WITHIN_S = 20, 2.0, 5.0
STALL_S, PATIENCE_S = 2.0, 15.0
START = Gap(GapKind.START, "start")
POLL_S, SLACK_S = 0.2, 1.5
SECRETS = ("operator-7", "hunter-2-secret")

rtsp = pytest.mark.rtsp
by_both_readers = pytest.mark.parametrize("reader", ["PyAV", "OpenCV"], indirect=True)
both = pytest.mark.parametrize("make", [pytest.param(RtspCamera, id="rtsp", marks=rtsp), pytest.param(MjpegCamera, id="mjpeg")])


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Reel:
    return write_reel(tmp_path_factory.mktemp("reel") / "small", draw(PICTURES, width=160, height=120), fps=FPS)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Reel:
    return write_reel(tmp_path_factory.mktemp("reel") / "larger", draw(PICTURES, width=320, height=240), fps=FPS)


@pytest.fixture(autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which FFmpeg reads the cameras: PyAV's, or OpenCV's where PyAV is not installed."""
    name = str(getattr(request, "param", "PyAV"))
    if name == "OpenCV":
        monkeypatch.setattr(capture, "has_pyav", lambda: False)
    return name


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def opened(uri: str, *, fps: float | None = None, stall_s: float = STALL_S, waits: bool = False) -> CameraSource:
    return CameraSource(uri, fps=fps, options=CameraOptions(stall_s=stall_s, waits=waits))


def poll_until(source: CameraSource, is_wanted: Callable[[Item], bool], within_s: float = PATIENCE_S) -> list[Item]:
    """What came up to the first thing wanted; no poll takes longer than it may."""
    items: list[Item] = []
    ends_s = monotonic() + within_s
    while monotonic() < ends_s:
        began_s = monotonic()
        item = source.poll(POLL_S)
        assert monotonic() - began_s < POLL_S + SLACK_S
        if item is not None:
            items.append(item)
            if is_wanted(item):
                return items
    raise AssertionError(f"not within {within_s:.1f} s; came: {[outline(item) for item in items[-20:]]}; {source.health()}")


def poll_for(source: CameraSource, seconds: float) -> list[Item]:
    """What comes in so many seconds."""
    ends_s = monotonic() + seconds
    items: list[Item] = []
    while monotonic() < ends_s:
        item = source.poll(POLL_S)
        items += [] if item is None else [item]
    return items


def frames_in(items: list[Item]) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


def kinds_of_gaps(frames: list[Frame]) -> list[GapKind | None]:
    return [frame.gap and frame.gap.kind for frame in frames]


def events_in(items: list[Item]) -> list[str]:
    return [item.event.value for item in items if isinstance(item, Event)]


def is_frame(item: Item) -> bool:
    return isinstance(item, Frame)


def is_event(name: str) -> Callable[[Item], bool]:
    return lambda item: isinstance(item, Event) and item.event == name


def has_size(width: int, height: int) -> Callable[[Item], bool]:
    return lambda item: isinstance(item, Frame) and item.image.shape == (height, width, 3)


def outline(item: Item) -> str:
    return f"frame {item.index} ({item.gap and item.gap.text})" if isinstance(item, Frame) else f"{item.event.value} {dict(item.detail)}"


def handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def is_near_a_picture(frame: Frame, reel: Reel) -> bool:
    """Whether it is one of the reel's, apart from what a codec does to it."""
    originals = draw(PICTURES, width=reel.width, height=reel.height)
    original = originals[number_in(frame.image) % PICTURES][reel.height // 2 :].astype(int)
    return bool(np.abs(frame.image[reel.height // 2 :] - original).mean() < 4)


@rtsp
@pytest.mark.slow
@pytest.mark.parametrize("what", ["scene", pytest.param("vtest", marks=pytest.mark.footage)])
def test_every_restart_is_back_in_time_and_nothing_is_left(
    what: str, reel: Reel, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = reel
    if what == "vtest":
        shown = write_reel(tmp_path / "vtest", video_frames(request.getfixturevalue("footage") / "vtest.avi", 60), fps=10)
    down_s = random.Random(20)
    back_s: list[float] = []
    with RtspCamera(shown) as camera:
        opened(camera.uri).close()  # what PyAV opens once and keeps
        before = handles(), set(threading.enumerate())
        with closing(opened(camera.uri)) as source:
            items = poll_until(source, is_frame)
            for _ in range(RESTARTS):
                camera.kill()
                items += poll_for(source, down_s.uniform(0, LONGEST_DOWN_S))
                camera.start()
                listens_s = monotonic()
                items += poll_until(source, is_event("reconnect"))
                [first] = poll_until(source, is_frame)
                back_s.append(monotonic() - listens_s)
                assert isinstance(first, Frame) and first.gap is not None and first.gap.kind is GapKind.RECONNECT
                items.append(first)
            items += poll_for(source, 0.5)
        health = source.health()
        assert (handles(), set(threading.enumerate())) == before
    with capsys.disabled():
        print(f" [{what}: back after {statistics.median(back_s):.1f} s (p50), {max(back_s):.1f} s (max)]", end="")
    assert max(back_s) <= BACK_WITHIN_S
    assert events_in(items) == ["source_lost", "reconnect"] * RESTARTS
    frames = frames_in(items)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert sum(frame.gap is not None for frame in frames) == 1 + RESTARTS
    assert (health.state, health.connects, health.losses) == ("closed", 1 + RESTARTS, RESTARTS)
    assert health.frames >= len(frames) + health.dropped + health.filler
    assert 0 < health.down_s < RESTARTS * (LONGEST_DOWN_S + BACK_WITHIN_S + 2)


@by_both_readers
@both
def test_killed_and_restarted_it_goes_on(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera, closing(opened(camera.uri)) as source:
        assert frames_in(poll_until(source, is_frame))[0].gap == START
        camera.kill()
        poll_until(source, is_event("source_lost"))
        assert poll_for(source, 1.0) == []
        camera.start()
        items = poll_until(source, is_frame, BACK_WITHIN_S)
        assert events_in(items) == ["reconnect"]
        assert kinds_of_gaps(frames_in(items)[:1]) == [GapKind.RECONNECT]
        assert len(frames_in(poll_for(source, 1.0))) >= 5


@by_both_readers
@rtsp
def test_no_window_mixes_sizes_from_one_session_to_the_next(reel: Reel, larger: Reel) -> None:
    with RtspCamera(reel) as camera, closing(opened(camera.uri)) as source:
        items = poll_for(source, 1.0)
        for shown in (larger, reel):
            camera.switch(shown)
            items += poll_until(source, has_size(shown.width, shown.height))
            items += poll_for(source, 1.0)
        assert (source.health().width, source.health().height) == (160, 120)
    assert sizes_of_windows(frames_in(items)) == [(160, 120), (320, 240), (160, 120)]


@both
def test_no_window_mixes_sizes_within_a_session(reel: Reel, larger: Reel, make: type[Camera]) -> None:
    with make(reel) as camera, closing(opened(camera.uri)) as source:
        items = poll_for(source, 1.0)
        for shown in (larger, reel):
            camera.switch(shown, hang_up=False) if isinstance(camera, RtspCamera) else camera.show(shown)
            items += poll_until(source, has_size(shown.width, shown.height))
            items += poll_for(source, 1.0)
        health = source.health()
    assert (health.connects, health.losses, health.damaged, health.width, health.height) == (1, 0, 0, 160, 120)
    assert events_in(items) == []
    assert sizes_of_windows(frames_in(items)) == [(160, 120), (320, 240), (160, 120)]


def sizes_of_windows(frames: list[Frame]) -> list[tuple[int, int]]:
    """The one size of the frames between each two gaps."""
    window = Window(span=5, target=4)
    sizes: list[set[tuple[int, ...]]] = [set()]
    for frame in frames:
        if window.push(frame).gap is not None:
            sizes.append(set())
        sizes[-1].add(frame.image.shape)
    return [(shape[1], shape[0]) for [shape] in sizes]


@rtsp
def test_damaged_pictures_are_left_out(tmp_path: Path) -> None:
    """Packets get lost, and what a decoder makes up for them is no picture of the scene."""
    reel = write_reel(tmp_path / "large", draw(PICTURES, width=640, height=480), fps=30)
    with RtspCamera(reel) as camera, Proxy(camera.port) as line, closing(opened(camera.uri_at(line.port))) as source:
        poll_until(source, is_frame)
        line.lose(0.01)
        items = poll_for(source, 6.0)
        damaged = source.health().damaged
        line.lose(0.0)
        poll_for(source, 2.0)
        assert is_near_a_picture(frames_in(poll_until(source, is_frame))[0], reel)
    frames = frames_in(items)
    assert damaged >= 10 and len(frames) >= 10
    assert set(events_in(items)) == {"filler"} and set(kinds_of_gaps(frames)) == {None, GapKind.DAMAGED}
    # FFmpeg does not notice every loss; without our part in it, most of what is handed over is spoilt.
    spoilt = [frame.index for frame in frames if not is_near_a_picture(frame, reel)]
    assert len(spoilt) < len(frames) / 4


def test_jpegs_that_were_cut_short_are_left_out(reel: Reel) -> None:
    whole = reel_pictures(reel)
    with MjpegCamera(reel) as camera, closing(opened(camera.uri)) as source:
        poll_until(source, is_frame)
        camera.send([data[: len(data) // 2] if number % 5 == 4 else data for number, data in enumerate(whole)])
        items = poll_for(source, 3.0)
        assert source.health().damaged >= 3
    frames = frames_in(items)
    assert len(frames) >= 20 and all(is_near_a_picture(frame, reel) for frame in frames)
    assert set(kinds_of_gaps(frames)) == {None, GapKind.DAMAGED}


@pytest.mark.parametrize("change", [lambda data: data + bytes(5000), lambda data: data.removesuffix(END_OF_JPEG)], ids=["padded", "no end"])
def test_jpegs_that_end_in_a_way_of_their_own_are_whole(reel: Reel, change: Callable[[bytes], bytes]) -> None:
    with MjpegCamera(reel) as camera:
        camera.send([change(data) for data in reel_pictures(reel)])
        with closing(opened(camera.uri)) as source:
            items = poll_for(source, 2.0)
        assert len(frames_in(items)) >= 10 and source.health().damaged == 0


@by_both_readers
@both
def test_a_frozen_picture_is_said_and_left_out(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera:
        freezes_and_thaws(camera)


@rtsp
@pytest.mark.footage
def test_a_frozen_picture_of_real_footage_is_said_and_left_out(footage: Path, tmp_path: Path) -> None:
    with RtspCamera(write_reel(tmp_path / "vtest", video_frames(footage / "vtest.avi", 60), fps=10)) as camera:
        freezes_and_thaws(camera)


def freezes_and_thaws(camera: Camera) -> None:
    with closing(opened(camera.uri)) as source:
        poll_until(source, is_frame)
        camera.freeze()
        items = poll_until(source, is_event("picture_frozen"), 3 * STALL_S)
        assert events_in(items) == ["picture_frozen"]
        assert isinstance(items[-1], Event) and float(items[-1].detail["for_s"]) >= STALL_S
        filler = source.health().filler
        assert poll_for(source, 2 * STALL_S) == []
        assert source.health().filler > filler
        camera.thaw()
        items = poll_until(source, is_frame)
        assert events_in(items) == ["picture_moves"]
        assert frames_in(items)[0].gap is not None
        assert [outline(item) for item in poll_for(source, 1.0) if isinstance(item, Event) or item.gap] == []


@both
def test_a_quiet_scene_before_a_sensor_is_not_frozen(make: type[Camera], tmp_path: Path) -> None:
    noise = np.random.default_rng(3)
    [scene] = draw(1, width=160, height=120)
    pictures = [np.clip(scene + noise.normal(0, 2, scene.shape), 0, 255).astype(np.uint8) for _ in range(PICTURES)]
    with make(write_reel(tmp_path / "quiet", pictures, FPS, numbered=False)) as camera, closing(opened(camera.uri)) as source:
        items = poll_for(source, 3 * STALL_S)
    assert events_in(items) == []
    assert kinds_of_gaps(frames_in(items)) == [GapKind.START] + [None] * (len(frames_in(items)) - 1)
    assert source.health().filler == 0


@both
def test_black_pictures_are_left_out(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera, closing(opened(camera.uri)) as source:
        poll_until(source, is_frame)
        camera.black()
        items = poll_until(source, is_event("filler"))
        assert poll_for(source, 2 * STALL_S) == []
        camera.show(reel)
        items += poll_until(source, lambda item: isinstance(item, Frame) and item.gap is not None)
        items += poll_for(source, 1.0)
    assert events_in(items) == ["filler"]
    frames = frames_in(items)
    assert sum(frame.gap is not None for frame in frames) == 1
    assert all(np.ptp(frame.image) > 100 for frame in frames)


@by_both_readers
@both
def test_stalled_it_is_lost_and_is_back_when_it_goes_on(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera, closing(opened(camera.uri)) as source:
        poll_until(source, is_frame)
        camera.stall()
        try:
            items = poll_until(source, is_event("source_lost"), STALL_S + 2.0)
            assert [item for item in poll_for(source, 2 * STALL_S) if isinstance(item, Frame)] == []
            assert source.health().stalls >= 1
        finally:
            camera.resume()
        items += poll_until(source, is_frame, BACK_WITHIN_S)
        items += poll_for(source, 2 * STALL_S)
    assert events_in(items) == ["source_lost", "reconnect"]


def corrupt_a_little(line: Proxy) -> None:
    line.corrupt(0.001)


def corrupt_a_lot(line: Proxy) -> None:
    line.corrupt(0.3)


@by_both_readers
@both
@pytest.mark.parametrize(
    "harm", [corrupt_a_little, corrupt_a_lot, Proxy.cut, Proxy.refuse, Proxy.blackhole], ids=lambda harm: harm.__name__
)
@pytest.mark.parametrize("seconds", [0.5, 4.0], ids=["briefly", "long"])
def test_garbage_is_survived(reel: Reel, make: type[Camera], harm: Callable[[Proxy], None], seconds: float) -> None:
    with make(reel) as camera, Proxy(camera.port) as line, closing(opened(camera.uri_at(line.port))) as source:
        poll_until(source, is_frame)
        harm(line)
        items = poll_for(source, seconds)
        line.mend()
        items += poll_until(source, lambda item: isinstance(item, Frame) and is_near_a_picture(item, reel), BACK_WITHIN_S)
    turns = [event for event in events_in(items) if event in ("source_lost", "reconnect")]
    assert turns == (["source_lost", "reconnect"] * len(turns))[: len(turns)]


@both
def test_a_wrong_password_is_called_one(reel: Reel, make: type[Camera]) -> None:
    user, password = SECRETS
    with make(reel, user=user, password="another") as camera:
        with raises(SourceOpenError, "camera … 401 … refuses"):
            opened(camera.bare_uri.replace("://", f"://{user}:{password}@"))
        with raises(SourceOpenError, "camera … 401 … wants"):
            opened(camera.bare_uri)
        with pytest.raises(AccessRefused):
            capture.Opener(parse_address(camera.bare_uri), CameraOptions()).open()


@rtsp
def test_a_stream_that_is_not_there_is_called_that(reel: Reel) -> None:
    user, password = SECRETS
    says = "nothing … 404"
    with RtspCamera(reel, user=user, password=password) as camera, raises(SourceOpenError, says) as error:
        opened(camera.uri.replace("/camera", "/nothing"))
    assert not [secret for secret in SECRETS if secret in str(error.value)]


@pytest.mark.parametrize(
    ("media", "says"),
    [
        (
            ("m=video 0 RTP/AVP 96", "a=rtpmap:96 NEWEST/90000"),
            "FFmpeg … codec",
        ),
        (("m=audio 0 RTP/AVP 0",), "video stream … none"),
    ],
    ids=["unknown codec", "sound alone"],
)
def test_a_stream_that_cannot_be_shown_is_called_that(media: tuple[str, ...], says: str) -> None:
    with OddRtsp(*media) as camera, raises(SourceOpenError, says):
        opened(camera.uri)


def test_a_stream_whose_name_is_no_utf_8_is_opened_all_the_same() -> None:
    name = "摄像头".encode("gbk")
    says = "FFmpeg … codec"
    with OddRtsp("m=video 0 RTP/AVP 96", "a=rtpmap:96 NEWEST/90000", name=name) as camera, raises(SourceOpenError, says):
        opened(camera.uri)


def test_an_answer_that_nobody_foresaw_is_an_error_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("hunter-2-secret")

    monkeypatch.setattr("av.open", fail)
    with raises(SourceOpenError, "ValueError") as error:
        opened("rtsp://127.0.0.1:9/camera")
    assert SECRETS[1] not in str(error.value)


def test_a_name_that_nobody_knows_is_called_that() -> None:
    with raises(SourceOpenError, "no-such-camera.invalid … not known"):
        opened("rtsp://no-such-camera.invalid/stream")


@by_both_readers
@pytest.mark.parametrize("host", ["cam..local", f"{'cam' * 22}.local"], ids=["empty", "overlong"])
def test_a_name_that_no_host_can_have_is_called_that(host: str) -> None:
    with raises(SourceOpenError, "host"):
        opened(f"rtsp://{host}/stream")


@both
def test_an_answer_that_does_not_come_is_called_that(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera:
        camera.stall()
        with raises(SourceOpenError, f"{STALL_S:g} s … none"):
            opened(camera.uri)
        camera.resume()


@both
@pytest.mark.parametrize("who", ["wrong password", "wrong user", "nobody"])
def test_who_may_not_enter_is_told_so_without_secrets(
    reel: Reel, make: type[Camera], who: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    user, password = SECRETS
    caplog.set_level(logging.DEBUG)
    with make(reel, user="admin" if who == "wrong user" else user, password="another") as camera:
        uri = camera.bare_uri if who == "nobody" else camera.bare_uri.replace("://", f"://{user}:{password}@")
        with pytest.raises(SourceOpenError) as error:
            opened(uri)
    said = [str(error.value), repr(error.value), caplog.text, *capfd.readouterr()]
    assert not [text for text in said for secret in SECRETS if secret in text]
    assert camera.bare_uri.partition("://")[2] in str(error.value)


@by_both_readers
@both
def test_who_may_enter_leaves_no_secrets(
    reel: Reel, make: type[Camera], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    user, password = SECRETS
    caplog.set_level(logging.DEBUG)
    with make(reel, user=user, password=password) as camera, closing(opened(camera.uri)) as source:
        items = poll_until(source, is_frame)
        camera.kill()
        items += poll_until(source, is_event("source_lost"))
        items += poll_for(source, 1.0)
        camera.start()
        items += poll_until(source, is_event("reconnect"))
        shown = [source.uri, source.stream, repr(source.health()), repr(source), repr(vars(source)), *map(outline, items)]
    said = [*shown, caplog.text, *capfd.readouterr()]
    assert not [text for text in said for secret in SECRETS if secret in text]


@rtsp
def test_the_newest_frame_wins(reel: Reel) -> None:
    pause = threading.Event()
    with RtspCamera(reel) as camera, closing(opened(camera.uri)) as source:
        ages_s: list[float] = []
        frames: list[Frame] = []
        while len(frames) < 10:
            pause.wait(0.5)  # a slow detector
            [frame] = frames_in(poll_until(source, is_frame))
            ages_s.append(monotonic() - frame.time_s)
            frames.append(frame)
        health = source.health()
    assert statistics.median(ages_s) < 2 / FPS
    steps = [(number_in(later.image) - number_in(earlier.image)) % PICTURES for earlier, later in pairwise(frames)]
    assert statistics.median(steps) == pytest.approx(0.5 * FPS, abs=1.5)
    assert health.dropped >= sum(steps) - 2 * len(steps)
    assert kinds_of_gaps(frames) == [GapKind.START] + [None] * 9


@rtsp
def test_a_detector_that_was_away_too_long_begins_anew(reel: Reel) -> None:
    with RtspCamera(reel) as camera, closing(opened(camera.uri)) as source:
        poll_until(source, is_frame)
        threading.Event().wait(2.0)
        [frame] = frames_in(poll_until(source, is_frame))
        assert frame.gap is not None
        assert [frame.gap for frame in frames_in(poll_for(source, 1.0))].count(None) >= 5


@rtsp
def test_a_lower_rate_is_even(reel: Reel) -> None:
    with RtspCamera(reel) as camera, closing(opened(camera.uri, fps=5)) as source:
        poll_for(source, 1.0)
        frames = frames_in(poll_for(source, 8.0))
        assert source.fps == 5
    assert len(frames) == pytest.approx(5 * 8, rel=0.1)
    steps = [(number_in(later.image) - number_in(earlier.image)) % PICTURES for earlier, later in pairwise(frames)]
    assert statistics.mean(steps) == pytest.approx(FPS / 5, rel=0.1)
    assert sum(step == FPS / 5 for step in steps) >= 0.8 * len(steps)
    assert source.health().skipped >= len(frames)
    assert [frame.gap for frame in frames] == [None] * len(frames)


@both
def test_a_camera_that_is_not_there_yet_is_waited_for(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera:
        camera.kill()
        with closing(opened(camera.uri, waits=True)) as source:
            assert poll_for(source, 1.0) == []
            assert source.health().connects == 0
            camera.start()
            items = poll_until(source, is_frame, BACK_WITHIN_S)
            assert [outline(item) for item in items] == ["frame 0 (start)"]
            health = source.health()
    assert (health.state, health.connects, health.losses, health.down_s) == ("reading", 1, 0, 0)


@by_both_readers
@both
def test_a_camera_that_is_not_there_is_an_error_in_time(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera:
        camera.kill()
        began_s = monotonic()
        with raises(SourceOpenError, "'Connection refused'"):
            opened(camera.uri)
        assert monotonic() - began_s < STALL_S
        camera.start()


@by_both_readers
@both
def test_a_camera_that_does_not_answer_is_an_error_in_time(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera:
        camera.stall()
        began_s = monotonic()
        with pytest.raises(SourceOpenError):
            opened(camera.uri)
        assert monotonic() - began_s < 3 * STALL_S
        camera.resume()
