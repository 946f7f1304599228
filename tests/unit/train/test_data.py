from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_runtime.errors import ConfigError, SinkError, SourceError, SourceOpenError
from edge_runtime.files import path_beside
from edge_runtime.preprocess import InputSpec
from tests.kit.timed_video import every, write_timed_video
from tests.kit.wording import missing, raises
from train.config import DataConfig
from train.data import CachedClip, Segment, Windows, _near, cache_footage, is_same_place, load_segments, split_clips

GREY = InputSpec(frames=2, target=2, channels=1, height=8, width=16)
SCENE = "synthetic:?anomalies=off&width=64&height=48"
COLOUR = InputSpec(frames=2, target=2, channels=3, height=8, width=16)


def test_windows_never_cross_clips() -> None:
    windows = Windows([_clip("a", 4, first=0), _clip("b", 5, first=100)], GREY)
    [batch] = windows.batches(99)
    assert _levels(batch.window) == [[0, 1], [1, 2], [100, 101], [101, 102], [102, 103]]
    assert not batch.is_pseudo.any()
    assert _levels(batch.target) == [2, 3, 102, 103, 104]
    assert len(windows) == 5


def test_windows_never_cross_a_pause_in_a_video(tmp_path: Path) -> None:
    pytest.importorskip("av")
    images = [np.full((48, 64, 3), 3 * i, np.uint8) for i in range(60)]
    write_timed_video(tmp_path / "gate.mp4", images, [*every(0.1, 40), *every(0.1, 20, start_s=60)])
    for _ in range(2):  # decoded, and from the cache
        footage = cache_footage(str(tmp_path / "gate.mp4"), GREY, DataConfig(held_out_share=0.3), tmp_path / "cache")
        parts = [(clip.segment.name, clip.segment.start, clip.segment.stop) for clip in (*footage.training, *footage.held_out)]
        assert parts == [("gate[0:40]", 0, 40), ("gate[40:60]", 40, 60)]
        assert [len(clip.frames) for clip in (*footage.training, *footage.held_out)] == [40, 20]
    [again] = load_segments([footage.held_out[0].segment], GREY, footage.fps)
    assert (again.frames == footage.held_out[0].frames).all()


def test_what_is_left_of_a_video_with_a_pause_is_split_where_it_lies(tmp_path: Path) -> None:
    pytest.importorskip("av")
    images = [np.full((48, 64, 3), 3 * i, np.uint8) for i in range(42)]
    write_timed_video(tmp_path / "gate.mp4", images, [*every(0.1, 2), *every(0.1, 40, start_s=60)])
    footage = cache_footage(str(tmp_path / "gate.mp4"), GREY, DataConfig(held_out_share=0.25), tmp_path / "cache")
    assert [(clip.segment.start, clip.segment.stop) for clip in (*footage.training, *footage.held_out)] == [(2, 32), (32, 42)]


@pytest.mark.parametrize(
    ("frames", "target", "wanted_window", "wanted_target"),
    [
        (1, 0, [[0], [1], [2]], [0, 1, 2]),  # reconstruction
        (3, 1, [[0, 1, 2]], [1]),  # the middle one
        (2, 2, [[0, 1]], [2]),  # prediction
    ],
)
def test_the_target_lies_where_the_specification_says(
    frames: int, target: int, wanted_window: list[list[int]], wanted_target: list[int]
) -> None:
    spec = InputSpec(frames=frames, target=target, channels=1, height=8, width=16)
    [batch] = Windows([_clip("a", 3)], spec).batches(9)
    assert _levels(batch.window) == wanted_window
    assert _levels(batch.target) == wanted_target


def test_a_window_is_scaled_as_the_runtime_scales_it() -> None:
    frames = np.array([0, 255, 51], np.uint8)[:, None, None, None].repeat(8, 2).repeat(16, 3)
    [batch] = Windows([CachedClip(Segment("a", "a", 0, 3), frames)], GREY).batches(1)
    assert (batch.window.shape, batch.window.dtype) == ((1, 2, 1, 8, 16), torch.float32)
    assert batch.target.shape == (1, 1, 8, 16)
    assert (batch.window[0, 0].unique().item(), batch.window[0, 1].unique().item()) == (-1, 1)
    assert batch.target.unique().item() == pytest.approx(-0.6, abs=1e-6)


def test_a_gpu_with_room_keeps_the_frames_and_one_without_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [torch.zeros(10, 1, 8, 16, dtype=torch.uint8)]  # 1,280 bytes
    moved: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, _: moved.append(tensor) or tensor)
    for free, is_kept in ((2560, True), (2559, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 10**9))
        moved.clear()
        _near(frames, torch.device("cuda"))
        assert bool(moved) is is_kept
    assert _near(frames, torch.device("cpu"))[0] is frames[0]


def test_the_order_depends_on_the_seed_and_the_epoch_alone() -> None:
    windows = Windows([_clip("a", 60)], GREY)
    first, other_epoch, other_seed = (_order(windows, seed) for seed in ([3, 0], [3, 1], [4, 0]))
    np.random.seed(1)
    torch.manual_seed(1)
    assert _order(Windows([_clip("a", 60)], GREY), [3, 0]) == first
    assert first != other_epoch != other_seed != first
    assert sorted(first) == list(range(58))


def test_in_training_a_single_window_left_over_is_dropped_and_in_evaluation_it_is_kept() -> None:
    windows = Windows([_clip("a", 7)], GREY)  # 5 windows
    assert [len(batch.window) for batch in windows.batches(2, np.random.default_rng(0))] == [2, 2]
    assert [len(batch.window) for batch in windows.batches(3, np.random.default_rng(0))] == [3, 2]
    assert [len(batch.window) for batch in windows.batches(2)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("clips", "share", "held_out"),
    [
        (10, 0.2, [2, 7]),
        (16, 0.2, [2, 8, 13]),
        (9, 1 / 3, [1, 4, 7]),
        (4, 0.01, [2]),  # at least one
        (2, 0.99, [1]),  # and at least one to train on
    ],
)
def test_whole_clips_are_held_out_spread_evenly(clips: int, share: float, held_out: list[int]) -> None:
    training, kept = split_clips([_clip(str(i), 5) for i in range(clips)], share)
    assert [int(clip.segment.name) for clip in kept] == held_out
    assert [int(clip.segment.name) for clip in training] == [i for i in range(clips) if i not in held_out]


def test_a_single_clip_is_split_in_time() -> None:
    [training], [held_out] = split_clips([_clip("gate", 50)], 0.2)
    assert training.segment == Segment("gate[0:40]", "gate", 0, 40)
    assert held_out.segment == Segment("gate[40:50]", "gate", 40, 50)
    assert (training.frames.max(), held_out.frames.min()) == (39, 40)


def test_grey_frames_are_weighted_and_colour_frames_are_blue_green_red(tmp_path: Path) -> None:
    for clip in ("01", "02"):
        _write_images(tmp_path / "footage" / clip, [(10, 20, 30)] * 3)
    footage = cache_footage(str(tmp_path / "footage"), GREY, DataConfig(fps=10), tmp_path / "grey")
    assert footage.training[0].frames.shape == (3, 1, 8, 16)
    assert np.unique(footage.training[0].frames).tolist() == [22]  # 0.114 * 10 + 0.587 * 20 + 0.299 * 30 = 21.85
    footage = cache_footage(str(tmp_path / "footage"), COLOUR, DataConfig(fps=10), tmp_path / "colour")
    assert footage.training[0].frames.shape == (3, 3, 8, 16)
    assert footage.training[0].frames[0, :, 0, 0].tolist() == [10, 20, 30]


def test_folders_of_images_are_cached_in_their_order_with_their_names(tmp_path: Path) -> None:
    for clip in ("01", "02", "03"):
        _write_images(tmp_path / "footage" / clip, [(level,) * 3 for level in range(12)])
    footage = cache_footage(str(tmp_path / "footage"), GREY, DataConfig(held_out_share=0.34, fps=10), tmp_path / "cache")
    assert [clip.segment.name for clip in footage.training] == ["01", "03"]
    assert footage.held_out[0].segment == Segment("02", str(tmp_path / "footage" / "02"), 0, 12)
    assert footage.held_out[0].frames[:, 0, 0, 0].tolist() == list(range(12))
    assert footage.fps == 10


def test_folders_of_images_need_a_frame_rate_from_the_configuration(tmp_path: Path) -> None:
    _write_images(tmp_path / "footage" / "01", [(0, 0, 0)] * 8)
    with raises(ConfigError, str(tmp_path / "footage"), "data.fps") as raised:
        cache_footage(str(tmp_path / "footage"), GREY, DataConfig(), tmp_path / "cache")
    assert "--fps" not in str(raised.value)


def test_video_files_bring_their_frame_rate(tmp_path: Path) -> None:
    (tmp_path / "footage").mkdir()
    for clip in ("01", "02"):
        _write_video(tmp_path / "footage" / f"{clip}.avi", levels=range(0, 200, 20), fps=5)
    footage = cache_footage(str(tmp_path / "footage"), GREY, DataConfig(), tmp_path / "cache")
    assert footage.fps == 5
    assert [clip.segment.name for clip in (*footage.training, *footage.held_out)] == ["01", "02"]
    assert footage.training[0].frames.mean(axis=(1, 2, 3)).tolist() == pytest.approx(list(range(0, 200, 20)), abs=3)


def test_videos_of_different_frame_rates_are_refused(tmp_path: Path) -> None:
    (tmp_path / "footage").mkdir()
    for clip, fps in (("01", 5), ("02", 10)):
        _write_video(tmp_path / "footage" / f"{clip}.avi", levels=range(5), fps=fps)
    with raises(ConfigError, "[5.0, 10.0]"):
        cache_footage(str(tmp_path / "footage"), GREY, DataConfig(), tmp_path / "cache")


def test_a_short_clip_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for clip, frames in (("01", 5), ("02", 5), ("03", 2)):
        _write_images(tmp_path / "footage" / clip, [(0, 0, 0)] * frames)
    footage = cache_footage(str(tmp_path / "footage"), GREY, DataConfig(fps=10), tmp_path / "cache")
    assert [clip.segment.name for clip in footage.training] == ["01"]
    assert missing(caplog.messages[0], "03 … 2 … 3") == []


def test_a_short_clip_where_the_held_out_one_would_be_is_no_reason_to_refuse_the_others(tmp_path: Path) -> None:
    for clip, frames in (("01", 5), ("02", 5), ("03", 2), ("04", 5)):
        _write_images(tmp_path / "footage" / clip, [(0, 0, 0)] * frames)
    footage = cache_footage(str(tmp_path / "footage"), GREY, DataConfig(fps=10), tmp_path / "cache")
    assert [clip.segment.name for clip in footage.training] == ["01", "04"]
    assert [clip.segment.name for clip in footage.held_out] == ["02"]


def test_of_the_only_clip_that_is_long_enough_the_end_is_held_out(tmp_path: Path) -> None:
    for clip, frames in (("01", 2), ("02", 20)):
        _write_images(tmp_path / "footage" / clip, [(0, 0, 0)] * frames)
    footage = cache_footage(str(tmp_path / "footage"), GREY, DataConfig(fps=10), tmp_path / "cache")
    assert [clip.segment.name for clip in (*footage.training, *footage.held_out)] == ["02[0:16]", "02[16:20]"]


def test_only_short_clips_are_an_error(tmp_path: Path) -> None:
    for clip in ("01", "02"):
        _write_images(tmp_path / "footage" / clip, [(0, 0, 0)] * 2)
    with raises(ConfigError, "clips … 3 … 2"):
        cache_footage(str(tmp_path / "footage"), GREY, DataConfig(fps=10), tmp_path / "cache")


def test_a_single_clip_whose_end_is_shorter_than_a_window_is_an_error(tmp_path: Path) -> None:
    _write_images(tmp_path / "01", [(0, 0, 0)] * 8)
    with raises(ConfigError, "held-out … 3 … 2"):
        cache_footage(str(tmp_path / "01"), GREY, DataConfig(fps=10), tmp_path / "cache")


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("clips=2&frames=89", "synthetic-01 … 5.9 s … 89 … 15 … 6 s"),
        ("frames=180", "2.4 s … 36 … 15 … 30 s … 6 s"),
    ],
)
def test_where_no_bundle_can_come_of_it_the_log_says_so_with_figures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: str, wanted: str
) -> None:
    cache_footage(f"{SCENE}&{data}", GREY, DataConfig(), tmp_path)
    [message] = caplog.messages
    assert missing(message, "WARNING … make bundle", wanted) == []


@pytest.mark.parametrize("data", ["clips=2&frames=90", "frames=450"])
def test_six_seconds_held_out_are_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture, data: str) -> None:
    cache_footage(f"{SCENE}&{data}", GREY, DataConfig(), tmp_path)
    assert caplog.messages == []


def test_missing_footage_is_a_source_error(tmp_path: Path) -> None:
    with raises(SourceOpenError, str(tmp_path / "nowhere")):
        cache_footage(str(tmp_path / "nowhere"), GREY, DataConfig(), tmp_path / "cache")


def test_the_cache_is_reused(tmp_path: Path) -> None:
    source = "synthetic:?clips=2&frames=5&anomalies=off&width=64&height=48"
    first = cache_footage(source, GREY, DataConfig(), tmp_path)
    before = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    again = cache_footage(source, GREY, DataConfig(), tmp_path)
    assert {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before
    assert len(before) == 4  # two clips and where their gaps are
    assert np.array_equal(first.training[0].frames, again.training[0].frames)


def test_the_cache_keeps_sizes_apart(tmp_path: Path) -> None:
    source = "synthetic:?clips=2&frames=5&anomalies=off&width=64&height=48"
    cache_footage(source, GREY, DataConfig(), tmp_path)
    footage = cache_footage(source, COLOUR, DataConfig(), tmp_path)
    assert footage.training[0].frames.shape == (5, 3, 8, 16)
    assert len(list(tmp_path.glob("*.u8"))) == 4


def test_segments_load_as_the_cache_has_them(tmp_path: Path) -> None:
    footage = cache_footage("synthetic:?frames=20&anomalies=off&width=64&height=48", GREY, DataConfig(), tmp_path)
    [held_out] = footage.held_out
    [loaded] = load_segments([held_out.segment], GREY, footage.fps)
    assert held_out.segment.start == 16
    assert np.array_equal(loaded.frames, held_out.frames)


def test_footage_that_became_shorter_is_a_source_error(tmp_path: Path) -> None:
    video = tmp_path / "01.avi"
    _write_video(video, levels=range(20), fps=5)
    footage = cache_footage(str(video), GREY, DataConfig(), tmp_path / "cache")
    segments = [clip.segment for clip in footage.held_out]
    for frames, found in ((18, 2), (5, 0)):
        _write_video(video, levels=range(frames), fps=5)
        with raises(SourceError, str(video), f"16 … 19 … {found}"):
            load_segments(segments, GREY, footage.fps)


def test_what_killed_trainings_left_half_decoded_goes_away(tmp_path: Path) -> None:
    cache_footage(f"{SCENE}&clips=2&frames=5", GREY, DataConfig(), tmp_path)
    whole = sorted(tmp_path.iterdir())
    for path in (whole[0], tmp_path / "footage-as-it-was-16x8x1.u8"):
        path_beside(path).write_bytes(b"half")
    cache_footage(f"{SCENE}&clips=2&frames=5", GREY, DataConfig(), tmp_path)
    assert sorted(tmp_path.iterdir()) == whole


def test_a_cache_that_cannot_be_made_is_a_sink_error(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with raises(SinkError, str(tmp_path / "cache")):
        cache_footage(f"{SCENE}&clips=2&frames=5", GREY, DataConfig(), tmp_path / "cache")


def test_places_are_compared_however_they_are_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "single").mkdir()
    (tmp_path / "link").symlink_to("single")
    for other in ("single/", "./single", "gate/../single", str(tmp_path / "single"), "link"):
        assert is_same_place("single", other)
    assert not is_same_place("single", "singles")
    assert is_same_place(SCENE, SCENE)
    assert not is_same_place(SCENE, f"{SCENE}/")


def _clip(name: str, frames: int, first: int = 0) -> CachedClip:
    """Every frame has the level of its number."""
    levels = np.arange(first, first + frames, dtype=np.uint8)
    return CachedClip(Segment(name, name, 0, frames), levels[:, None, None, None].repeat(8, 2).repeat(16, 3))


def _levels(windows: torch.Tensor) -> list:
    """Back from [−1, 1] to the level of each frame, which is all alike."""
    return ((windows[..., 0, 0, 0] + 1) * 127.5).round().int().tolist()


def _order(windows: Windows, seed: list[int]) -> list[int]:
    batches = windows.batches(8, np.random.default_rng(seed))
    return [first for batch in batches for first, _ in _levels(batch.window)]


def _write_images(folder: Path, colours: list[tuple[int, int, int]]) -> None:
    folder.mkdir(parents=True)
    for i, colour in enumerate(colours):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((24, 32, 3), colour, np.uint8))


def _write_video(path: Path, levels: range, fps: float) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (32, 24))
    for level in levels:
        writer.write(np.full((24, 32, 3), level, np.uint8))
    writer.release()
