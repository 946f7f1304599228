from __future__ import annotations

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.sources import open_source
from edge_runtime.sources.address import Address, CameraOptions, is_live, parse_address, redacted
from tests.kit.wording import raises


@pytest.mark.parametrize(
    ("uri", "kind", "target", "stream"),
    [
        ("camera:0", "v4l2", "/dev/video0", "camera-0"),
        ("/dev/video2", "v4l2", "/dev/video2", "camera-2"),
        ("v4l2:///dev/v4l/by-id/usb-Logi_C920-index0", "v4l2", "/dev/v4l/by-id/usb-Logi_C920-index0", "usb-Logi_C920-index0"),
        ("/dev/v4l/by-id/usb-Logi_C920-index0", "v4l2", "/dev/v4l/by-id/usb-Logi_C920-index0", "usb-Logi_C920-index0"),
        ("csi://1", "csi", "1", "csi-1"),
        ("gst: videotestsrc is-live=true ! ", "gst", "videotestsrc is-live=true", "gst"),
        ("rtsp://10.0.0.7:8554/gate/main", "network", "rtsp://10.0.0.7:8554/gate/main", "10.0.0.7-8554-gate-main"),
        ("http://gate.local/video.mjpg", "network", "http://gate.local/video.mjpg", "gate.local-video.mjpg"),
    ],
)
def test_every_form_of_address_is_read(uri: str, kind: str, target: str, stream: str) -> None:
    assert is_live(uri)
    assert parse_address(uri) == Address(kind, target, uri, stream)


def test_a_scheme_in_capitals_is_the_same_and_nothing_else_changes() -> None:
    assert is_live("RTSP://bob:Pa%2FSS@Gate/Main?")
    address = parse_address("RTSP://bob:Pa%2FSS@Gate/Main?")
    assert address.target == "rtsp://bob:Pa%2FSS@Gate/Main?"
    assert address.shown == "rtsp://***@Gate/Main"


@pytest.mark.parametrize("uri", ["gate.mp4", "footage/gate", "footage/*.jpg", "synthetic:?seed=7", "file:///gate.mp4", "/dev/shm/gate.mp4"])
def test_footage_is_not_live(uri: str) -> None:
    assert not is_live(uri)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("camera:", "camera:0 … ''"),
        ("camera:-1", "camera:-1 … camera:0"),
        ("camera:front", "camera:front … camera:0"),
        ("camera:99999999999999999999", "camera:99999999999999999999 … camera:0"),
        ("v4l2://video0", "v4l2:///dev/v4l/by-id"),
        ("csi://front", "csi://front … csi://0"),
        ("gst:", "gst: … pipeline"),
        ("rtsp://", "rtsp:// … a host"),
        ("rtsp://gate/a b", "rtsp://gate … blanks"),
        ("rtsp://[::1/stream", "rtsp: … be read"),
        ("rtsp://gate:port/stream", "rtsp: … be read"),
    ],
)
def test_an_address_that_cannot_be_is_refused(uri: str, says: str) -> None:
    with raises(ConfigError, says):
        parse_address(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://admin:hunter2@10.0.0.7/stream",
        "rtsp://admin:hun@ter2@10.0.0.7/stream?a=1",
        "rtsp://10.0.0.7/stream?user=admin&password=hunter2",
        "http://10.0.0.7/video?token=hunter2&pwd=hunter2",
        "gst:rtspsrc location=rtsp://admin:hunter2@10.0.0.7/stream ! decodebin",
        'gst:rtspsrc location="rtsp://10.0.0.7/s" user-id=admin user-pw="hunter2" ! decodebin',
        "rtsp://admin:hunter2@10.0.0.7/a b",
        "rtsp://admin:hun/ter2@10.0.0.7/stream",
        "rtsp://admin:hun?ter2@10.0.0.7/stream",
        "rtsp://admin:hun#ter2@10.0.0.7/stream",
        "rtsp://admin:hun'ter2@10.0.0.7/stream",
        "rtsp://10.0.0.7/user=admin&password=hunter2&channel=1&stream=0.sdp",
        "http://10.0.0.7/videostream.cgi?loginuse=admin&loginpas=hunter2",
        "http://10.0.0.7/video?access_token=hunter2&usr=admin&passwd=hunter2",
        "rtsp://admin:hunter2@[::1/stream",
    ],
)
def test_credentials_are_never_shown(uri: str) -> None:
    try:
        address = parse_address(uri)
        said = [address.shown, address.stream, repr(address)]
        assert "hun" in address.target
    except ConfigError as error:
        said = [str(error)]
    said.append(redacted(f"cannot open '{uri}'"))
    for text in said:
        assert not any(secret in text for secret in ("admin", "hun", "ter2")), text


def test_what_is_no_secret_is_shown() -> None:
    uri = "http://10.0.0.7:8080/video?channel=2&id=7"
    assert redacted(uri) == uri and parse_address(uri).shown == uri
    pipeline = "gst:nvarguscamerasrc sensor-id=0 ! nvvidconv"
    assert parse_address(pipeline).shown == pipeline


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": 0, "height": 10}, "width … 0"),
        ({"width": 640}, "width … height"),
        ({"rate": float("nan")}, "rate … nan"),
        ({"flip": "sideways"}, "flip … none, horizontal"),
        ({"codec": "divx"}, "codec … h264"),
        ({"stall_s": 0.0}, "stall_s"),
        ({"stall_s": float("inf")}, "stall_s"),
    ],
)
def test_options_are_checked(options: dict[str, object], says: str) -> None:
    with raises(ConfigError, says):
        CameraOptions(**options)  # type: ignore[arg-type]


def test_what_only_a_camera_can_do_is_not_ignored_on_footage() -> None:
    with raises(ConfigError, "rate, flip"):
        open_source("synthetic:", camera=CameraOptions(flip="vertical", rate=5))
    assert open_source("synthetic:", camera=CameraOptions(stall_s=9, waits=True)).frame_count


@pytest.mark.parametrize("name", ["gate\nyard", "gate\udcff", "\x1b[2J"])
def test_a_stream_has_a_name_that_can_be_printed(name: str) -> None:
    with raises(ConfigError, "stream … printed"):
        open_source("synthetic:", stream=name)
