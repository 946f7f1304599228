"""The cameras of the kit do what they say: seen with FFmpeg from our OpenCV and with GStreamer from the system's."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.kit.cameras import SYSTEM_PYTHON, Pattern, Proxy, RtspCamera
from tests.kit.drawn_footage import Reel, draw, number_in, video_frames, write_reel
from tests.kit.mjpeg_server import MjpegCamera

pytestmark = pytest.mark.waits

PICTURES = 60
OPEN_MS, READ_MS = 10_000, 1_500
MOST_READS = 300

Camera = RtspCamera | MjpegCamera
CAMERAS = [
    pytest.param(RtspCamera, id="rtsp", marks=pytest.mark.rtsp),
    pytest.param(MjpegCamera, id="mjpeg"),
]
both = pytest.mark.parametrize("make", CAMERAS)


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> Reel:
    return write_reel(tmp_path_factory.mktemp("reel") / "small", draw(PICTURES, width=160, height=120), fps=20)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture(autouse=True)
def over_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with a short look at the stream before the first frame."""
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp|analyzeduration;200000")


@contextmanager
def watching(uri: str) -> Iterator[cv2.VideoCapture]:
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
    capture = cv2.VideoCapture(uri, cv2.CAP_FFMPEG, timeouts)
    try:
        yield capture
    finally:
        capture.release()


def read(capture: cv2.VideoCapture, count: int) -> list[np.ndarray]:
    images = []
    for _ in range(count):
        there, image = capture.read()
        assert there
        images.append(image)
    return images


def reads_end(capture: cv2.VideoCapture) -> bool:
    """Within so many frames, what was under way included."""
    return any(not capture.read()[0] for _ in range(MOST_READS))


def read_until(capture: cv2.VideoCapture, wanted: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Skip what was under way when the camera was told to change."""
    return next(image for _ in range(MOST_READS) for image in read(capture, 1) if wanted(image))


def is_in_order(images: list[np.ndarray]) -> bool:
    numbers = [number_in(image) for image in images]
    return all((later - earlier) % PICTURES == 1 for earlier, later in pairwise(numbers))


@pytest.mark.rtsp
@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_rtsp_pictures_come_in_order(reel: Reel, codec: str) -> None:
    with RtspCamera(reel, codec=codec) as camera, watching(camera.uri) as capture:
        images = read(capture, PICTURES + 5)
    assert images[0].shape == (120, 160, 3)
    assert is_in_order(images)


def test_mjpeg_pictures_come_in_order(reel: Reel) -> None:
    with MjpegCamera(reel) as camera, watching(camera.uri) as capture:
        assert is_in_order(read(capture, PICTURES + 5))


@both
def test_killed_it_ends_the_reading_and_restarted_it_is_back(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera:
        for _ in range(2):
            with watching(camera.uri) as capture:
                read(capture, 3)
                camera.kill()
                assert reads_end(capture)
            with watching(camera.uri) as capture:
                assert not capture.isOpened()
            camera.start()
        with watching(camera.uri) as capture:
            read(capture, 3)


@both
def test_stalled_it_keeps_the_connection_and_sends_nothing(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera:
        with watching(camera.uri) as capture:
            read(capture, 3)
            camera.stall()
            assert reads_end(capture)
        camera.resume()
        with watching(camera.uri) as capture:
            read(capture, 3)


@both
def test_frozen_it_repeats_one_picture(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera, watching(camera.uri) as capture:
        read(capture, 3)
        camera.freeze()
        # What H.264 still mends in a still picture is over after a key frame or two.
        settled = read(capture, 80)[40:]
        assert len({number_in(image) for image in settled}) == 1
        camera.thaw()
        still = number_in(settled[-1])
        read_until(capture, lambda image: number_in(image) != still)
        assert is_in_order(read(capture, 10))


@both
def test_black_is_black_until_it_shows_something(reel: Reel, make: type[Camera]) -> None:
    with make(reel) as camera, watching(camera.uri) as capture:
        read(capture, 3)
        camera.black()
        read_until(capture, lambda image: int(image.max()) == 0)
        camera.show(reel)
        read_until(capture, lambda image: image.mean() > 60)


@both
def test_only_who_knows_the_password_enters(reel: Reel, make: type[Camera]) -> None:
    with make(reel, user="viewer", password="a-secret") as camera:
        assert "a-secret" in camera.uri and "a-secret" not in camera.bare_uri
        with watching(camera.uri) as capture:
            read(capture, 3)
        with watching(camera.bare_uri) as capture:
            assert not capture.isOpened()


@pytest.mark.rtsp
def test_switched_it_hangs_up_and_has_another_size(reel: Reel, tmp_path: Path) -> None:
    larger = write_reel(tmp_path / "larger", draw(10, width=320, height=240))
    with RtspCamera(reel) as camera:
        with watching(camera.uri) as capture:
            read(capture, 3)
            camera.switch(larger)
            assert reads_end(capture)
        with watching(camera.uri) as capture:
            assert read(capture, 1)[0].shape == (240, 320, 3)


@pytest.mark.rtsp
def test_switched_within_a_session_ffmpeg_hides_it(reel: Reel, tmp_path: Path) -> None:
    larger = write_reel(tmp_path / "larger", [np.full((240, 320, 3), 200, np.uint8)], fps=20, numbered=False)
    with RtspCamera(reel) as camera, watching(camera.uri) as capture:
        read(capture, 3)
        camera.switch(larger, hang_up=False)
        switched = read_until(capture, lambda image: bool((abs(image.astype(int) - 200) < 5).all()))
    assert switched.shape == (120, 160, 3)


@pytest.mark.rtsp
@pytest.mark.system_opencv
def test_switched_within_a_session_gstreamer_shows_it(reel: Reel, tmp_path: Path) -> None:
    script = """
import sys, cv2
capture = cv2.VideoCapture(sys.argv[1], cv2.CAP_GSTREAMER)
while True:
    there, image = capture.read()
    assert there
    print(*image.shape, flush=True)
    if image.shape[0] != 120:
        break
"""
    larger = write_reel(tmp_path / "larger", draw(10, width=320, height=240))
    with (
        RtspCamera(reel) as camera,
        subprocess.Popen([SYSTEM_PYTHON, "-c", script, pipeline(camera)], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None and process.stdout.readline() == "120 160 3\n"
        camera.switch(larger, hang_up=False)
        assert process.stdout.readlines()[-1] == "240 320 3\n"


@pytest.mark.rtsp
@pytest.mark.footage
def test_real_footage_at_its_size(footage: Path, tmp_path: Path) -> None:
    vtest = write_reel(tmp_path / "vtest", video_frames(footage / "vtest.avi", 40))
    with RtspCamera(vtest) as camera, watching(camera.uri) as capture:
        assert read(capture, 3)[-1].shape == (576, 768, 3)


@pytest.mark.rtsp
def test_a_pattern_moves() -> None:
    with RtspCamera(Pattern()) as camera, watching(camera.uri) as capture:
        first, *_, last = read(capture, 10)
    assert first.shape == (240, 320, 3)
    assert (first != last).any()


@pytest.mark.rtsp
@pytest.mark.parametrize("harm", [Proxy.cut, Proxy.refuse, Proxy.blackhole], ids=lambda harm: harm.__name__)
def test_a_bad_line_ends_the_reading_and_a_mended_one_is_as_good_as_new(reel: Reel, harm: Callable[[Proxy], None]) -> None:
    with RtspCamera(reel) as camera, Proxy(camera.port) as line:
        with watching(camera.uri_at(line.port)) as capture:
            read(capture, 3)
            harm(line)
            assert reads_end(capture)
        line.mend()
        with watching(camera.uri_at(line.port)) as capture:
            assert is_in_order(read(capture, 10))


def test_a_corrupting_line_spoils_the_pictures(reel: Reel) -> None:
    with MjpegCamera(reel) as camera, Proxy(camera.port) as line, watching(camera.uri_at(line.port)) as capture:
        assert is_in_order(read(capture, 5))
        line.corrupt(0.01)
        assert not all(there and is_near_a_picture(image, reel) for there, image in (capture.read() for _ in range(20)))


def is_near_a_picture(image: np.ndarray, reel: Reel) -> bool:
    """Whether it is one of the reel's, apart from what a codec does to it."""
    original = draw(PICTURES, width=reel.width, height=reel.height)[number_in(image) % PICTURES]
    return float(cv2.absdiff(image, original)[reel.height // 2 :].mean()) < 3


@pytest.mark.rtsp
@pytest.mark.system_opencv
@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_gstreamer_sees_the_same_pictures(reel: Reel, codec: str, tmp_path: Path) -> None:
    script = """
import sys, cv2
capture = cv2.VideoCapture(sys.argv[1], cv2.CAP_GSTREAMER)
for number in range(10):
    there, image = capture.read()
    assert there and cv2.imwrite(f"{sys.argv[2]}/{number}.png", image)
"""
    with RtspCamera(reel, codec=codec) as camera:
        subprocess.run([SYSTEM_PYTHON, "-c", script, pipeline(camera), tmp_path], check=True, timeout=60)
    images = [cv2.imread(str(tmp_path / f"{number}.png")) for number in range(10)]
    assert is_in_order(images)


def pipeline(camera: RtspCamera) -> str:
    return f"rtspsrc location={camera.uri} protocols=tcp latency=0 ! decodebin ! videoconvert ! video/x-raw,format=BGR ! appsink"
