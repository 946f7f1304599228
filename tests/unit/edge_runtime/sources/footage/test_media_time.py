from __future__ import annotations

import logging
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import open_source
from edge_runtime.frames import Frame
from edge_runtime.sources.footage.media_time import MediaClock, even_rate
from tests.kit.timed_video import every, write_timed_video
from tests.kit.wording import missing

PAUSED = every(0.1, 50) + every(0.1, 50, start_s=65.0)


def times_told(fps: float, stamps_s: list[float | None]) -> list[float]:
    clock = MediaClock(fps)
    return [clock.tick(stamp_s).time_s for stamp_s in stamps_s]


def pauses(fps: float, stamps_s: list[float]) -> list[float | None]:
    clock = MediaClock(fps)
    return [clock.tick(stamp_s).pause_s for stamp_s in stamps_s]


def is_uneven(fps: float, stamps_s: list[float]) -> bool:
    clock = MediaClock(fps)
    return [clock.tick(stamp_s) for stamp_s in stamps_s][-1].is_uneven


# the clock


def test_stamps_rounded_to_milliseconds_leave_the_times_as_they_are_to_the_last_bit() -> None:
    fps = 30_000 / 1001
    assert times_told(fps, [round(i / fps, 3) for i in range(2000)]) == [i / fps for i in range(2000)]


@pytest.mark.parametrize("stamp_s", [None, 0.0, 7.0])
def test_stamps_that_say_nothing_leave_the_times_as_they_are(stamp_s: float | None) -> None:
    assert times_told(12.5, [stamp_s] * 100) == [i / 12.5 for i in range(100)]


def test_stamps_that_stop_to_rise_are_left() -> None:
    assert times_told(10, [0.2, 0.3, 0.4, 0.0, 0.0]) == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_stamps_that_begin_anywhere_count_from_the_first() -> None:
    assert times_told(10, [*every(0.1, 3, start_s=5.0), 6.2]) == pytest.approx([0.0, 0.1, 0.2, 1.2])


def test_stamps_are_followed_where_they_leave_the_rate() -> None:
    slower = every(0.1, 10) + every(0.2, 10, start_s=1.0)
    assert times_told(10, [*slower]) == pytest.approx(slower)


def test_time_never_goes_back() -> None:
    rng = np.random.default_rng(0)
    told = times_told(10, list(np.cumsum(rng.uniform(0.001, 0.4, 500))))
    assert all(after > before for before, after in pairwise(told))


def test_the_next_clip_goes_on_one_frame_after_the_last() -> None:
    clock = MediaClock(10)
    first = [clock.tick(stamp_s).time_s for stamp_s in (0.0, 0.1, 30.0)]
    clock.begin_clip()
    second = [clock.tick(stamp_s) for stamp_s in (0.0, 0.1)]
    assert first == pytest.approx([0.0, 0.1, 30.0])
    assert [tick.time_s for tick in second] == pytest.approx([30.1, 30.2])
    assert [tick.pause_s for tick in second] == [None, None]


def test_a_pause_is_longer_than_a_second_and_than_five_frames() -> None:
    assert pauses(10, [0.0, 0.1, 1.1, 2.2]) == [None, None, None, pytest.approx(1.1)]
    assert pauses(0.5, [0.0, 2.0, 12.0, 22.1]) == [None, None, None, pytest.approx(10.1)]


def test_a_few_lost_frames_and_pauses_are_not_uneven() -> None:
    assert not is_uneven(10, PAUSED)
    assert not is_uneven(10, [i / 10 for i in range(2000) if i % 60])


def test_frames_that_jitter_on_the_network_are_not_uneven() -> None:
    rng = np.random.default_rng(0)
    assert not is_uneven(10, list(np.cumsum(rng.uniform(0.07, 0.13, 500))))


@pytest.mark.parametrize("fps", [10, 5])
def test_half_and_double_the_rate_are_uneven(fps: float) -> None:
    assert is_uneven(fps, every(0.1, 50) + every(0.2, 50, start_s=5.1))


def test_the_rate_is_that_of_the_even_stretches() -> None:
    assert even_rate(PAUSED) == 10
    assert even_rate([*reversed(PAUSED), *PAUSED]) == 10
    assert even_rate(every(0.1, 50) + every(0.2, 50, start_s=5.1)) == 5
    assert even_rate([second + start_s for second in range(20) for start_s in (0.0, 0.01)]) == 100
    assert even_rate([round(i * 1001 / 30_000, 3) for i in range(120)]) == pytest.approx(29.97, rel=1e-3)


@pytest.mark.parametrize("stamps_s", [[], [0.0] * 120, every(0.1, 10)])
def test_a_few_stamps_say_no_rate(stamps_s: list[float]) -> None:
    assert even_rate(stamps_s) is None


# files


def greys(count: int) -> list[np.ndarray]:
    return [np.full((48, 64, 3), 40 + i, np.uint8) for i in range(count)]


def gaps_of(frames: list[Frame]) -> dict[int, str]:
    return {frame.index: frame.gap.text for frame in frames if frame.gap is not None}


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_a_video_with_a_pause_keeps_its_times_and_marks_the_gap(
    ending: str, codec: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_timed_video(tmp_path / f"gate.{ending}", greys(100), PAUSED, codec=codec)
    source = open_source(str(path))
    with caplog.at_level(logging.WARNING):
        frames = list(source)
    assert source.fps == 10
    assert [frame.time_s for frame in frames] == pytest.approx(PAUSED)
    assert [frame.index for frame in frames] == list(range(100))
    assert gaps_of(frames) == {0: "start", 50: "no frame for 60.1 s"}
    [record] = caplog.records
    assert not missing(record.getMessage(), f"gate.{ending} … 60.1 s … frame 50")


@pytest.mark.parametrize("fps", [10, 9.9])
def test_a_rate_that_is_said_leaves_the_gaps_where_it_is_the_videos_own(fps: float, tmp_path: Path) -> None:
    path = write_timed_video(tmp_path / "gate.mp4", greys(100), PAUSED)
    assert list(gaps_of(list(open_source(str(path), fps=fps)))) == [0, 50]


def test_an_avi_counts_empty_frames_in_a_pause_and_is_not_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_timed_video(tmp_path / "gate.avi", greys(100), PAUSED, codec="mjpeg")
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(str(path)))
    assert [frame.time_s for frame in frames] == pytest.approx(PAUSED)
    assert gaps_of(frames) == {0: "start", 50: "no frame for 60.1 s"}
    assert "ended after" not in caplog.text


def test_stamps_that_make_no_sense_at_the_end_change_nothing(tmp_path: Path) -> None:
    """An .avi has no time stamps, and OpenCV says 0 for frames that H.264 held back."""
    path = tmp_path / "gate.avi"
    write_h264_avi(path, 50)
    frames = list(open_source(str(path)))
    assert [frame.time_s for frame in frames] == [i / 10 for i in range(50)]
    assert gaps_of(frames) == {0: "start"}


def test_a_header_that_names_another_rate_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_timed_video(tmp_path / "gate.mkv", greys(50), every(0.1, 50), declared_fps=30)
    source = open_source(str(path))
    with caplog.at_level(logging.WARNING):
        assert [frame.time_s for frame in source] == [i / 10 for i in range(50)]
    assert (source.fps, source.frame_count) == (10, None)
    assert not caplog.records


def test_a_header_that_is_nearly_right_is_believed(tmp_path: Path) -> None:
    path = write_timed_video(tmp_path / "gate.mkv", greys(60), [round(i * 1001 / 30_000, 3) for i in range(60)], declared_fps=30)
    source = open_source(str(path))
    assert (source.fps, source.frame_count) == (30, 60)
    assert [frame.time_s for frame in source] == [i / 30 for i in range(60)]


def test_a_rate_that_is_said_stands_above_time_stamps(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_timed_video(tmp_path / "gate.mp4", greys(100), PAUSED)
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(str(path), fps=5))
    assert [frame.time_s for frame in frames] == [i / 5 for i in range(100)]
    assert gaps_of(frames) == {0: "start"}
    [record] = caplog.records
    assert not missing(record.getMessage(), "10 … 5")


def test_a_rate_that_varies_is_warned_of_once_with_the_way_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    times_s = every(0.1, 70) + every(0.2, 30, start_s=7.1)
    for name in ("west gate", "yard"):
        write_timed_video(tmp_path / f"{name}.mp4", greys(100), times_s)
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(str(tmp_path)))
    assert [frame.time_s for frame in frames[:100]] == pytest.approx(times_s)
    [record] = caplog.records
    assert not missing(record.getMessage(), "evenly spaced")
    assert f"ffmpeg -i '{tmp_path}/west gate.mp4' -vf fps=10 'west gate-even.mp4'" in record.getMessage()


def test_a_paused_video_that_ends_early_says_when(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(100)]
    path = write_timed_video(tmp_path / "gate.mkv", noise, PAUSED, codec="mjpeg")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 8 // 10])
    with caplog.at_level(logging.WARNING):
        frames = list(open_source(str(path)))
    assert 50 < len(frames) < 90
    assert not missing(caplog.text, f"gate.mkv … {frames[-1].time_s:.1f} … 69.9 s")


def write_h264_avi(path: Path, frames: int) -> None:
    """Frames at 10 per second that are stored in another order than they are shown in."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number, image in enumerate(greys(frames)):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
