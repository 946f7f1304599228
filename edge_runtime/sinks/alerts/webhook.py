"""Alarms as HTTP requests: one POST of JSON for each, to chat rooms, ticket systems and automation."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from types import ModuleType
from typing import Any
from urllib.parse import unquote

from edge_runtime.errors import BackendUnavailable, ConfigError
from edge_runtime.score import Event, EventKind, Step
from edge_runtime.sinks.alerts.messages import event_message
from edge_runtime.sinks.tables.rows import encode_row

__all__ = ["WebhookSink"]

_PAUSE_S = (0.5, 30.0)  # between tries: doubled from the first to the second
_LONGEST_RETRY_AFTER_S = 120.0
_TEMPORARY = (408, 425, 429)  # besides all from 500 on

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Posting:
    what: str
    body: bytes
    deadline_s: float  # on the monotonic clock


@dataclass(frozen=True)
class _Answer:
    """What came of one try: a reason why not, None if it arrived; whether another may do better, and after how long."""

    trouble: str | None = None
    is_final: bool = True
    retry_after_s: float = 0.0


class WebhookSink:
    """Posts the starts and ends of alarms, and what happens to a camera or its memory, from a thread of its own.

    The body is the event as JSON with its `type` (`new`, `end`, `event`) and `suppressed`: how many alarms since the last
    posting began within the cooldown and were not posted, nor were their ends. Each is tried again, with growing pauses and
    as `Retry-After` asks, while the receiver is out of reach, busy (429) or broken (5xx); one at a time, in order.
    Redirects are not followed. The log names the receiver's host alone: the rest of a webhook's URL is often a secret.

    Args:
        url: `https://host/path`; a user and password in it become basic authentication, where there is no token.
        token: sent as `Authorization: Bearer …`; taken from the environment, `EDGE_WEBHOOK_TOKEN`, where None.
        cooldown_s: seconds of stream time, 0 or more, after a posted start in which further alarms of that stream are not.
        timeout_s: seconds for a connection, and again for an answer.
        give_up_s: seconds after which a posting is too old to be tried again.
        queue_limit: how many postings wait; beyond it the oldest are lost, and a warning says so.
        close_wait_s: seconds `close` waits for postings to arrive; a request under way may take twice `timeout_s` more.

    Raises:
        BackendUnavailable: urllib3 is not installed.
        ConfigError: the URL or the token cannot be used, or the cooldown is negative.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        cooldown_s: float = 60.0,
        timeout_s: float = 5.0,
        give_up_s: float = 600.0,
        queue_limit: int = 100,
        close_wait_s: float = 5.0,
    ) -> None:
        if not cooldown_s >= 0:
            raise ConfigError(f"webhook cooldown: expected seconds, 0 or more, got {cooldown_s}. A minute suits most receivers.")
        self._receiver = _Receiver(url, os.environ.get("EDGE_WEBHOOK_TOKEN") if token is None else token, timeout_s)
        self._cooldown = _Cooldown(cooldown_s)
        self._longest_s = close_wait_s, 2 * timeout_s + 1
        self._give_up_s = give_up_s
        self._queue_limit = queue_limit
        # `_changed` guards what follows.
        self._changed = threading.Condition()
        self._waiting: deque[_Posting] = deque()
        self._under_way: _Posting | None = None
        self._lost = 0
        self._is_closing = False  # what waits is still posted
        self._is_over = False  # nothing is posted any more
        self._poster = threading.Thread(target=self._post_all, name="webhook", daemon=True)
        self._poster.start()

    def write_step(self, step: Step) -> None:
        """Nothing: only events are posted."""

    def write_event(self, event: Event) -> None:
        """Queue the posting of an event that is worth one."""
        if event.event is EventKind.GAP or self._cooldown.covers(event):
            return
        body = encode_row({**event_message(event), "suppressed": self._cooldown.take_suppressed()})
        self._enqueue(_Posting(f"{event.event.value} of {event.stream}", body, monotonic() + self._give_up_s))

    def close(self) -> None:
        """Post what waits, as long as that takes no more than `close_wait_s`."""
        flush_s, request_s = self._longest_s
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._poster.join(flush_s)
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._poster.join(request_s)
        with self._changed:
            left = len(self._waiting) + (self._under_way is not None)
        if self._lost:
            log.warning("%s: postings lost because too many waited: %d.", self._receiver, self._lost)
        if left:
            log.warning("%s: postings that did not arrive before the end and are lost: %d.", self._receiver, left)

    def _enqueue(self, posting: _Posting) -> None:
        with self._changed:
            self._waiting.append(posting)
            is_overfull = len(self._waiting) > self._queue_limit
            if is_overfull:
                self._waiting.popleft()
                self._lost += 1
            self._changed.notify_all()
        if is_overfull and self._lost == 1:
            log.warning("%s: more than %d postings wait; the oldest are lost from now on.", self._receiver, self._queue_limit)

    # The poster's thread

    def _post_all(self) -> None:
        while (posting := self._next()) is not None:
            if not self._post(posting):
                return
            with self._changed:
                self._under_way = None

    def _next(self) -> _Posting | None:
        """Wait for a posting; None where there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closing)
            if self._is_over or not self._waiting:
                return None
            self._under_way = self._waiting.popleft()
            return self._under_way

    def _post(self, posting: _Posting) -> bool:
        """Try until it arrives or is given up; False where the end came first."""
        told = None
        for pause_s in _pauses_s():
            answer = self._receiver.post(posting.body)
            if answer.trouble is None:
                return True
            pause_s = max(pause_s, answer.retry_after_s)
            if answer.is_final or monotonic() + pause_s > posting.deadline_s:
                log.warning("%s: %s was not delivered and is given up: %s.", self._receiver, posting.what, answer.trouble)
                return True
            if answer.trouble != told:
                log.warning("%s: %s is not delivered yet: %s. It is tried again.", self._receiver, posting.what, answer.trouble)
                told = answer.trouble
            if self._is_over_within(pause_s):
                return False
        return False

    def _is_over_within(self, pause_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._is_over, pause_s)


class _Cooldown:
    """Keeps a flickering scene from ringing without end: after a posted alarm, the stream's next ones stay silent."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._rang_s: dict[str, float] = {}  # by stream
        self._silent: set[str] = set()  # streams whose open alarm is not posted
        self._suppressed = 0

    def covers(self, event: Event) -> bool:
        """Whether an event is the start or end of an alarm that is not posted."""
        if event.event is EventKind.ALARM_END and event.stream in self._silent:
            self._silent.remove(event.stream)
            return True
        if event.event is not EventKind.ALARM_START:
            return False
        passed_s = event.time_s - self._rang_s.get(event.stream, -float("inf"))
        if 0 <= passed_s < self._seconds:  # time may begin anew
            self._silent.add(event.stream)
            self._suppressed += 1
            return True
        self._rang_s[event.stream] = event.time_s
        return False

    def take_suppressed(self) -> int:
        """How many alarms stayed silent since the last call."""
        count, self._suppressed = self._suppressed, 0
        return count


class _Receiver:
    """One URL to post to; its text is the host alone."""

    def __init__(self, url: str, token: str | None, timeout_s: float) -> None:
        self._urllib3 = _urllib3()
        # What urllib3 tells of requests names their whole URL.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        parts = self._checked(url)
        # `http://bob:12/pw@host`, as people type it, reads as the port 12 of a host `bob`: then both may be secrets.
        is_doubtful = parts.port is not None and "@" in (parts.path or "")
        self._shown = f"webhook {parts.scheme}://{'***' if is_doubtful else parts.netloc}"
        self._url = parts._replace(auth=None).url
        self._headers = {"Content-Type": "application/json", "User-Agent": "edge-runtime"}
        if token:
            self._headers["Authorization"] = f"Bearer {_checked_token(token)}"
        elif parts.auth:
            self._headers["Authorization"] = self._urllib3.make_headers(basic_auth=unquote(parts.auth))["authorization"]
        self._timeout_s = timeout_s
        self._pool = self._urllib3.PoolManager(retries=False, timeout=timeout_s)

    def __str__(self) -> str:
        return self._shown

    def post(self, body: bytes) -> _Answer:
        """Send a body once."""
        try:
            response = self._pool.request("POST", self._url, body=body, headers=self._headers, redirect=False, preload_content=False)
        except self._urllib3.exceptions.HTTPError as error:
            return _Answer(self._trouble(error), is_final=False)
        response.close()  # what it says besides is of no interest
        if 200 <= response.status < 300:
            return _Answer()
        is_final = response.status < 500 and response.status not in _TEMPORARY
        return _Answer(f"the answer was {response.status}", is_final, self._retry_after_s(response))

    def _trouble(self, error: Exception) -> str:
        """An error in words of our own: urllib3's may name the URL."""
        kinds = self._urllib3.exceptions
        if isinstance(error, kinds.NewConnectionError):  # which is among the timeouts, too
            return f"no connection ({getattr(error.__cause__, 'strerror', None) or type(error).__name__})"
        if isinstance(error, kinds.TimeoutError):
            return f"no answer within {self._timeout_s:g} s"
        return f"the connection broke ({type(error).__name__})"

    def _retry_after_s(self, response: Any) -> float:
        try:
            asked_s = self._urllib3.Retry().get_retry_after(response)
        except self._urllib3.exceptions.InvalidHeader:
            return 0.0
        return min(asked_s or 0.0, _LONGEST_RETRY_AFTER_S)

    def _checked(self, url: str) -> Any:
        """The parts of a URL; the message does not repeat it, for it may hold a secret."""
        try:
            parts = self._urllib3.util.parse_url(url)
        except self._urllib3.exceptions.LocationParseError:
            parts = None
        if parts is None or parts.scheme not in ("http", "https") or not parts.host:
            raise ConfigError(
                "webhook: expected a URL with http:// or https:// and a host, got another. Example: https://192.168.1.5/alarms"
            )
        return parts


def _checked_token(token: str) -> str:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError("webhook token: expected printable characters of ASCII without spaces, got others. Give the token alone.")
    return token


def _pauses_s() -> Iterator[float]:
    """How long to wait after each try: growing, bounded, and different for fifty cameras that failed together."""
    pause_s, longest_s = _PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.0)  # noqa: S311  (not for secrets)
        pause_s = min(2 * pause_s, longest_s)


def _urllib3() -> ModuleType:
    try:
        import urllib3
    except ImportError as error:
        raise BackendUnavailable("A webhook needs urllib3. Install it: pip install 'edge-runtime[alerts]'") from error
    return urllib3
