"""A model that scores a frame inside its window: what came is shown and kept once, in order, also before a gap and at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime import Bundle, Detector, open_source
from edge_runtime.run.pipeline import Pipeline
from edge_runtime.sinks.events.event_clips import EventClipsSink
from edge_runtime.sinks.tables.jsonl import JsonLinesSink, read_scores
from edge_runtime.sinks.video.annotated_video import AnnotatedVideoSink

av: Any = pytest.importorskip("av")

CLIPS = (9, 7)  # frames of two clips, with a gap between
FPS = 10.0


@pytest.fixture
def results(toy: Callable[[str], Bundle], tmp_path: Path) -> Path:
    """Both clips through `two_banks`, which looks at four frames and scores the third; an alarm from the first score to the last."""
    index = 0
    for number, count in enumerate(CLIPS):
        (tmp_path / "footage" / str(number)).mkdir(parents=True)
        for _ in range(count):
            assert cv2.imwrite(
                str(tmp_path / "footage" / str(number) / f"{index:02d}.png"), np.full((96, 128, 3), grey_of(index), np.uint8)
            )
            index += 1
    detector = Detector.open(toy("two_banks"), threshold=-1.0)
    sinks = [
        AnnotatedVideoSink(tmp_path / "annotated.mp4", FPS),
        EventClipsSink(tmp_path / "events", FPS),
        JsonLinesSink(tmp_path / "scores.jsonl"),
    ]
    Pipeline(detector, open_source(str(tmp_path / "footage"), fps=FPS), sinks, detector.open_stream("gate")).run()
    return tmp_path


def grey_of(index: int) -> int:
    return 40 + 10 * index


def shown(video: Path) -> tuple[list[int], list[bool]]:
    """Which frames, by their grey, and whether there is the red border of an alarm around them."""
    with av.open(str(video)) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    indices = [round((float(picture[picture.shape[0] // 2, picture.shape[1] // 2].mean()) - 40) / 10) for picture in pictures]
    return indices, [bool(picture[picture.shape[0] // 2, 1, 2] > picture[picture.shape[0] // 2, 1, 0] + 60) for picture in pictures]


def test_the_annotated_video_shows_each_with_its_own_score(results: Path) -> None:
    scored = [row["frame"] for row in read_scores(results / "scores.jsonl") if "event" not in row]
    assert scored == [2, 3, 4, 5, 6, 7, 11, 12, 13, 14]
    indices, alarms = shown(results / "annotated.mp4")
    assert indices == list(range(sum(CLIPS)))
    assert [index for index in indices if alarms[index]] == scored


def test_event_clips_keep_each(results: Path) -> None:
    first, second = sorted(
        (results / "events").iterdir(), key=lambda event: json.loads((event / "event.json").read_text())["start"]["frame"]
    )
    assert shown(first / "clip.mp4")[0] == list(range(9))
    assert shown(second / "clip.mp4")[0] == list(range(9, 16))
