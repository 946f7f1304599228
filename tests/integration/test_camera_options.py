"""What a camera on the network is asked for, and the time it is given."""

from __future__ import annotations

from itertools import islice

import pytest

from edge_runtime.sources import LiveSource, open_source
from edge_runtime.sources.address import CameraOptions
from tests.kit.cameras import Pattern, RtspCamera
from tests.kit.wording import missing


@pytest.mark.rtsp
def test_what_a_network_camera_cannot_be_asked_for_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with RtspCamera(Pattern()) as camera:
        open_source(camera.uri, camera=CameraOptions(width=640, height=480, rate=5)).close()
    [said] = [message for message in caplog.messages if "--width" in message]
    assert not missing(said, "--height … --rate")


@pytest.mark.rtsp
def test_a_camera_that_may_not_stall_for_long_may_take_longer_to_open() -> None:
    with RtspCamera(Pattern()) as camera:
        source = open_source(camera.uri, camera=CameraOptions(stall_s=0.4))
        frames = list(islice(source, 10))
        source.close()
    assert isinstance(source, LiveSource)
    assert len(frames) == 10 and source.health().connects == 1
