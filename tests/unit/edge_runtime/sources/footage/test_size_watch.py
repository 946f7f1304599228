from __future__ import annotations

import logging
import os
import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import open_source
from edge_runtime.frames import Frame
from edge_runtime.optional.opencv import CAMERA_OPTIONS, FFMPEG_OPTIONS
from edge_runtime.sources.footage import size_watch
from edge_runtime.sources.footage.size_watch import SizeWatch
from edge_runtime.sources.footage.video_file import read_video
from tests.kit.resized_video import (
    Part,
    changes_in,
    has_encoder,
    turned,
    write_resized,
    write_streams,
    write_two_descriptions,
)
from tests.kit.timed_video import every, write_timed_video
from tests.kit.wording import missing

SMALL, LARGE = Part(64, 48, grey=60), Part(96, 48, grey=160)
REORDERED = 3  # how many packets further a picture may be stored that two others are shown before


def encoder(name: str, *others: object) -> object:
    return pytest.param(name, *others, marks=pytest.mark.skipif(not has_encoder(name), reason=f"a PyAV without {name}"))


def read(path: Path) -> list[Frame]:
    return list(open_source(str(path), default_fps=10))


def gaps_of(frames: list[Frame]) -> dict[int, str]:
    return {frame.index: frame.gap.text for frame in frames if frame.gap is not None}


def assert_gap_at_the_change(frames: list[Frame], *, most_late: int = 0) -> None:
    [change] = changes_in([frame.image for frame in frames])
    start, gap = gaps_of(frames)
    assert gaps_of(frames) == {start: "start", gap: "size changed to 96x48"}
    assert start == 0 and change <= gap <= change + most_late


# where it changes


@pytest.mark.parametrize(("key_every", "most_late"), [(10, 0), (1, 4)])  # of nothing but key frames, every fourth is decoded here
@pytest.mark.parametrize(
    ("codec", "ending"),
    [
        *(encoder("mjpeg", ending) for ending in ("avi", "mkv", "mp4")),
        *(encoder("mpeg4", ending) for ending in ("avi", "mkv", "mp4")),
        *(encoder("libx264", ending) for ending in ("avi", "mkv", "mp4", "mov")),
        *(encoder("libx265", ending) for ending in ("mkv", "mp4")),
    ],
)
def test_the_first_frame_of_another_size_comes_after_a_gap(codec: str, ending: str, key_every: int, most_late: int, tmp_path: Path) -> None:
    frames = read(write_resized(tmp_path / f"gate.{ending}", [SMALL, LARGE], codec=codec, key_every=key_every))
    assert_gap_at_the_change(frames, most_late=most_late)
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert [frame.time_s for frame in frames] == pytest.approx(every(0.1, 40))


def test_a_codec_whose_key_frames_are_all_decoded(tmp_path: Path) -> None:
    assert_gap_at_the_change(read(write_resized(tmp_path / "gate.mkv", [SMALL, LARGE], codec="libvpx-vp9")))


@pytest.mark.parametrize("codec", [encoder("libx264"), encoder("libx265")])
def test_streams_put_together_whose_times_begin_anew(codec: str, tmp_path: Path) -> None:
    frames = read(write_streams(tmp_path / "gate.mp4", [SMALL, LARGE], codec=codec))
    assert_gap_at_the_change(frames)
    assert [frame.time_s for frame in frames] == pytest.approx(every(0.1, 40))


def test_a_stream_without_any_times(tmp_path: Path) -> None:
    assert_gap_at_the_change(read(write_streams(tmp_path / "gate.mp4", [SMALL, LARGE], codec="libx264", kind="h264")))


def test_a_stream_that_begins_between_key_frames(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "gate.mp4", [SMALL, LARGE], codec="libx264")
    path.write_bytes(path.read_bytes()[188 * 10 :])
    frames = read(path)
    assert len(frames) < 40
    assert_gap_at_the_change(frames)


def test_an_mp4_with_two_descriptions_of_its_pictures(tmp_path: Path) -> None:
    assert_gap_at_the_change(read(write_two_descriptions(tmp_path / "gate.mp4", SMALL, LARGE)))


def test_a_video_that_is_turned_and_begins_late(tmp_path: Path) -> None:
    frames = read(turned(write_resized(tmp_path / "gate.mp4", [SMALL, LARGE], codec="libx264", start=50)))
    assert_gap_at_the_change(frames)
    assert {frame.image.shape for frame in frames} == {(64, 48, 3)}


def test_there_and_back_are_two_gaps_and_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_resized(tmp_path / "gate.mp4", [SMALL, LARGE, SMALL], codec="libx264")
    source = open_source(str(path), loop=True)
    with caplog.at_level(logging.WARNING):
        frames = list(islice(source, 120))
    small, large = "size changed to 64x48", "size changed to 96x48"
    assert gaps_of(frames) == {0: "start", 20: large, 40: small, 60: "loop", 80: large, 100: small}
    [record] = caplog.records
    assert not missing(record.getMessage(), f"{path} … 96x48 pixels … 64x48 … frame 20 … 2.0 s")


def test_a_key_frame_for_a_new_size_right_after_another_one(tmp_path: Path) -> None:
    """A camera is set anew at any time: its key frames come early then."""
    parts = [Part(64, 48, grey=60, frames=12), LARGE]
    assert_gap_at_the_change(read(write_resized(tmp_path / "gate.mkv", parts, codec="libvpx-vp9")))


# where it does not


def greys(count: int) -> list[np.ndarray]:
    return [np.full((48, 64, 3), 40 + i, np.uint8) for i in range(count)]


@pytest.mark.parametrize(
    ("codec", "ending"),
    [
        *(encoder(codec, ending) for codec in ("libx264", "mpeg4", "mjpeg") for ending in ("avi", "mkv", "mp4")),
        *(encoder("libx265", ending) for ending in ("mkv", "mp4")),
    ],
)
def test_a_video_of_one_size_has_no_gap(codec: str, ending: str, tmp_path: Path) -> None:
    parts = [SMALL, Part(64, 48, grey=160), SMALL]
    assert list(gaps_of(read(write_resized(tmp_path / f"gate.{ending}", parts, codec=codec, start=0 if ending == "avi" else 50)))) == [0]


def test_a_rate_that_varies_and_a_pause_are_no_change(tmp_path: Path) -> None:
    times_s = every(0.1, 40) + every(0.04, 30, start_s=4.0) + every(0.1, 30, start_s=65.0)
    assert gaps_of(read(write_timed_video(tmp_path / "gate.mkv", greys(100), times_s))) == {0: "start", 70: "no frame for 59.8 s"}


@pytest.mark.footage
def test_real_footage_has_no_gap(footage: Path) -> None:
    assert gaps_of(read(footage / "vtest.avi")) == {0: "start"}


@pytest.mark.parametrize("damaged_at", [0.3, 0.5, 0.7])
def test_damage_is_no_change(damaged_at: float, tmp_path: Path) -> None:
    path = write_streams(tmp_path / "gate.mp4", [Part(64, 48, grey=60, frames=60)], codec="libx264")
    content = bytearray(path.read_bytes())
    begin = int(damaged_at * len(content))
    content[begin : begin + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(content)
    assert list(gaps_of(read(path))) == [0]


def test_a_network_camera_in_the_same_process_changes_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_resized(tmp_path / "gate.mkv", [SMALL, LARGE], codec="libx264", key_every=1, start=50)
    monkeypatch.setenv(FFMPEG_OPTIONS, CAMERA_OPTIONS)  # with which FFmpeg gets this file's first times wrong
    assert [stamp_s for _, stamp_s in read_video(path)] == pytest.approx(every(0.1, 40))
    assert os.environ[FFMPEG_OPTIONS] == CAMERA_OPTIONS


# what it costs, and where it cannot


def test_it_is_never_ahead_of_the_reader_by_more_than_pictures_are_reordered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_resized(tmp_path / "gate.mp4", [Part(64, 48, grey=60, frames=100)], codec="libx264")
    looked: list[float] = []
    look = size_watch.KeyFrameSizes.look
    monkeypatch.setattr(
        size_watch.KeyFrameSizes, "look", lambda sizes, packet, time_s: looked.append(time_s) or look(sizes, packet, time_s)
    )
    for frame in open_source(str(path)):
        assert frame.index < len(looked) <= frame.index + 1 + REORDERED


@pytest.mark.parametrize(("codec", "most"), [("libx264", 30), ("mjpeg", 0), ("libvpx-vp9", 30)])
def test_few_of_many_key_frames_are_decoded(codec: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred in ten seconds."""
    decoded: list[bool] = []
    decode = size_watch.KeyFrameSizes._decode

    def counting(sizes: size_watch.KeyFrameSizes, packet: object, *, is_skipped: bool) -> bool:
        decoded.append(not is_skipped)
        return decode(sizes, packet, is_skipped=is_skipped)

    monkeypatch.setattr(size_watch.KeyFrameSizes, "_decode", counting)
    read(write_resized(tmp_path / "gate.mkv", [Part(64, 48, grey=60, frames=100)], codec=codec, key_every=1))
    assert len(decoded) == 100 and sum(decoded) <= most


def test_without_pyav_the_frames_are_the_same_and_the_change_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_resized(tmp_path / "gate.mp4", [SMALL, LARGE], codec="libx264")
    seen = read(path)
    monkeypatch.setattr(size_watch, "has_pyav", lambda: False)
    unseen = read(path)
    assert list(gaps_of(seen)) == [0, 20] and list(gaps_of(unseen)) == [0]
    assert all(np.array_equal(one.image, other.image) and one.time_s == other.time_s for one, other in zip(seen, unseen, strict=True))


def test_what_pyav_cannot_open_is_read_as_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "gate.mp4"
    path.write_bytes(b"nothing that FFmpeg knows")
    watch = SizeWatch(path)
    with caplog.at_level(logging.DEBUG, "edge_runtime"):
        assert [watch.look(stamp_s) for stamp_s in every(0.1, 3)] == [None] * 3
    watch.close()
    [record] = caplog.records
    assert record.levelno == logging.DEBUG and not missing(record.getMessage(), f"{path} … watched")


def test_what_pyav_cannot_read_on_is_read_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_resized(tmp_path / "gate.mp4", [SMALL, LARGE], codec="libx264")

    def fail(*_: object) -> None:
        raise ValueError("odd packet")

    monkeypatch.setattr(size_watch.KeyFrameSizes, "look", fail)
    with caplog.at_level(logging.DEBUG, "edge_runtime"):
        assert len(read(path)) == 40
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]


@pytest.mark.parametrize("frames_read", [1, 40])
def test_the_file_is_given_back(frames_read: int, tmp_path: Path) -> None:
    path = write_resized(tmp_path / "gate.mp4", [SMALL, LARGE], codec="libx264")
    threads = threading.active_count()
    frames = iter(open_source(str(path)))
    for _ in range(frames_read):
        next(frames)
    assert opened(path) == 2  # by OpenCV, and by the watch
    frames.close()
    assert (opened(path), threading.active_count()) == (0, threads)


def opened(path: Path) -> int:
    return sum(os.path.realpath(f"/proc/self/fd/{number}") == str(path) for number in os.listdir("/proc/self/fd"))
