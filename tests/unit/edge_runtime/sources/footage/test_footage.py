from __future__ import annotations

import errno
import logging
import os
from itertools import islice
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
import pytest

from edge_runtime import open_source
from edge_runtime.errors import ConfigError, SourceError, SourceOpenError
from edge_runtime.frames import Frame, GapKind
from edge_runtime.sources import clip_uris
from edge_runtime.sources.footage.clips import list_clips
from tests.kit.timed_video import every, write_timed_video
from tests.kit.wording import missing, raises


def put_image(path: Path, grey: int, height: int = 8, width: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), grey, np.uint8))


def put_video(path: Path, greys: list[int], fps: float = 12.5, codec: str = "MJPG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (32, 24))
    assert writer.isOpened()
    for grey in greys:
        writer.write(np.full((24, 32, 3), grey, np.uint8))
    writer.release()
    return path


def greys_of(frames: list[Frame]) -> list[int]:
    return [int(frame.image[4, 4, 0]) for frame in frames]


# images


@pytest.mark.parametrize("step", [1, 5])
@pytest.mark.parametrize("is_said", [True, False], ids=["--fps", "a default"])
def test_a_long_hole_in_the_numbers_of_images_is_a_pause(
    is_said: bool, step: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in [*range(20), *range(31, 40), *range(41, 50)]:
        put_image(tmp_path / f"{step * number}.png", number)
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(str(tmp_path), fps=10) if is_said else open_source(str(tmp_path), default_fps=10))
    assert [frame.index for frame in frames] == list(range(38))
    assert [(frame.index, frame.gap.text) for frame in frames if frame.gap] == [(0, "start"), (20, "no frame for 1.2 s")]
    assert [frame.time_s for frame in frames] == pytest.approx([grey / 10 for grey in greys_of(frames)])
    assert not missing(caplog.text, "1.2 s … frame 20")


@pytest.mark.parametrize(
    "names",
    [
        [f"{clock}{second:02}" for clock in ("1158", "1159", "1200", "1201") for second in range(60)],
        [f"{noon} {second}" for noon in ("am", "pm") for second in (*range(10), 90)],
        [f"{number}" for number in (3, 17, 41, 98, 250)],
    ],
    ids=["times of day", "two prefixes", "no steps"],
)
def test_names_that_do_not_count_have_no_hole(names: list[str], tmp_path: Path) -> None:
    for name in names:
        put_image(tmp_path / f"{name}.png", 10)
    assert [frame.gap and frame.gap.text for frame in open_source(str(tmp_path), fps=1)] == ["start", *[None] * (len(names) - 1)]


@pytest.mark.parametrize("kind", ["a folder", "a dangling link", "a pipe"])
def test_what_is_called_an_image_and_is_none_is_refused(kind: str, tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", 10)
    odd = tmp_path / "2.png"
    {"a folder": odd.mkdir, "a dangling link": lambda: odd.symlink_to("nowhere"), "a pipe": lambda: os.mkfifo(odd)}[kind]()
    frames = iter(open_source(str(tmp_path), fps=10))
    assert next(frames).index == 0
    with raises(SourceError, "2.png … none there"):
        next(frames)


def test_an_image_that_goes_away_while_the_others_are_read_is_a_source_error(tmp_path: Path) -> None:
    put_image(tmp_path / "1.png", 10)
    put_image(tmp_path / "2.png", 10)
    frames = iter(open_source(str(tmp_path), fps=10))
    next(frames)
    (tmp_path / "2.png").unlink()
    with raises(SourceError, "2.png … none there"):
        next(frames)


def test_an_image_that_may_not_be_read_is_a_source_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_image(tmp_path / "1.png", 10)
    monkeypatch.setattr(Path, "read_bytes", _forbidden)  # root may read all
    with raises(SourceError, "1.png … 'Permission denied'"):
        list(open_source(str(tmp_path), fps=10))


def test_a_folder_beside_the_clips_that_may_not_be_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put_image(tmp_path / "clip" / "1.png", 10)
    (tmp_path / "lost+found").mkdir()
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: _forbidden() if path.name == "lost+found" else listed(path))
    assert [clip.name for clip in list_clips(tmp_path)] == ["clip"]
    [message] = caplog.messages
    assert not missing(message, "lost+found … 'Permission denied'") and message.endswith("Left out.")
    with raises(SourceOpenError, "'Permission denied'"):
        list_clips(tmp_path / "lost+found")


def _forbidden(*_: object) -> NoReturn:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_file_uri_may_be_quoted(tmp_path: Path) -> None:
    put_image(tmp_path / "north gate" / "1.png", 10)
    assert greys_of(list(open_source((tmp_path / "north gate").as_uri(), fps=10))) == [10]


def test_images_come_in_natural_order_with_media_times(tmp_path: Path) -> None:
    for name, grey in (("10.png", 30), ("9.png", 20), ("1.png", 10), ("notes.txt", 0)):
        if name.endswith(".png"):
            put_image(tmp_path / "gate" / name, grey)
        else:
            (tmp_path / "gate" / name).write_text("no image")
    source = open_source(str(tmp_path / "gate"), fps=10)
    frames = list(source)
    assert greys_of(frames) == [10, 20, 30]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.time_s for frame in frames] == [0.0, 0.1, 0.2]
    assert [frame.gap and frame.gap.text for frame in frames] == ["start", None, None]
    assert {frame.stream for frame in frames} == {source.stream} == {"gate"}
    assert all(frame.image.shape == (8, 12, 3) and frame.image.dtype == np.uint8 and frame.truth is None for frame in frames)
    assert (source.frame_count, source.fps, source.is_live) == (3, 10, False)


def test_names_without_plain_digits_sort_too(tmp_path: Path) -> None:
    for grey, name in enumerate(("a2.png", "a10.png", "b.png", "²1.png")):
        put_image(tmp_path / name, grey)
    assert greys_of(list(open_source(str(tmp_path), fps=1))) == [0, 1, 2, 3]


def test_folders_are_clips_in_natural_order_with_a_gap_before_each(tmp_path: Path) -> None:
    for clip, grey in (("clip10", 30), ("clip9", 10)):
        put_image(tmp_path / clip / "000.png", grey)
        put_image(tmp_path / clip / "001.png", grey + 1)
    source = open_source(str(tmp_path), fps=10)
    frames = list(source)
    assert greys_of(frames) == [10, 11, 30, 31]
    assert [frame.gap and frame.gap.text for frame in frames] == ["start", None, "next clip after clip9", None]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert source.frame_count == 4


def test_clips_may_differ_in_size(tmp_path: Path) -> None:
    put_image(tmp_path / "a" / "0.png", 1, height=8)
    put_image(tmp_path / "b" / "0.png", 2, height=16)
    assert [frame.image.shape[0] for frame in open_source(str(tmp_path), fps=10)] == [8, 16]


def test_a_wildcard_takes_what_it_matches(tmp_path: Path) -> None:
    for name, grey in (("a_2.png", 2), ("a_10.png", 10), ("b_1.png", 99)):
        put_image(tmp_path / name, grey)
    assert greys_of(list(open_source(str(tmp_path / "a_*.png"), fps=10))) == [2, 10]


def test_a_folder_whose_name_looks_like_a_wildcard_is_a_folder(tmp_path: Path) -> None:
    put_image(tmp_path / "cam[1]" / "0.png", 7)
    assert greys_of(list(open_source(str(tmp_path / "cam[1]"), fps=10))) == [7]
    assert clip_uris(str(tmp_path / "cam[1]")) == {"cam[1]": str(tmp_path / "cam[1]")}


@pytest.mark.parametrize("fps", [None, 0, -1, float("nan"), float("inf")])
def test_images_need_a_frame_rate(fps: float | None, tmp_path: Path) -> None:
    put_image(tmp_path / "0.png", 0)
    with raises(ConfigError, "--fps 10"):
        open_source(str(tmp_path), fps=fps)


def test_an_unreadable_image_ends_it_with_the_files_name(tmp_path: Path) -> None:
    put_image(tmp_path / "0.png", 5)
    (tmp_path / "1.png").write_bytes(b"no image")
    frames = iter(open_source(str(tmp_path), fps=10))
    assert next(frames).index == 0
    with raises(SourceError, "1.png … decode"):
        next(frames)


def test_a_size_that_changes_within_a_clip_ends_it(tmp_path: Path) -> None:
    put_image(tmp_path / "0.png", 5, height=8, width=12)
    put_image(tmp_path / "1.png", 5, height=8, width=16)
    with raises(SourceError, "1.png … 12x8 pixels … 16x8"):
        list(open_source(str(tmp_path), fps=10))


def test_a_loop_goes_on_counting_and_marks_the_gap(tmp_path: Path) -> None:
    put_image(tmp_path / "0.png", 5)
    put_image(tmp_path / "1.png", 6)
    source = open_source(str(tmp_path), fps=10, loop=True)
    frames = list(islice(source, 5))
    assert greys_of(frames) == [5, 6, 5, 6, 5]
    assert [frame.gap and frame.gap.kind for frame in frames] == [GapKind.START, None, GapKind.LOOP, None, GapKind.LOOP]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert source.frame_count is None


# videos


def test_a_video_brings_its_frame_rate(tmp_path: Path) -> None:
    source = open_source(str(put_video(tmp_path / "gate.avi", [0, 80, 160])))
    frames = list(source)
    assert greys_of(frames) == pytest.approx([0, 80, 160], abs=3)
    assert [frame.time_s for frame in frames] == [0.0, 0.08, 0.16]
    assert (source.fps, source.frame_count, source.stream) == (12.5, 3, "gate.avi")


def test_a_rate_that_is_said_overrides_the_videos_and_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(put_video(tmp_path / "gate.avi", [0, 1]))
    assert [frame.time_s for frame in open_source(path, fps=5)] == [0.0, 0.2]
    [message] = caplog.messages
    assert not missing(message, "12.5 … 5") and "ffmpeg -i IN -vf fps=5 OUT" in message
    caplog.clear()
    assert open_source(path, fps=12.4).fps == 12.4
    assert caplog.messages == []


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate.mp4")
    with raises(SourceOpenError, "a pipe"):
        open_source(str(tmp_path / "gate.mp4"))


def test_videos_of_a_folder_are_clips(tmp_path: Path) -> None:
    put_video(tmp_path / "2.avi", [80, 80])
    put_video(tmp_path / "10.avi", [160])
    frames = list(open_source(str(tmp_path)))
    assert greys_of(frames) == pytest.approx([80, 80, 160], abs=3)
    assert [frame.gap and frame.gap.text for frame in frames] == ["start", None, "next clip after 2"]
    assert clip_uris(str(tmp_path)) == {"2": str(tmp_path / "2.avi"), "10": str(tmp_path / "10.avi")}


def test_videos_of_different_rates_need_one_that_is_said(tmp_path: Path) -> None:
    put_video(tmp_path / "1.avi", [0], fps=10)
    put_video(tmp_path / "2.avi", [0], fps=20)
    with raises(ConfigError, f"{tmp_path} … frame rate"):
        open_source(str(tmp_path))
    assert open_source(str(tmp_path), fps=10).frame_count == 2


def test_a_video_that_ends_early_is_read_up_to_there_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = put_video(tmp_path / "gate.avi", list(range(0, 200, 10)))
    content = path.read_bytes()
    path.write_bytes(content[: int(0.9 * len(content))])
    with caplog.at_level(logging.WARNING):
        count = len(list(open_source(str(path))))
    assert 0 < count < 20
    assert not missing(caplog.text, f"gate.avi … {count} … 20")


@pytest.mark.parametrize("is_cut_off", [False, True], ids=["whole", "cut off"])
def test_what_was_cut_out_of_a_video_as_it_is_misses_nothing_before_its_beginning(
    is_cut_off: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = put_cut_out(tmp_path / "gate.mp4", first=13, frames=60)
    if is_cut_off:
        path.write_bytes(path.read_bytes()[:-2000])
    with caplog.at_level(logging.WARNING):
        count = len(list(open_source(str(path))))
    if is_cut_off:
        assert count < 47 and not missing(caplog.text, f"gate.mp4 … {count} … 60")
    else:
        assert count == 47 and not caplog.records


def put_cut_out(path: Path, first: int, frames: int) -> Path:
    """What `ffmpeg -ss -c copy` makes: the frames from the key frame before on, and a note that only those from `first` on are shown."""
    av = pytest.importorskip("av")
    noise = np.random.default_rng(0).integers(0, 255, (frames, 24, 32, 3), np.uint8)
    whole = write_timed_video(path.with_name("whole.mp4"), list(noise), every(1 / 25, frames), declared_fps=25)
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                shift = round(first / 25 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                container.mux(packet)
    return path


def test_a_whole_video_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(list(open_source(str(put_video(tmp_path / "gate.avi", [0, 10]))))) == 2
    assert not caplog.records


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_a_video_that_cannot_be_opened_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "gate.avi").write_bytes(content)
    with raises(SourceOpenError, "gate.avi … OpenCV"):
        open_source(str(tmp_path / "gate.avi"))


def test_footage_that_is_no_clip_beside_others_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_video(tmp_path / "1.avi", [80])
    put_video(tmp_path / "monday" / "2.avi", [80])
    put_image(tmp_path / "days" / "tuesday" / "1.png", 80)
    for name in ("3.ts", "4.WEBM", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    with caplog.at_level(logging.WARNING):
        assert [clip.name for clip in list_clips(tmp_path)] == ["1"]
    [said] = caplog.messages
    assert said.startswith(f"{tmp_path}: left out") and ": 3.ts, 4.WEBM, days, monday. Lay footage as" in said


# nothing there


@pytest.mark.parametrize("where", ["nowhere", "nowhere/clip.mp4"])
def test_a_missing_source_is_named(where: str, tmp_path: Path) -> None:
    with raises(SourceOpenError, f"{where} … there"):
        open_source(str(tmp_path / where), fps=10)


def test_a_folder_without_footage_says_how_to_lay_it(tmp_path: Path) -> None:
    (tmp_path / "empty clip").mkdir()
    (tmp_path / "labels.csv").write_text("clip,frame,anomalous\n")
    with raises(SourceOpenError, "DIR/<clip>/<frame>.jpg"):
        list_clips(tmp_path)


def test_a_wildcard_without_a_match_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with raises(SourceOpenError, f"{tmp_path / '*'} … wildcard"):
        open_source(str(tmp_path / "*"), fps=10)


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with raises(SourceOpenError, "notes.txt … .txt"):
        open_source(str(tmp_path / "notes.txt"), fps=10)


def test_a_jpeg_that_was_cut_off_is_refused_and_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("0.jpg", "1.jpg"):
        assert cv2.imwrite(str(tmp_path / name), noise)
    whole = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 2])
    with raises(SourceError, "1.jpg … decode"):
        list(open_source(str(tmp_path), fps=10))


def test_rates_that_differ_by_less_than_two_percent_are_one(tmp_path: Path) -> None:
    put_video(tmp_path / "a.avi", [1, 2], fps=30)
    put_video(tmp_path / "b.avi", [3, 4], fps=29.97)
    assert open_source(str(tmp_path)).fps in (30, pytest.approx(29.97, abs=0.01))


def test_rates_that_differ_more_are_not_guessed(tmp_path: Path) -> None:
    put_video(tmp_path / "a.avi", [1, 2], fps=30)
    put_video(tmp_path / "b.avi", [3, 4], fps=25)
    with raises(ConfigError, f"{tmp_path} … frame rate"):
        open_source(str(tmp_path))


def test_hidden_files_are_no_footage(tmp_path: Path) -> None:
    put_video(tmp_path / "gate.avi", [10, 20])
    (tmp_path / "._gate.avi").write_bytes(b"what macOS puts beside it")
    put_image(tmp_path / ".thumbnails" / "1.png", 10)
    assert [clip.name for clip in list_clips(tmp_path)] == ["gate"]


# names and mixtures


@pytest.mark.parametrize(
    "name",
    ["12:30:05.mp4", "50 %d.mp4", "%03d.mp4", "gate #2 'west'.mp4", 'a "b".mp4', "a?b&c.mp4", "[1]*.mp4", "file:x.mp4", "ümlaut é.mp4"],
)
def test_a_bare_name_is_a_file_whatever_is_in_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_video(tmp_path / "gate.mp4", [10, 20, 30], codec="mp4v").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for where in (name, f"./{name}", "."):
        assert len(list(open_source(where))) == 3


@pytest.mark.parametrize("where", [".", "gate"])
def test_an_image_beside_videos_is_refused_with_both_names(where: str, tmp_path: Path) -> None:
    for name in ("a.avi", "b.avi"):
        put_video(tmp_path / "gate" / name, [10, 20])
    put_image(tmp_path / "gate" / "preview.png", 10)
    with raises(ConfigError, "preview.png … a.avi"):
        list_clips(tmp_path / where)


def test_an_image_beside_clip_folders_is_refused_with_both_names(tmp_path: Path) -> None:
    for name in ("notes", "01/000.png", "01/001.png", "plan.png", "poster.png"):
        if name.endswith(".png"):
            put_image(tmp_path / name, 10)
        else:
            (tmp_path / name).mkdir()
    with raises(ConfigError, "plan.png … 1 more … 01") as caught:
        list_clips(tmp_path)
    said = str(caught.value).rpartition("'")[0].rpartition("'")[2]
    assert greys_of(list(open_source(said, fps=10))) == [10, 10]


def test_images_beside_a_folder_without_images_are_a_clip(tmp_path: Path) -> None:
    put_image(tmp_path / "0.png", 10)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "words.txt").write_text("no image")
    assert [clip.name for clip in list_clips(tmp_path)] == [tmp_path.name]
