from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from edge_runtime.errors import SinkError
from edge_runtime.score import Event, EventKind, Latency, Score
from edge_runtime.sinks import Sink
from edge_runtime.sinks.tables.csv_table import CsvSink
from edge_runtime.sinks.tables.jsonl import JsonLinesSink, read_scores
from tests.kit.scores import make_score, make_step
from tests.kit.wording import raises


def written(path: Path, *scores: Score | None) -> list[dict[str, str]]:
    sink: Sink = CsvSink(path)
    for score in scores:
        sink.write_step(make_step(score))
    sink.close()
    return rows(path)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines, strict=True))


def test_a_scored_frame_is_a_row_of_flat_columns(tmp_path: Path) -> None:
    latency = Latency(1, 2, 3, 4, 5, 6, 21)
    (row,) = written(tmp_path / "scores.csv", make_score(7, 1.5, latency_ms=latency, truth=True))
    assert row == {
        "stream": "gate",
        "frame": "7",
        "time_s": "0.28",
        "wall_time_s": "1000000000.28",
        "score": "1.5",
        "threshold": "3.0",
        "is_anomalous": "false",
        "psnr_db": "27.5",
        "local_error": "0.01",
        "query_distance": "0.02",
        "regular_score": "0.03",
        "memory_updated": "true",
        "latency_ms_grab": "1",
        "latency_ms_preprocess": "2",
        "latency_ms_encoder": "3",
        "latency_ms_memory": "4",
        "latency_ms_decoder": "5",
        "latency_ms_sinks": "6",
        "latency_ms_total": "21",
        "truth": "true",
        "extra_drift": "0.5",
    }


def test_it_holds_every_fact_of_the_json_lines(tmp_path: Path) -> None:
    score = make_score(3, truth=False, distances={"motion": 1.5, "shape": 0.5}, latency_ms=Latency(total=4.5))
    lines = JsonLinesSink(tmp_path / "scores.jsonl")
    lines.write_step(make_step(score))
    lines.close()
    (line,) = read_scores(tmp_path / "scores.jsonl")
    flat = {f"{name}_{part}": fact for name in ("latency_ms", "extra") for part, fact in line.pop(name).items()}
    (row,) = written(tmp_path / "scores.csv", score)
    assert {name: "" if fact is None else str(fact).lower() for name, fact in (line | flat).items()} == {
        name: cell.lower() for name, cell in row.items()
    }


def test_what_is_unknown_or_no_number_is_an_empty_cell(tmp_path: Path) -> None:
    (row,) = written(
        tmp_path / "scores.csv",
        make_score(0, query_distance=None, psnr_db=np.float32("nan"), score=float("inf"), local_error=np.float32(0.5)),
    )
    assert (row["query_distance"], row["psnr_db"], row["score"], row["truth"], row["local_error"]) == ("", "", "", "", "0.5")


def test_the_header_stands_once_and_events_and_unscored_frames_not_at_all(tmp_path: Path) -> None:
    sink = CsvSink(tmp_path / "scores.csv")
    sink.write_event(Event(EventKind.GAP, "gate", 0, 0.0, 0.0, {"reason": "start"}))
    for score in (None, make_score(4), make_score(5)):
        sink.write_step(make_step(score))
    sink.close()
    lines = (tmp_path / "scores.csv").read_bytes().split(b"\n")
    assert [line.split(b",")[1] for line in lines[:-1]] == [b"frame", b"4", b"5"] and lines[-1] == b""


def test_a_run_without_scores_leaves_a_header(tmp_path: Path) -> None:
    assert written(tmp_path / "scores.csv", None) == []
    assert (tmp_path / "scores.csv").read_text().startswith("stream,frame,")


def test_a_name_with_commas_quotes_and_umlauts_comes_back(tmp_path: Path) -> None:
    (row,) = written(tmp_path / "scores.csv", make_score(0, stream='gate, "süd"'))
    assert row["stream"] == 'gate, "süd"'


def test_extra_columns_are_those_of_the_first_row(tmp_path: Path) -> None:
    first, second = written(tmp_path / "scores.csv", make_score(0), make_score(1, distances={"motion": 1.5, "shape": 0.5}, memory=None))
    assert first["extra_drift"] == "0.5" and second["extra_drift"] == "" and first.keys() == second.keys()


def test_a_killed_run_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    program = f"""
import os, signal
from pathlib import Path
from tests.kit.scores import make_score, make_step
from edge_runtime.sinks.tables.csv_table import CsvSink
sink = CsvSink(Path({str(path)!r}))
for index in range(100):
    sink.write_step(make_step(make_score(index, query_distance=None)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[5]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == -signal.SIGKILL
    assert path.read_bytes().endswith(b"\n")
    assert [row["frame"] for row in rows(path)] == [str(index) for index in range(100)]


def test_a_disk_that_fills_up_leaves_whole_rows(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from pathlib import Path
from edge_runtime.errors import SinkError
from tests.kit.scores import make_score, make_step
from edge_runtime.sinks.tables.csv_table import CsvSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sink = CsvSink(Path(sys.argv[1]))
try:
    for index in range(100):
        sink.write_step(make_step(make_score(index, query_distance=None)))
except SinkError:
    sink.close()
    sys.exit(7)
"""
    path = tmp_path / "scores.csv"
    root = Path(__file__).parents[5]
    finished = subprocess.run([sys.executable, "-c", program, str(path)], cwd=root, check=False, capture_output=True, text=True)
    assert finished.returncode == 7, finished.stderr
    assert 500 < path.stat().st_size <= 1000 and path.read_bytes().endswith(b"\n")
    assert all(row["memory_updated"] == "false" for row in rows(path))
    assert os.listdir(tmp_path) == [path.name]


def test_a_missing_folder_is_a_sink_error(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "scores.csv"
    with raises(SinkError, f"{path} … 'No such file or directory' … folder {path.parent}"):
        CsvSink(path)
