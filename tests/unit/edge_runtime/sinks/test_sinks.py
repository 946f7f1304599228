from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.commands.output_flags import check_output_flags
from edge_runtime.errors import BackendUnavailable, ConfigError, SinkError
from edge_runtime.files import remove_leftovers
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.score import Event, EventKind, Latency, Score, Step
from edge_runtime.sinks import Sink
from edge_runtime.sinks.tables.jsonl import JsonLinesSink, read_scores
from edge_runtime.sinks.tables.timeline import draw_timeline
from edge_runtime.sinks.video.annotated_video import AnnotatedVideoSink
from tests.kit.scores import make_score, make_step
from tests.kit.wording import raises

KEYS = [
    *("stream", "frame", "time_s", "wall_time_s", "score", "threshold", "is_anomalous", "psnr_db", "local_error"),
    *("query_distance", "regular_score", "memory_updated", "latency_ms"),
]
STAGES = ["grab", "preprocess", "encoder", "memory", "decoder", "sinks", "total"]


def event_of(kind: str, index: int, **detail: float | int | str) -> Event:
    return Event(EventKind(kind), "gate", index, index / 25, 1e9 + index / 25, detail)


def frame_of(index: int, height: int = 48, width: int = 64, grey: int = 128) -> Frame:
    return Frame(np.full((height, width, 3), grey, np.uint8), index, index / 25, 1e9 + index / 25, "gate")


# scores.jsonl


def written(path: Path, *results: Score | Event | None) -> list[dict[str, Any]]:
    sink = JsonLinesSink(path)
    for result in results:
        if isinstance(result, Event):
            sink.write_event(result)
        else:
            sink.write_step(make_step(result))
    sink.close()
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def test_a_scored_frame_has_exactly_the_promised_keys(tmp_path: Path) -> None:
    (row,) = written(tmp_path / "scores.jsonl", make_score(7, latency_ms=Latency(1, 2, 3, 4, 5, 6, 21)))
    assert list(row) == [*KEYS, "extra"] and row["extra"] == {"drift": 0.5}
    assert row["latency_ms"] == dict(zip(STAGES, (1, 2, 3, 4, 5, 6, 21), strict=True))
    assert (row["stream"], row["frame"], row["time_s"], row["memory_updated"]) == ("gate", 7, 0.28, True)


def test_truth_and_extra_are_written_only_where_there_are_any(tmp_path: Path) -> None:
    known, more = written(
        tmp_path / "scores.jsonl", make_score(query_distance=None, truth=False), make_score(distances={"motion": 0.5, "shape": 0.25})
    )
    assert set(known) - set(KEYS) == {"truth"} and known["truth"] is False
    assert set(more) - set(KEYS) == {"extra"} and more["query_distance"] == 0.375
    assert more["extra"] == {"query_distance/motion": 0.5, "query_distance/shape": 0.25, "drift": 0.5}


def test_a_model_without_memory_has_a_null_distance(tmp_path: Path) -> None:
    (row,) = written(tmp_path / "scores.jsonl", make_score(0, query_distance=None))
    assert (row["query_distance"], row["memory_updated"]) == (None, False)


def test_an_event_line_carries_its_details_beside_the_others(tmp_path: Path) -> None:
    (row,) = written(tmp_path / "scores.jsonl", event_of("gap", 50, reason="next clip 02"))
    assert row == {
        "event": "gap",
        "stream": "gate",
        "frame": 50,
        "time_s": 2.0,
        "wall_time_s": 1e9 + 2.0,
        "reason": "next clip 02",
    }


def test_frames_without_a_score_are_not_written(tmp_path: Path) -> None:
    assert written(tmp_path / "scores.jsonl", None, None) == []


def test_numpy_numbers_are_written_and_what_is_not_a_number_becomes_null(tmp_path: Path) -> None:
    (row,) = written(
        tmp_path / "scores.jsonl",
        make_score(0, psnr_db=np.float32(27.5), local_error=np.float64("nan"), score=float("inf")),
    )
    assert (row["psnr_db"], row["local_error"], row["score"]) == (27.5, None, None)


def test_a_new_run_starts_a_fresh_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    written(path, make_score(0), make_score(1))
    assert [row["frame"] for row in written(path, make_score(9))] == [9]


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    program = f"""
import os, signal
from pathlib import Path
from edge_runtime.score import Event, EventKind
from edge_runtime.sinks.tables.jsonl import JsonLinesSink
sink = JsonLinesSink(Path({str(path)!r}))
for index in range(100):
    sink.write_event(Event(EventKind.GAP, "gate", index, 0.0, 0.0))
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[4]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == -signal.SIGKILL
    assert path.read_bytes().endswith(b"\n")
    assert [row["frame"] for row in read_scores(path)] == list(range(100))


def test_a_cut_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    written(path, make_score(0), make_score(1))
    path.write_bytes(path.read_bytes()[:-20])
    assert [row["frame"] for row in read_scores(path)] == [0]


def test_a_broken_line_before_the_last_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text('{"frame": 0}\n{"fra\n{"frame": 2}\n')
    with raises(SinkError, f"{path}, line 2 … JSON"):
        list(read_scores(path))


def test_a_missing_folder_is_a_sink_error(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "scores.jsonl"
    with raises(SinkError, f"{path} … 'No such file or directory' … folder {path.parent}"):
        JsonLinesSink(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_a_sink_error() -> None:
    sink = JsonLinesSink(Path("/dev/full"))
    with raises(SinkError, "/dev/full … 'No space left on device'"):
        sink.write_step(make_step(make_score(0)))
    sink.close()


def test_a_line_of_which_only_a_part_finds_room_is_dropped_with_the_systems_reason(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = JsonLinesSink(path)
    sink.write_step(make_step(make_score(0)))
    length = path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (length + 100, limits[1]))  # a file may grow so far, as on a disk that fills
    try:
        with raises(SinkError, f"{path} … 'File too large'"):
            sink.write_step(make_step(make_score(1)))
        assert path.stat().st_size == length
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    sink.write_step(make_step(make_score(2)))
    sink.close()
    assert [row["frame"] for row in read_scores(path)] == [0, 2]


# annotated.mp4


@pytest.fixture
def av() -> Any:
    return pytest.importorskip("av")


def film(path: Path, frames: list[Frame], scores: list[Score | None] | None = None, error: float = 0.0) -> None:
    sink: Sink = AnnotatedVideoSink(path, fps=25)
    for position, frame in enumerate(frames):
        score = scores[position] if scores else make_score(frame.index)
        sink.write_step(make_step(score and replace(score, error_map=np.full((16, 16), error, np.float32)), frame))
    sink.close()


def pictures(av: Any, path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def test_the_video_is_what_a_browser_plays(av: Any, tmp_path: Path) -> None:
    path = tmp_path / "annotated.mp4"
    film(path, [frame_of(index) for index in range(12)], [None] * 4 + [make_score(index) for index in range(4, 12)])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 25
        assert stream.codec_context.width == 64 * 8  # the smallest multiple of 64 from 480 on
        assert stream.codec_context.height > 48 * 8 and stream.codec_context.height % 2 == 0
        assert sum(1 for _ in container.decode(video=0)) == 12
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # playable before it is loaded
    assert os.listdir(tmp_path) == [path.name]


def test_odd_and_large_pictures_get_an_even_size_of_at_most_1280(av: Any, tmp_path: Path) -> None:
    film(tmp_path / "odd.mp4", [frame_of(0, 361, 481)])
    film(tmp_path / "large.mp4", [frame_of(0, 1080, 1920)])
    odd, large = pictures(av, tmp_path / "odd.mp4")[0], pictures(av, tmp_path / "large.mp4")[0]
    assert odd.shape[1] == 480 and odd.shape[0] % 2 == 0
    assert large.shape[1] == 1280 and large.shape[0] > 720


def test_later_sizes_follow_the_first(av: Any, tmp_path: Path) -> None:
    film(tmp_path / "annotated.mp4", [frame_of(0), frame_of(1, 100, 200), frame_of(2, 30, 30)])
    shapes = {picture.shape for picture in pictures(av, tmp_path / "annotated.mp4")}
    assert len(shapes) == 1


def test_an_alarm_has_a_red_border_and_a_normal_frame_none(av: Any, tmp_path: Path) -> None:
    film(tmp_path / "annotated.mp4", [frame_of(0), frame_of(1)], [make_score(0, 1.0), make_score(1, 5.0)])
    quiet, alarm = pictures(av, tmp_path / "annotated.mp4")
    blue, green, red = alarm[200, 1].astype(int)
    assert red > 180 and green < 110 and blue < 110
    assert np.abs(quiet[200, 1].astype(int) - 128).max() < 12


def test_the_heat_rises_with_the_error_and_leaves_quiet_frames_clear(av: Any, tmp_path: Path) -> None:
    for name, error in (("none", 0.0), ("quiet", 0.03**2), ("loud", 0.3**2)):
        film(tmp_path / f"{name}.mp4", [frame_of(0)], error=error)
    none, quiet, loud = (pictures(av, tmp_path / f"{name}.mp4")[0][200, 250].astype(int) for name in ("none", "quiet", "loud"))
    assert np.abs(quiet - none).max() < 10
    assert loud[2] - none[2] > 40  # redder


def test_every_frame_is_shown_once_with_its_own_score_where_it_has_one(av: Any, tmp_path: Path) -> None:
    frames = [frame_of(index, grey=40 + 5 * index) for index in range(20)]
    sink = AnnotatedVideoSink(tmp_path / "annotated.mp4", fps=25)
    for index, frame in enumerate(frames):
        first, target = 12 * (index >= 12), index - 3  # a gap before frame 12; a window of five frames, the second is scored
        gap = Gap(GapKind.LOOP, "loop") if index == 12 else None
        error_map = np.full((16, 16), 0.3**2 if target == 5 else 0.0, np.float32)
        score = make_score(target, 5.0 if target in (7, 8) else 1.0, error_map=error_map)
        sink.write_step(Step(frame, gap, frames[target], score) if target > first else Step(frame, gap))
    sink.close()
    shown = pictures(av, tmp_path / "annotated.mp4")
    blues = [float(picture[200, 256, 0]) for picture in shown]
    assert [index for index, picture in enumerate(shown) if picture[200, 256, 2] > blues[index] + 20] == [5]  # its heat is red
    assert np.abs(np.delete(blues, 5) - np.delete(40 + 5 * np.arange(20), 5)).max() < 3
    assert [index for index, picture in enumerate(shown) if picture[200, 1, 2] > 180] == [7, 8]  # their border is red


def test_a_video_that_is_being_written_is_no_leftover(av: Any, tmp_path: Path) -> None:
    path = tmp_path / "annotated.mp4"
    sink = AnnotatedVideoSink(path, fps=25)
    sink.write_step(make_step(make_score(0), frame_of(0)))
    remove_leftovers(path)
    sink.write_step(make_step(make_score(1), frame_of(1)))
    remove_leftovers(path)
    sink.close()
    assert len(pictures(av, path)) == 2
    assert os.listdir(tmp_path) == [path.name]


def test_the_video_has_no_name_before_it_is_complete(av: Any, tmp_path: Path) -> None:
    path = tmp_path / "annotated.mp4"
    sink = AnnotatedVideoSink(path, fps=25)
    sink.write_step(make_step(make_score(error_map=np.zeros((16, 16), np.float32))))
    assert not path.exists()
    sink.close()
    assert path.exists()


def test_without_frames_there_is_no_video(av: Any, tmp_path: Path) -> None:
    film(tmp_path / "annotated.mp4", [])
    assert os.listdir(tmp_path) == []


def test_a_video_in_a_missing_folder_is_a_sink_error_and_closes(av: Any, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "annotated.mp4"
    sink = AnnotatedVideoSink(path, fps=25)
    with raises(SinkError, f"{path} … 'No such file or directory' … folder {path.parent}"):
        sink.write_step(make_step(make_score()))
    sink.close()


def test_a_video_that_cannot_take_its_name_is_removed(av: Any, tmp_path: Path) -> None:
    (tmp_path / "annotated.mp4").mkdir()
    with pytest.raises(SinkError):
        film(tmp_path / "annotated.mp4", [frame_of(0)])
    assert os.listdir(tmp_path) == ["annotated.mp4"]


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, fps: float) -> None:
    with raises(ConfigError, f"annotated video … got {fps}"):
        AnnotatedVideoSink(tmp_path / "annotated.mp4", fps)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with raises(BackendUnavailable, "annotated video … pip install 'edge-runtime[video]'"):
        AnnotatedVideoSink(tmp_path / "annotated.mp4", 25)


# timeline.png


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") and content.rstrip().endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


@pytest.fixture
def matplotlib() -> Any:
    return pytest.importorskip("matplotlib")


def test_a_timeline_shows_a_run_with_alarm_gap_and_truth(matplotlib: Any, tmp_path: Path) -> None:
    scores: list[Score | Event] = [make_score(index, 4.0 if 40 <= index < 60 else 1.0, truth=index > 45) for index in range(100)]
    scores[60:60] = [event_of("alarm_end", 60, peak_score=4.0), event_of("gap", 60, reason="reconnect")]
    scores.insert(40, event_of("alarm_start", 40))
    written(tmp_path / "scores.jsonl", *scores)
    draw_timeline(tmp_path / "scores.jsonl", tmp_path / "timeline.png")
    assert png_size(tmp_path / "timeline.png") == (1200, 400)
    assert sorted(os.listdir(tmp_path)) == ["scores.jsonl", "timeline.png"]


@pytest.mark.parametrize("scored", [0, 1])
def test_a_timeline_of_next_to_nothing_is_drawn_too(matplotlib: Any, tmp_path: Path, scored: int) -> None:
    written(tmp_path / "scores.jsonl", event_of("gap", 0, reason="start"), *[make_score(0)] * scored)
    draw_timeline(tmp_path / "scores.jsonl", tmp_path / "timeline.png")
    assert png_size(tmp_path / "timeline.png") == (1200, 400)


def test_a_timeline_has_a_row_for_each_stream(matplotlib: Any, tmp_path: Path) -> None:
    written(tmp_path / "scores.jsonl", *(make_score(i, stream=("gate", "yard")[i % 2]) for i in range(10)))
    draw_timeline(tmp_path / "scores.jsonl", tmp_path / "timeline.png")
    assert png_size(tmp_path / "timeline.png") == (1200, 800)


def test_a_long_recording_keeps_its_peaks_in_few_columns() -> None:
    from edge_runtime.sinks.tables.timeline import _MOST_COLUMNS, _Recording

    recording = _Recording()
    for index in range(50_000):
        row = {"time_s": index / 25, "frame": index, "threshold": 3.0, "memory_updated": index % 4 == 0}
        recording.add_score({**row, "score": 9.0 if index == 31_415 else 1.0, "truth": index == 7})
    times, scores, _, _, truth, _, updated = recording.columns.T
    assert _MOST_COLUMNS / 2 <= len(times) <= _MOST_COLUMNS
    assert (np.diff(times) > 0).all() and times[-1] == 49_999 / 25
    assert scores.max() == 9.0 and (scores == 9.0).sum() == 1
    assert truth.sum() == 1
    assert updated.mean() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("event_first", [True, False])
def test_an_alarm_of_one_frame_is_marked_on_whichever_side_of_its_score_the_event_stands(event_first: bool) -> None:
    from edge_runtime.sinks.tables.timeline import _ALARM, _Recording

    recording = _Recording()
    row = {"time_s": 0.0, "frame": 0, "threshold": 3.0, "score": 5.0, "memory_updated": False}
    event = {"event": "alarm_start", "frame": 0}
    for line in [event, row] if event_first else [row, event]:
        (recording.add_event if "event" in line else recording.add_score)(line)
    recording.add_event({"event": "alarm_end", "frame": 1})
    recording.add_score({**row, "frame": 1})
    assert recording.alarms == 1
    assert recording.columns[:, _ALARM].tolist() == [1, 0]


def test_a_timeline_in_a_missing_folder_is_a_sink_error(matplotlib: Any, tmp_path: Path) -> None:
    written(tmp_path / "scores.jsonl", make_score(0))
    path = tmp_path / "nowhere" / "timeline.png"
    with raises(SinkError, f"{path} … 'No such file or directory' … folder {path.parent}"):
        draw_timeline(tmp_path / "scores.jsonl", path)


def test_a_timeline_of_a_missing_run_is_a_sink_error(matplotlib: Any, tmp_path: Path) -> None:
    with raises(SinkError, f"{tmp_path / 'scores.jsonl'} … 'No such file or directory'"):
        draw_timeline(tmp_path / "scores.jsonl", tmp_path / "timeline.png")


def test_without_matplotlib_the_extra_is_named_before_anything_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    plain = {"out": tmp_path, "save_video": False, "csv": False}
    check_output_flags(Namespace(timeline=False, **plain))
    with raises(BackendUnavailable, "plots … pip install 'edge-runtime[report]'"):
        check_output_flags(Namespace(timeline=True, **plain))
