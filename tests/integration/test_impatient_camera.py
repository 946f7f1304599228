"""A camera that counts as lost after a moment's silence is still given the time to begin."""

from __future__ import annotations

from itertools import islice

import pytest

from edge_runtime.sources import LiveSource, open_source
from edge_runtime.sources.address import CameraOptions
from tests.kit.cameras import Pattern, RtspCamera


@pytest.mark.rtsp
def test_a_camera_that_may_not_stall_for_long_may_take_longer_to_open() -> None:
    with RtspCamera(Pattern()) as camera:
        source = open_source(camera.uri, camera=CameraOptions(stall_s=0.4))
        frames = list(islice(source, 10))
        source.close()
    assert isinstance(source, LiveSource)
    assert len(frames) == 10 and source.health().connects == 1
