from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime import open_source
from edge_runtime.errors import ConfigError, SourceOpenError, SourceStalled
from tests.kit.drawn_footage import write_video


@pytest.mark.parametrize("number", ["98", "99999999999999999999"])
def test_a_camera_that_is_not_there_is_named(number: str) -> None:
    assert not Path(f"/dev/video{number}").exists()
    with pytest.raises(SourceOpenError, match=rf"camera {number}: expected a camera there, OpenCV finds none\. List them: ls /dev/video"):
        open_source(f"camera:{number}")


@pytest.mark.parametrize("uri", ["camera:", "camera:-1", "camera:front", "camera:0.5", "camera:/dev/video0"])
def test_a_camera_is_a_number(uri: str) -> None:
    with pytest.raises(ConfigError, match=rf"{uri}: expected a camera's number, as in camera:0, got '{uri[7:]}'"):
        open_source(uri)


def test_a_camera_cannot_loop() -> None:
    with pytest.raises(ConfigError, match=r"camera:98: a camera does not end, so it cannot loop\. Leave --loop away"):
        open_source("camera:98", loop=True)


@pytest.fixture
def recorded_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV's own capture, but camera 0 plays a video of three frames and is then unplugged."""
    path = str(write_video(tmp_path / "camera.avi", [np.full((48, 64, 3), grey, np.uint8) for grey in (50, 100, 150)], fps=20))

    capture = cv2.VideoCapture

    class RecordedCamera:
        def __init__(self) -> None:
            self._capture = capture()

        def open(self, number: int) -> bool:
            return number == 0 and self._capture.open(path)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._capture, name)

    monkeypatch.setattr(cv2, "VideoCapture", RecordedCamera)


@pytest.mark.usefixtures("recorded_camera")
def test_a_camera_gives_its_frames_and_says_when_it_stops() -> None:
    source = open_source("camera:0")
    assert source.fps == 20 and source.frame_count is None and source.is_live
    frames = iter(source)
    taken = [next(frames) for _ in range(3)]
    assert [round(frame.image.mean() / 50) for frame in taken] == [1, 2, 3]
    assert [frame.gap for frame in taken] == ["start", None, None]
    assert taken[0].time_s < taken[1].time_s < taken[2].time_s and taken[0].stream == "camera-0"
    with pytest.raises(SourceStalled, match="camera:0: expected a frame, the camera stopped after 3"):
        next(frames)
    source.close()
