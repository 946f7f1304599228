"""A real HTTP server that takes postings and answers as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

__all__ = ["Receiver", "Reply", "Request", "receiver"]

LONGEST_S = 30.0


@dataclass(frozen=True)
class Reply:
    """How to answer one request; a status of 0 is no answer at all."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What came: `at_s` on the monotonic clock."""

    path: str
    headers: Mapping[str, str]
    content: dict[str, Any]
    at_s: float


class Receiver:
    """Answers with the replies in order, then with 200."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self._requests: list[Request] = []
        self._changed = threading.Condition()
        self._is_over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def requests(self, count: int) -> list[Request]:
        """What came, as soon as it is so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._requests) >= count, LONGEST_S), f"waited in vain, got {self._requests}"
            return list(self._requests)

    def take(self, request: Request) -> Reply:
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()
            reply = self._replies.pop(0) if self._replies else Reply()
        if not reply.status:
            self._is_over.wait(LONGEST_S)
        return reply

    def close(self) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def receiver(*replies: Reply) -> Iterator[Receiver]:
    """A server that runs."""
    it = Receiver(*replies)
    try:
        yield it
    finally:
        it.close()


def _handler_for(taker: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = taker.take(Request(self.path, dict(self.headers), content, monotonic()))
            if not reply.status:
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: tests look at requests."""

    return Handler
