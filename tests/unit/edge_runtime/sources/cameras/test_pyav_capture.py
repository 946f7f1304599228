"""What is made of damaged streams, from encoded pictures with some of the packets left out."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from edge_runtime.sources.address import CameraOptions
from edge_runtime.sources.cameras.frame_numbers import FrameNumbers
from edge_runtime.sources.cameras.pyav_capture import PyAvCapture
from tests.kit.drawn_footage import draw

av = pytest.importorskip("av")

PICTURES, KEY_EVERY, LOST = 60, 15, 20
HEVC = ("libx265", {"x265-params": f"keyint={KEY_EVERY}:min-keyint={KEY_EVERY}:bframes=0:log-level=none", "tune": "zerolatency"})


def encoded(codec: str, options: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for image in draw(PICTURES, width=160, height=120):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return file.getvalue()


class Line:
    """A container whose packets do not all arrive."""

    def __init__(self, container: Any, lost: Collection[int]) -> None:
        self._container = container
        self._lost = lost

    def demux(self, stream: Any) -> Iterator[Any]:
        return (packet for number, packet in enumerate(self._container.demux(stream)) if number not in self._lost)

    def close(self) -> None:
        self._container.close()


def damaged_in(content: bytes, lost: Collection[int]) -> str:
    """A letter for each picture that comes: `.` whole, `d` damaged."""
    container = av.open(io.BytesIO(content))
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    capture = PyAvCapture(Line(container, lost), stream, 10.0, CameraOptions())
    marks = ""
    while capture.read() is not None:
        marks += "d" if capture.is_damaged else "."
    capture.close()
    return marks


def has_encoder(name: str) -> bool:
    return name in av.codecs_available


@pytest.mark.skipif(not has_encoder("libx265"), reason="this PyAV cannot encode HEVC")
def test_pictures_that_hevc_left_out_are_a_hole() -> None:
    content = encoded(*HEVC)
    assert damaged_in(content, ()) == "." * PICTURES
    assert damaged_in(content, [LOST]) == "." * LOST + "d" + "." * (PICTURES - 2 * KEY_EVERY - 1)


H264 = {"g": str(KEY_EVERY), "tune": "zerolatency"}


@pytest.mark.skipif(not has_encoder("libx264"), reason="this PyAV cannot encode H.264")
@pytest.mark.parametrize("profile", ["baseline", "main", "high"])
def test_what_builds_on_a_lost_picture_is_damaged(profile: str) -> None:
    content = encoded("libx264", {**H264, "profile": profile})
    assert damaged_in(content, ()) == "." * PICTURES
    spoilt = 2 * KEY_EVERY - LOST - 1
    assert damaged_in(content, [LOST]) == "." * LOST + "d" * spoilt + "." * (PICTURES - 2 * KEY_EVERY)


@pytest.mark.skipif(not has_encoder("libx264"), reason="this PyAV cannot encode H.264")
@pytest.mark.parametrize("options", [{"g": "15"}, {"g": "15", "bf": "3", "b-pyramid": "normal"}, {"g": "15", "flags": "+ildct+ilme"}])
def test_whole_streams_of_any_structure_are_whole(options: dict[str, str]) -> None:
    assert damaged_in(encoded("libx264", options), ()) == "." * PICTURES


def test_numbers_are_not_believed_before_they_were_whole_from_key_to_key() -> None:
    content = encoded("libx264", H264)
    assert damaged_in(content, range(5, PICTURES, KEY_EVERY)) == "." * (PICTURES - PICTURES // KEY_EVERY)


@pytest.mark.parametrize("packet", [b"", b"\0\0\1", b"\0\0\1\x67", b"\0\0\1\x67\0\0", b"\0\0\1\x41", bytes(100), b"\xff" * 100])
def test_garbage_has_no_numbers(packet: bytes) -> None:
    numbers = FrameNumbers(packet)
    assert [numbers.follows_hole(packet) for _ in range(3)] == [False] * 3
