from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime import open_source
from edge_runtime.errors import ConfigError, SourceOpenError


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
