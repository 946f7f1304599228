"""A camera on the network that speaks RTSP well and sends what nobody can show: a codec of its own, or sound alone."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

__all__ = ["OddRtsp"]

PACKETS_PER_S = 50


class OddRtsp:
    """A server with one stream of meaningless packets; a context manager, started when entered.

    Args:
        media: the lines of its description that name what it sends, such as `m=video 0 RTP/AVP 96` and `a=rtpmap:96 NEWEST/90000`.
        name: of the session, in whatever encoding.
    """

    def __init__(self, *media: str, name: bytes = b"odd") -> None:
        self._media = media
        self._name = name
        self._payload_type = int(media[0].split()[-1])
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._callers: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def uri(self) -> str:
        """Where it is."""
        return f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/camera"

    def __enter__(self) -> OddRtsp:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for end in (self._listener, *self._callers):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            self._callers.append(caller)
            self._threads.append(threading.Thread(target=self._serve, args=(caller,)))
            self._threads[-1].start()

    def _serve(self, caller: socket.socket) -> None:
        with caller, contextlib.suppress(OSError), caller.makefile("rb") as requests:
            for method, number in iter(lambda: _request(requests), ("", "")):
                caller.sendall(self._answer(method, number))
                if method == "PLAY":
                    self._play(caller)

    def _answer(self, method: str, number: str) -> bytes:
        head, body = [f"RTSP/1.0 200 OK\r\nCSeq: {number}"], b""
        if method == "OPTIONS":
            head.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        if method == "DESCRIBE":
            before, after = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s="), ("", "t=0 0", *self._media, "a=control:0", "")
            body = "\r\n".join(before).encode() + self._name + "\r\n".join(after).encode()
            head += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        if method == "SETUP":
            head += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
        return ("\r\n".join(head) + "\r\n\r\n").encode() + body

    def _play(self, caller: socket.socket) -> None:
        number = 0
        while not self._ended.wait(1 / PACKETS_PER_S):
            packet = struct.pack(">BBHII", 0x80, 0x80 | self._payload_type, number % 65536, 1800 * number, 7) + bytes(20)
            caller.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
            number += 1


def _request(lines: object) -> tuple[str, str]:
    """Method and number of the next request; empty at the end."""
    method, number = "", ""
    for line in iter(lines.readline, b""):  # type: ignore[attr-defined]
        text = line.decode().strip()
        if not text:
            return method, number
        method = method or text.partition(" ")[0]
        if text.lower().startswith("cseq:"):
            number = text.partition(":")[2].strip()
    return "", ""
