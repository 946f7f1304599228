"""A camera that speaks HTTP: JPEG pictures one after another in an answer without end, as many cheap ones do."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.kit.drawn_footage import Reel, black_reel, reel_pictures

__all__ = ["MjpegCamera"]

BOUNDARY = "picture"


class MjpegCamera:
    """A server with one stream; a context manager, started when entered.

    Args:
        shown: what it shows, from the beginning when it ends.
        user, password: wanted from whoever connects (basic authentication); anybody may where None.
    """

    def __init__(self, shown: Reel, *, user: str | None = None, password: str | None = None) -> None:
        self._shown = shown
        self._pictures = reel_pictures(shown)
        self._credentials = f"{user}:{password}" if user else None
        self._port = 0
        self._number = 0
        self._is_frozen = False
        self._server: _Server | None = None
        self._is_stalled = False
        self._ticked = threading.Condition()
        self._ended = threading.Event()

    @property
    def port(self) -> int:
        """Of the loopback; the same after a restart."""
        return self._port

    @property
    def uri(self) -> str:
        """With the credentials, if it wants any."""
        return self.uri_at(self._port)

    @property
    def bare_uri(self) -> str:
        """Without credentials."""
        return f"http://127.0.0.1:{self._port}/camera"

    def uri_at(self, port: int) -> str:
        """With the credentials, at the port of a `Proxy`."""
        return f"http://{self._credentials + '@' if self._credentials else ''}127.0.0.1:{port}/camera"

    def __enter__(self) -> MjpegCamera:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self.kill()

    def start(self) -> None:
        """Listen."""
        assert self._server is None
        self._number, self._is_frozen, self._is_stalled = 0, False, False
        self._ended.clear()
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]
        self._clock = threading.Thread(target=self._tick)
        self._clock.start()

    def kill(self) -> None:
        """End all connections and listen no more."""
        assert self._server is not None
        server, self._server = self._server, None
        self._ended.set()
        self._clock.join()
        server.end()

    def restart(self) -> None:
        """Kill it, if it runs, and start it again at the same port, with what it showed last."""
        if self._server:
            self.kill()
        self.start()

    def stall(self) -> None:
        """Keep the connections open and send nothing."""
        self._is_stalled = True

    def resume(self) -> None:
        """Go on after `stall`."""
        self._is_stalled = False

    def freeze(self) -> None:
        """Send the same picture over and over."""
        self._is_frozen = True

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._is_frozen = False

    def show(self, reel: Reel) -> None:
        """Show something else, of any size, in the connections that are open."""
        self._shown, self._pictures = reel, reel_pictures(reel)
        self._number = 0

    def send(self, pictures: list[bytes]) -> None:
        """Send these, as they are, one after another; `show` ends it."""
        self._pictures = pictures

    def black(self) -> None:
        """Send all-black pictures; `show` ends it."""
        self.show(black_reel(self._shown))

    def may_enter(self, authorization: str | None) -> bool:
        if self._credentials is None:
            return True
        return authorization == "Basic " + base64.b64encode(self._credentials.encode()).decode()

    def next_picture(self) -> bytes | None:
        """Wait until it is due; None at the end."""
        with self._ticked:
            if not self._ended.is_set():
                self._ticked.wait()
            return None if self._ended.is_set() else self._pictures[self._number % len(self._pictures)]

    def _tick(self) -> None:
        while not self._ended.wait(1 / self._shown.fps):
            self._number += not self._is_frozen
            if not self._is_stalled:
                self._wake()
        self._wake()

    def _wake(self) -> None:
        with self._ticked:
            self._ticked.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing it waits for them

    def __init__(self, camera: MjpegCamera, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.camera = camera
        self._callers: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        for caller in list(self._callers):
            with contextlib.suppress(OSError):
                caller.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._callers.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._callers.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers come and go: nothing to say."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        camera = self.server.camera
        if not camera.may_enter(self.headers.get("Authorization")):
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        with contextlib.suppress(OSError):
            while picture := camera.next_picture():
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Nothing to say."""
