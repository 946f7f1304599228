"""Recording footage: where clips end, what the folder keeps, what a glance sees, what the verdict says."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.errors import ConfigError, SinkError, SourceStalled
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.recording.camera_rate import RateMeter, rate_to_record
from edge_runtime.recording.clip_file import ClipFile
from edge_runtime.recording.folder import ClipRow, RecordingFolder
from edge_runtime.recording.glance import Glance, GlanceMeter
from edge_runtime.recording.intake import Intake
from edge_runtime.recording.recorder import Recorder, Wish, limit_reached
from edge_runtime.recording.verdict import described, warnings_about
from edge_runtime.score import Event, EventKind
from edge_runtime.sinks.video.h264 import H264Settings, Mp4File
from edge_runtime.sources import SourceHealth
from edge_runtime.sources.footage import read_clip
from edge_runtime.sources.footage.clips import list_clips
from tests.kit.drawn_footage import draw
from tests.kit.wording import missing, raises

pytest.importorskip("av")

FPS = 10.0
START_S = 1_800_000_000.0  # 2027-01-15T08:00:00Z
NAME = "20270115T080000Z"
IMAGES = draw(40)
START = Gap(GapKind.START, "start")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RecordingFolder]:
    opened = RecordingFolder(tmp_path / "footage")
    yield opened
    opened.close()


def frame(index: int, *, time_s: float | None = None, gap: Gap | None = None, image: np.ndarray | None = None) -> Frame:
    """The index-th frame of a camera with ten a second."""
    time_s = index / FPS if time_s is None else time_s
    return Frame(IMAGES[index % len(IMAGES)] if image is None else image, index, time_s, START_S + time_s, gap=gap)


def recorder_to(folder: RecordingFolder, *, minutes: float = 1.0, **wish: float) -> Recorder:
    return Recorder(folder, Wish(minutes=minutes, least_free_mb=0, **wish), FPS, source="camera:0")  # type: ignore[arg-type]


def lengths(folder: RecordingFolder) -> list[int]:
    """Frames of each clip, counted by reading them as training does; the folder must say the same."""
    read = [sum(1 for _ in read_clip(clip)) for clip in list_clips(folder.path)]
    assert read == [row.frames for row in folder.rows]
    return read


def test_a_clip_is_as_long_as_wished_and_no_frame_is_lost_between_two(folder: RecordingFolder) -> None:
    recorder = recorder_to(folder, minutes=1, clip_minutes=3 / 60)
    for index in range(75):
        recorder.take(frame(index))
    recorder.end_clip("interrupted")
    assert lengths(folder) == [30, 30]  # the last 1.5 s are too short
    assert [row.first_frame for row in folder.rows][:2] == [0, 30]
    assert [row.end for row in folder.rows][:2] == ["full length", "full length"]


def test_clips_are_named_after_their_start(folder: RecordingFolder) -> None:
    recorder = recorder_to(folder, clip_minutes=3 / 60)
    for index in range(60):
        recorder.take(frame(index))
    assert [clip.name for clip in list_clips(folder.path)] == [NAME, "20270115T080003Z"]
    assert [row.start_wall_time_s for row in folder.rows] == [START_S, START_S + 3]


@pytest.mark.parametrize(
    ("late", "reason"),
    [
        (frame(25, gap=Gap(GapKind.RECONNECT, "reconnect after 3.0 s")), "3.0 s"),
        (frame(25, time_s=2.4 + 0.26), "0.26 s"),
        (frame(25, image=np.zeros((96, 128, 3), np.uint8)), "128x96 … 64x48"),
    ],
    ids=["gap", "late", "size"],
)
def test_a_clip_never_spans_a_gap(folder: RecordingFolder, late: Frame, reason: str) -> None:
    recorder = recorder_to(folder)
    for index in range(25):
        recorder.take(frame(index))
    recorder.take(late)
    for index in range(26, 50):
        recorder.take(replace(late, index=index, time_s=late.time_s + (index - 25) / FPS, gap=None))
    recorder.end_clip("interrupted")
    assert lengths(folder) == [25, 25]
    first, second = folder.rows
    assert not missing(first.end, reason) and second.end == "interrupted"


def test_one_missing_frame_is_no_gap(folder: RecordingFolder) -> None:
    recorder = recorder_to(folder)
    for index in range(30):
        recorder.take(frame(index, time_s=(index + (index >= 15)) / FPS))
    recorder.end_clip("interrupted")
    assert lengths(folder) == [30]


def test_a_piece_too_short_for_a_clip_is_dropped_and_said(folder: RecordingFolder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    recorder = recorder_to(folder)
    for index in range(19):
        recorder.take(frame(index))
    recorder.end_clip("source lost")
    assert recorder.dropped == 1
    assert [path.name for path in folder.path.iterdir()] == [".lock"]
    assert not missing(caplog.text, "1.9 s … source lost")


def test_the_end_is_at_the_wished_length_and_never_in_a_piece_too_short(folder: RecordingFolder) -> None:
    recorder = recorder_to(folder, minutes=7 / 60, clip_minutes=3 / 60)
    taken = 0
    while recorder.ended_by is None:
        recorder.take(frame(taken))
        taken += 1
    assert lengths(folder) == [30, 40]
    assert limit_reached(folder, Wish(minutes=7 / 60)) == recorder.ended_by
    assert limit_reached(folder, Wish(minutes=10 / 60)) is None


def test_the_folder_is_capped(folder: RecordingFolder) -> None:
    noise = np.random.default_rng(0)
    recorder = recorder_to(folder, max_mb=1.0)
    for index in range(400):
        if recorder.ended_by is None:
            recorder.take(frame(index, image=noise.integers(0, 255, (96, 128, 3), dtype=np.uint8)))
    assert recorder.ended_by == limit_reached(folder, Wish(max_mb=1.0))
    assert not missing(str(recorder.ended_by), "1 MB … --max-mb")
    assert 1.0e6 <= folder.size_bytes < 1.6e6
    assert lengths(folder)


def test_a_disk_nearly_full_ends_it_after_the_clip_at_hand(folder: RecordingFolder) -> None:
    recorder = recorder_to(folder)
    for index in range(25):
        recorder.take(frame(index))
    recorder._wish = replace(recorder._wish, least_free_mb=1e12)  # as if the disk had filled up meanwhile
    for index in range(25, 29):
        recorder.take(frame(index))
    with raises(SinkError, "1e+12 MB"):
        recorder.take(frame(29))  # a look at the disk every second
    assert lengths(folder) == [30]


def test_noise_survives_and_odd_pictures_lose_a_line(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    images = [np.clip(128 + noise.normal(0, 4, (121, 161, 1)).repeat(3, 2), 0, 255).astype(np.uint8) for _ in range(30)]
    file = ClipFile(tmp_path / "clip.mp4", (161, 121), FPS)
    for image in images:
        file.write(image)
    assert list(tmp_path.glob("*.mp4")) == []
    file.finish()
    read = [image for image, _ in read_clip(list_clips(tmp_path)[0])]
    assert read[0].shape == (120, 160, 3)
    assert np.stack(read).std() > 0.9 * np.stack(images).std()


def test_a_folder_with_a_colon_in_its_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("12:30").mkdir()
    recorded = ClipFile(Path("12:30/clip.mp4"), (64, 48), FPS)
    annotated = Mp4File(Path("12:30/annotated.mp4"), H264Settings(64, 48, FPS, {}))
    for _ in range(3):
        recorded.write(np.zeros((48, 64, 3), np.uint8))
        annotated.encode(np.zeros((48, 64, 3), np.uint8))
    recorded.finish()
    annotated.finish()
    assert sorted(path.name for path in Path("12:30").iterdir()) == ["annotated.mp4", "clip.mp4"]


def test_a_killed_recording_leaves_nothing_that_counts(folder: RecordingFolder) -> None:
    kept = folder.path / ".someone-elses.part"
    kept.touch()
    recorder = recorder_to(folder)
    recorder.take(frame(0))
    assert len(list(folder.path.glob(f".{NAME}.*.part"))) == 1
    folder.close()
    with closing(RecordingFolder(folder.path)):
        assert {path.name for path in folder.path.iterdir()} == {kept.name, ".lock"}


def test_one_recording_at_a_time(folder: RecordingFolder) -> None:
    with raises(ConfigError, f"{folder.path} … another run"):
        RecordingFolder(folder.path)


def test_names_ascend_though_the_clock_was_set_back(folder: RecordingFolder) -> None:
    folder.rows.append(row(NAME))
    assert folder.path_for(START_S - 1e6).name == "20270115T080001Z.mp4"
    assert folder.path_for(START_S + 0.9).name == "20270115T080001Z.mp4"
    assert folder.path_for(START_S + 1.1).name == "20270115T080001Z.mp4"
    assert folder.path_for(START_S + 60).name == "20270115T080100Z.mp4"


def recorded(folder: RecordingFolder) -> Path:
    """Two clips of three seconds, and the folder closed."""
    recorder = recorder_to(folder, clip_minutes=3 / 60)
    for index in range(60):
        recorder.take(frame(index))
    folder.close()
    return folder.path


def test_what_was_seen_is_remembered(folder: RecordingFolder) -> None:
    with closing(RecordingFolder(recorded(folder))) as again:
        assert again.rows == folder.rows
        assert again.seconds == pytest.approx(6)
        assert again.frames_taken_from("camera:0") == 60
        assert again.frames_taken_from("camera:1") == 0
        totals = json.loads((again.path / "recording.json").read_text())["totals"]
        assert totals == {"clips": 2, "frames": 60, "seconds": again.seconds, "size_bytes": again.size_bytes}


def test_a_clip_that_was_removed_does_not_count(folder: RecordingFolder) -> None:
    (recorded(folder) / f"{NAME}.mp4").unlink()
    with closing(RecordingFolder(folder.path)) as again:
        assert [row.name for row in again.rows] == ["20270115T080003Z"]


def test_clips_count_whatever_is_written_about_them(folder: RecordingFolder, caplog: pytest.LogCaptureFixture) -> None:
    (recorded(folder) / "recording.json").write_text("{")
    with closing(RecordingFolder(folder.path)) as again:
        assert [(row.frames, row.glance) for row in again.rows] == [(30, None), (30, None)]
    assert not missing(caplog.text, "recording.json … forgotten")


def test_a_broken_video_does_not_count_and_is_said(folder: RecordingFolder, caplog: pytest.LogCaptureFixture) -> None:
    (recorded(folder) / "broken.mp4").write_bytes(b"no video")
    with closing(RecordingFolder(folder.path)) as again:
        assert len(again.rows) == 2
    assert not missing(caplog.text, "broken.mp4")


def test_clips_of_two_rates_are_refused(folder: RecordingFolder) -> None:
    assert folder.fps is None
    folder.rows += [row("a"), replace(row("b"), fps=10.1)]
    assert folder.fps == 10.1
    folder.rows.append(replace(row("c"), fps=15))
    with raises(ConfigError, "frame rate"):
        _ = folder.fps


@pytest.mark.parametrize("wish", [{"minutes": 0}, {"minutes": float("nan")}, {"clip_minutes": 0.01}, {"max_mb": 0}, {"crf": 60}])
def test_an_impossible_wish_is_refused(wish: dict[str, float]) -> None:
    with raises(ConfigError, f"--{next(iter(wish)).replace('_', '-')}"):
        Wish(**wish)  # type: ignore[arg-type]


def glance_at(images: list[np.ndarray]) -> Glance:
    meter = GlanceMeter(FPS)
    for image in images:
        meter.look(image)
    return meter.result()


def with_noise(image: np.ndarray, levels: float, count: int = 30) -> list[np.ndarray]:
    noise = np.random.default_rng(0)
    return [np.clip(image + noise.normal(0, levels, (*image.shape[:2], 1)), 0, 255).astype(np.uint8) for _ in range(count)]


STILL = draw(1, width=320, height=240)[0]


def test_walkers_move_and_the_camera_stands() -> None:
    glance = glance_at(draw(30, width=320, height=240))
    assert glance.moving_share > 0.9
    assert (glance.shaking_share, glance.repeated_share) == (0, 0)


@pytest.mark.parametrize("levels", [2, 5, 12])
def test_noise_is_no_motion(levels: float) -> None:
    glance = glance_at(with_noise(STILL, levels))
    assert (glance.moving_share, glance.shaking_share, glance.repeated_share) == (0, 0, 0)


def test_a_lamp_that_flickers_is_no_motion() -> None:
    flat = np.full((240, 320, 3), 100, np.uint8)
    images = [image + np.uint8(20 * (index % 2)) for index, image in enumerate(with_noise(flat, 3))]
    assert glance_at(images).moving_share == 0


def test_a_camera_that_shakes_moves_everything() -> None:
    noise = np.random.default_rng(0)
    shifts = noise.normal(0, 5, (30, 2))
    images = [cv2.warpAffine(STILL, np.float32([[1, 0, x], [0, 1, y]]), (320, 240), borderMode=cv2.BORDER_REFLECT) for x, y in shifts]
    assert glance_at(images).shaking_share > 0.8


def test_a_frozen_picture_repeats() -> None:
    assert glance_at([STILL] * 30).repeated_share == 1


def test_light_is_measured_before_anything_is_averaged() -> None:
    half = np.zeros((240, 320, 3), np.uint8)
    half[120:] = 255
    glance = glance_at([half])
    assert (glance.mean_luminance, glance.black_share, glance.white_share) == (127.5, 0.5, 0.5)


def test_a_faster_camera_is_looked_at_as_often() -> None:
    fast, slow = GlanceMeter(30), GlanceMeter(10)
    for index, image in enumerate(IMAGES[:30]):
        fast.look(image)
        if index % 3 == 0:
            slow.look(image)
    assert fast.result() == slow.result()


def test_a_rate_is_measured_after_the_burst_and_without_pauses() -> None:
    meter = RateMeter()
    times_s = [0, 5, 5.01, 5.02, *np.arange(5.1, 9, 0.1)]
    rates = [meter.look(frame(index, time_s=time_s, gap=START if index == 1 else None)) for index, time_s in enumerate(times_s)]
    first = next(index for index, rate in enumerate(rates) if rate is not None)
    assert times_s[first] >= 8
    assert rates[first] == pytest.approx(10)


@pytest.mark.parametrize(
    ("measured", "wanted", "declared", "rate"),
    [
        (9.8, 10, 30, 10),  # as wanted
        (29.7, None, 29.97, 29.97),  # as it says
        (9.93, None, 25, 10),  # it says something else
        (14.2, None, None, 15),
        (40.0, None, None, 40),  # none that is common
    ],
)
def test_the_rate_is_the_wanted_one_or_the_true_one(measured: float, wanted: float | None, declared: float | None, rate: float) -> None:
    assert rate_to_record("camera:0", measured, wanted=wanted, declared=declared) == rate


def test_a_camera_slower_than_wanted_is_refused() -> None:
    with raises(ConfigError, "30 … 14.9 … --fps 15"):
        rate_to_record("camera:0", 14.9, wanted=30, declared=30)


class Scripted:
    """A camera that gives what it was told, one thing a poll, and then fails."""

    uri, stream, fps, frame_count, is_live = "camera:0", "camera-0", FPS, None, True

    def __init__(self, items: list[Frame | Event]) -> None:
        self._items = iter(items)

    def poll(self, timeout_s: float) -> Frame | Event | None:
        try:
            return next(self._items)
        except StopIteration:
            raise SourceStalled("camera:0: the driver hangs.") from None

    def __iter__(self) -> Iterator[Frame]:
        return (item for item in self._items if isinstance(item, Frame))

    def health(self) -> SourceHealth:
        return SourceHealth(self.uri, "reading")

    def close(self) -> None:
        """Nothing is open."""


def taken_late(items: list[Frame | Event], most_bytes: int) -> tuple[list[Frame | Event], Intake]:
    """What an intake still holds of a camera when nobody asked while it lasted."""
    intake = Intake(Scripted(items), most_bytes)
    intake.start()
    intake.join()
    taken: list[Frame | Event] = []
    with pytest.raises(SourceStalled):
        _drain(intake, taken)
    return taken, intake


def _drain(intake: Intake, taken: list[Frame | Event]) -> None:
    while (item := intake.take(0)) is not None:
        taken.append(item)


def test_an_intake_holds_what_comes_while_the_encoder_is_busy() -> None:
    lost = Event(EventKind.SOURCE_LOST, "camera-0", 3, 0.3, START_S)
    items = [frame(0, gap=START), frame(1), frame(2), lost, frame(3, gap=Gap(GapKind.RECONNECT, "reconnect"))]
    taken, _ = taken_late(items, most_bytes=10 * IMAGES[0].nbytes)
    assert [item.index if isinstance(item, Frame) else item.event for item in taken] == [0, 1, 2, "source_lost", 3]
    assert [item.gap and item.gap.text for item in taken if isinstance(item, Frame)] == ["start", None, None, "reconnect"]


def test_an_intake_is_bounded_and_says_what_is_missing() -> None:
    taken, intake = taken_late([frame(index) for index in range(5)], most_bytes=2 * IMAGES[0].nbytes)
    assert [item.index for item in taken if isinstance(item, Frame)] == [0, 1]
    intake._put(frame(5))
    late = intake.take(0)
    assert isinstance(late, Frame)
    assert late.gap is not None and late.gap.kind is GapKind.NOT_TAKEN


GOOD = Glance(mean_luminance=110, black_share=0.01, white_share=0.01, moving_share=0.4, shaking_share=0.0, repeated_share=0.0)


def row(name: str = NAME, glance: Glance | None = GOOD, **changes: object) -> ClipRow:
    """A clip of five minutes."""
    clip = ClipRow(name, 3000, 300.0, FPS, (640, 480), 9_000_000, "camera:0", START_S, 0, FPS, "full length", glance)
    return replace(clip, **changes)  # type: ignore[arg-type]


def test_good_footage_has_no_warnings() -> None:
    rows = [row(), row("b", end="source lost"), row("c", glance=None)]
    assert warnings_about(rows, health=SourceHealth("camera:0", "closed")) == []
    assert not missing(described(rows), "15.0 minutes … 3 clips … 27.0 MB … 640x480 … 10 … 10.0 to 10.0 … 110 of 255 … 40%")
    assert not re.search(r"\d", described([]))
    assert warnings_about([]) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mean_luminance": 12}, "dark … 12 of 255"),
        ({"mean_luminance": 240}, "bright … 240 of 255"),
        ({"white_share": 0.2}, "overexposed … 20%"),
        ({"black_share": 0.6}, "underexposed … 60%"),
        ({"moving_share": 0.0}, "nothing … 5.0 minutes"),
        ({"moving_share": 0.01}, "moves … 3 s … 5.0 minutes"),
        ({"shaking_share": 0.5}, "moves … 50%"),
        ({"repeated_share": 0.9, "moving_share": 0.0}, "frozen … 90%"),
    ],
)
def test_what_a_glance_shows_is_warned_about(changes: dict[str, float], words: str) -> None:
    [warning] = warnings_about([row(glance=replace(GOOD, **changes))])
    assert not missing(warning, words)
    assert warning.endswith(".")


def test_longer_clips_weigh_more() -> None:
    dark = replace(GOOD, mean_luminance=20)
    assert warnings_about([row(), row("b", dark, seconds=30.0)]) == []
    assert "too dark" in warnings_about([row(seconds=30.0), row("b", dark)])[0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(), row("b", size_px=(320, 240))], "320x240, 640x480"),
        ([row(), row("b", fps=15.0, measured_fps=15.0)], "frame rates"),
        ([row(), row("b", measured_fps=7.0)], "rate … b … speed"),
    ],
)
def test_clips_that_do_not_belong_together_are_warned_about(rows: list[ClipRow], words: str) -> None:
    [warning] = warnings_about(rows)
    assert not missing(warning, words)


def test_a_bad_line_is_warned_about() -> None:
    lost = SourceHealth("camera:0", "closed", losses=2, down_s=31.0)
    [warning] = warnings_about([row()], health=lost)
    assert not missing(warning, "lost twice … 31 s")
    [warning] = warnings_about([row(end="no frame for 0.40 s")], health=SourceHealth("camera:0", "closed"), dropped=5)
    assert not missing(warning, "6 gaps … 5 pieces")


def test_a_camera_that_repeats_itself_is_warned_about() -> None:
    [warning] = warnings_about([row()], health=SourceHealth("camera:0", "closed", frames=1000, filler=400))
    assert not missing(warning, "400 … 1000 pictures")
    assert warnings_about([row()], health=SourceHealth("camera:0", "closed", frames=1000, filler=40)) == []
