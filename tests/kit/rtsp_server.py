"""An RTSP camera as a program of its own, for the system's Python with gi and GstRtspServer.

It is steered with one JSON object a line on its standard input and answers each with one on its standard output; the first
line is its configuration, the answer to it the port. It ends when its input does, so none outlives its test. `cameras.py`
is the other end.
"""

from __future__ import annotations

import json
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

FEED = "appsrc name=feed is-live=true do-timestamp=true format=time max-buffers=4 leaky-type=downstream"
ENCODED = {
    # A key frame a second and a half, sent with its parameters: whoever comes later need not wait long.
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast threads=1 sliced-threads=false bitrate=4000 key-int-max=15"
    " ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "mjpeg": "jpegenc quality=90 ! rtpjpegpay name=pay0 pt=26",
}
FROM_REEL = f"{FEED} ! jpegdec ! videoconvert ! video/x-raw,format=I420"
FROM_PATTERN = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"


class Reel:
    """JPEG pictures of one size, as `drawn_footage.write_reel` lays them: each after its length in four bytes."""

    def __init__(self, path: str, width: int, height: int, fps: int) -> None:
        self.caps = Gst.Caps.from_string(f"image/jpeg,width={width},height={height},framerate={fps}/1")
        self.fps = fps
        self.pictures = list(_pictures(Path(path).read_bytes()))


class Camera:
    """Pushes a picture of its reel into every open pipeline, at the reel's rate, whether or not somebody looks."""

    def __init__(self, reel: Reel) -> None:
        self._reel = reel
        self._shown = 0
        self._is_frozen = False
        self._feeds: list[Any] = []
        self._due_us = GLib.get_monotonic_time()
        self._tick()

    def show(self, reel: Reel) -> None:
        self._reel = reel
        self._shown = 0
        for feed in self._feeds:
            feed.set_property("caps", reel.caps)

    def freeze(self, is_frozen: bool) -> None:
        self._is_frozen = is_frozen

    def attach(self, _factory: Any, media: Any) -> None:
        feed = media.get_element().get_by_name("feed")
        feed.set_property("caps", self._reel.caps)
        self._feeds.append(feed)
        media.connect("unprepared", lambda _media: self._feeds.remove(feed))

    def _tick(self) -> bool:
        picture = self._reel.pictures[self._shown % len(self._reel.pictures)]
        for feed in self._feeds:
            # Before that its clock has no beginning: the picture would be due hours from now, and the session mute.
            if feed.get_state(0)[1] == Gst.State.PLAYING:
                feed.emit("push-buffer", Gst.Buffer.new_wrapped(picture))
        if not self._is_frozen:
            self._shown += 1
        now_us = GLib.get_monotonic_time()
        self._due_us = max(self._due_us + 1_000_000 // self._reel.fps, now_us)
        GLib.timeout_add((self._due_us - now_us) // 1000, self._tick)
        return GLib.SOURCE_REMOVE


class Server:
    """The stream `/camera` on a port of the loopback."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self._camera = Camera(Reel(**wanted["reel"])) if "reel" in wanted else None
        self._server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(wanted["port"]))
        factory = GstRtspServer.RTSPMediaFactory(shared=True)
        pictures = FROM_REEL if self._camera else FROM_PATTERN.format(**wanted["pattern"])
        factory.set_launch(f"( {pictures} ! {ENCODED[wanted['codec']]} )")
        if self._camera:
            factory.connect("media-configure", self._camera.attach)
        if wanted.get("user"):
            self._protect(factory, wanted["user"], wanted["password"])
        self._server.get_mount_points().add_factory("/camera", factory)
        if not self._server.attach(None):
            raise SystemExit(f"port {wanted['port']} of the loopback: cannot listen there")

    @property
    def port(self) -> int:
        return int(self._server.get_bound_port())

    def obey(self, wanted: dict[str, Any]) -> None:
        if "show" in wanted and self._camera:
            self._camera.show(Reel(**wanted["show"]))
        if "freeze" in wanted and self._camera:
            self._camera.freeze(wanted["freeze"])
        if wanted.get("hang_up"):
            self._server.client_filter(lambda _server, _client: GstRtspServer.RTSPFilterResult.REMOVE)

    def _protect(self, factory: Any, user: str, password: str) -> None:
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        self._server.set_auth(auth)
        factory.add_role_from_structure(Gst.Structure.from_string("viewer,media.factory.access=true,media.factory.construct=true")[0])


def main() -> None:
    Gst.init(None)
    loop = GLib.MainLoop()
    server = Server(json.loads(sys.stdin.readline()))
    _answer({"port": server.port})

    def obey(line: str) -> bool:
        server.obey(json.loads(line))
        _answer({})
        return bool(GLib.SOURCE_REMOVE)

    def listen() -> None:
        for line in sys.stdin:
            GLib.idle_add(obey, line)
        GLib.idle_add(loop.quit)

    threading.Thread(target=listen, daemon=True).start()
    loop.run()


def _answer(said: dict[str, Any]) -> None:
    print(json.dumps(said), flush=True)


def _pictures(data: bytes) -> Any:
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        yield data[position + 4 : position + 4 + length]
        position += 4 + length


if __name__ == "__main__":
    main()
