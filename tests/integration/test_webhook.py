from __future__ import annotations

import base64
import logging
import socket
import sys
import threading

import pytest

from edge_runtime.errors import BackendUnavailable, ConfigError
from edge_runtime.score import Event, EventKind
from edge_runtime.sinks import Sink
from edge_runtime.sinks.alerts.webhook import WebhookSink
from tests.kit.http_receiver import Reply, receiver
from tests.kit.scores import make_score, make_step
from tests.kit.wording import missing, raises

pytestmark = pytest.mark.waits


def start(time_s: float, stream: str = "gate") -> Event:
    return Event(EventKind.ALARM_START, stream, 0, time_s, 1e9, {"alarm": f"{stream}-{time_s:g}", "score": 4.0, "threshold": 3.0})


def end(time_s: float, stream: str = "gate") -> Event:
    return Event(EventKind.ALARM_END, stream, 0, time_s, 1e9, {"alarm": f"{stream}-{time_s:g}", "peak_score": 4.0})


def other(kind: str) -> Event:
    return Event(EventKind(kind), "gate", 0, 0.0, 1e9, {})


def write(sink: Sink, *events: Event) -> None:
    for event in events:
        sink.write_event(event)


def test_an_alarm_is_posted_at_its_start_and_end() -> None:
    with receiver() as it:
        sink = WebhookSink(f"{it.url}/alarms?room=1")
        write(sink, start(1.0), end(3.0))
        sink.close()
        first, second = it.requests(2)
    assert (first.path, first.headers["Content-Type"]) == ("/alarms?room=1", "application/json")
    assert first.content == {
        "type": "new",
        "event": "alarm_start",
        "stream": "gate",
        "frame": 0,
        "time_s": 1.0,
        "wall_time_s": 1e9,
        "alarm": "gate-1",
        "score": 4.0,
        "threshold": 3.0,
        "suppressed": 0,
    }
    assert (second.content["type"], second.content["peak_score"]) == ("end", 4.0)


def test_of_other_events_only_those_of_camera_and_memory_are_posted() -> None:
    with receiver() as it:
        sink = WebhookSink(it.url)
        write(sink, other("gap"), other("source_lost"), other("filler"), other("reconnect"), other("memory_frozen"))
        sink.write_step(make_step(make_score(0, 9.0)))
        sink.close()
        posted = [request.content["event"] for request in it.requests(4)]
    assert posted == ["source_lost", "filler", "reconnect", "memory_frozen"]


def test_the_end_leaves_no_thread() -> None:
    with receiver() as it:
        before = threading.enumerate()
        sink = WebhookSink(it.url)
        assert threading.enumerate() != before
        write(sink, start(0.0))
        sink.close()
        assert [thread for thread in threading.enumerate() if "process_request" not in thread.name] == before


# Trouble


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_receiver_in_trouble_is_tried_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    with receiver(Reply(status), Reply(status)) as it:
        sink = WebhookSink(it.url, close_wait_s=30)
        write(sink, start(0.0), end(1.0))
        sink.close()
        requests = it.requests(4)
    assert [request.content["type"] for request in requests] == ["new", "new", "new", "end"]  # in order
    [said] = [message for message in caplog.messages if not missing(message, str(status))]
    assert not missing(said, "tried again")


def test_retry_after_is_waited_for() -> None:
    with receiver(Reply(503, {"Retry-After": "2"})) as it:
        sink = WebhookSink(it.url, close_wait_s=30)
        write(sink, start(0.0))
        sink.close()
        first, second = it.requests(2)
    assert second.at_s - first.at_s >= 1.99


def test_a_retry_after_that_is_none_is_no_matter() -> None:
    with receiver(Reply(503, {"Retry-After": "soon"})) as it:
        sink = WebhookSink(it.url, close_wait_s=30)
        write(sink, start(0.0))
        sink.close()
        it.requests(2)


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404])
def test_a_refusal_is_final_and_said_and_the_next_one_goes_on(status: int, caplog: pytest.LogCaptureFixture) -> None:
    with receiver(Reply(status, {"Location": "/elsewhere"})) as it:
        sink = WebhookSink(it.url, close_wait_s=30)
        write(sink, start(0.0), end(1.0))
        sink.close()
        requests = it.requests(2)
    assert [(request.path, request.content["type"]) for request in requests] == [("/", "new"), ("/", "end")]
    assert not missing(caplog.text, f"alarm_start … gate … {status} … given up")


def test_a_receiver_that_hangs_keeps_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(Reply(0), Reply(0)) as it:
        before = [thread.name for thread in threading.enumerate()]
        sink = WebhookSink(it.url, timeout_s=0.3, close_wait_s=0.1)
        write(sink, start(0.0), end(1.0))
        it.requests(1)
        sink.close()
        assert [name for thread in threading.enumerate() if "process_request" not in (name := thread.name)] == before
    assert not missing(caplog.text, "lost: 2")


def test_a_receiver_that_hangs_once_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(Reply(0)) as it:
        sink = WebhookSink(it.url, timeout_s=0.2, close_wait_s=30)
        write(sink, start(0.0))
        sink.close()
        it.requests(2)
    assert not missing(caplog.text, "0.2 s") and "are lost" not in caplog.text


def test_a_receiver_that_refuses_connections_is_no_error_and_what_is_left_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    before = threading.enumerate()
    sink = WebhookSink(f"http://127.0.0.1:{refusing_port()}/hook", close_wait_s=0.2)
    write(sink, start(0.0), end(1.0))
    sink.close()
    assert threading.enumerate() == before
    assert "no connection (Connection refused)" in caplog.text and "are lost: 2" in caplog.text


def test_what_got_too_old_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(Reply(503, {"Retry-After": "60"})) as it:
        sink = WebhookSink(it.url, give_up_s=30.0, close_wait_s=30)
        write(sink, start(0.0), end(1.0))
        sink.close()
        types = [request.content["type"] for request in it.requests(2)]
    assert types == ["new", "end"]
    assert not missing(caplog.text, "given up … 503")


def test_beyond_the_queue_the_oldest_are_lost_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(Reply(503, {"Retry-After": "1"})) as it:
        sink = WebhookSink(it.url, queue_limit=2, cooldown_s=0.0, close_wait_s=30)
        write(sink, start(0.0))
        it.requests(1)
        write(sink, *(start(float(index)) for index in range(1, 6)))
        sink.close()
        alarms = [request.content["alarm"] for request in it.requests(4)]
    assert alarms == ["gate-0", "gate-0", "gate-4", "gate-5"]
    assert caplog.text.count("more than 2 postings wait") == 1 and not missing(caplog.text, "many waited: 3")


# Cooldown


def posted(*events: Event, cooldown_s: float = 60.0) -> list[tuple[str, float, int]]:
    """Type, time and suppressed alarms of what is posted of some events."""
    with receiver() as it:
        sink = WebhookSink(it.url, cooldown_s=cooldown_s, close_wait_s=30)
        write(sink, *events, other("memory_frozen"))
        sink.close()
        contents = [request.content for request in it.requests(1)]
    return [(it["type"], it["time_s"], it["suppressed"]) for it in contents]


def test_alarms_within_the_cooldown_are_counted_instead_of_posted() -> None:
    heard = posted(start(0.0), end(5.0), start(10.0), end(12.0), start(59.0), end(61.0), start(62.0), end(63.0))
    assert heard == [("new", 0.0, 0), ("end", 5.0, 0), ("new", 62.0, 2), ("end", 63.0, 0), ("event", 0.0, 0)]


def test_the_end_of_a_posted_alarm_is_posted_however_long_it_was() -> None:
    assert posted(start(0.0), end(100.0), start(101.0), end(102.0))[1:4] == [("end", 100.0, 0), ("new", 101.0, 0), ("end", 102.0, 0)]


def test_streams_have_cooldowns_of_their_own() -> None:
    assert [it[0] for it in posted(start(0.0), start(1.0, "yard"), end(2.0), end(3.0, "yard"))] == ["new", "new", "end", "end", "event"]


def test_a_clock_that_begins_anew_ends_the_cooldown() -> None:
    assert [it[:2] for it in posted(start(50.0), end(51.0), start(1.0), end(2.0))][2] == ("new", 1.0)


def test_without_a_cooldown_every_alarm_is_posted() -> None:
    assert len(posted(start(0.0), end(0.1), start(0.2), end(0.3), cooldown_s=0.0)) == 5


# Credentials


def test_the_token_arrives_and_is_never_shown(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("EDGE_WEBHOOK_TOKEN", "secret-of-the-place")
    with receiver(Reply(503), Reply(401)) as it:
        for token in (None, "secret-argument"):
            sink = WebhookSink(f"{it.url}/hooks/secret-path?key=secret-query", token=token, close_wait_s=30)
            write(sink, start(0.0), end(1.0))
            sink.close()
        tokens = {request.headers["Authorization"] for request in it.requests(5)}
    assert tokens == {"Bearer secret-of-the-place", "Bearer secret-argument"}
    assert not missing(caplog.text, "401")
    assert "secret" not in caplog.text + repr(sink) + repr(vars(sink))


def test_a_user_in_the_url_is_basic_authentication_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(Reply(401)) as it:
        sink = WebhookSink(it.url.replace("//", "//camera:sec%2Fret@"), close_wait_s=30)
        write(sink, start(0.0))
        sink.close()
        (request,) = it.requests(1)
    assert base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")) == b"camera:sec/ret"
    assert not missing(caplog.text, "given up") and "sec" not in caplog.text.replace("seconds", "")


def test_a_password_with_a_slash_that_reads_as_a_port_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sink = WebhookSink("http://localhost:1/pw@127.0.0.1/hook", close_wait_s=0)
    write(sink, start(0.0))
    sink.close()
    assert "webhook http://***" in caplog.text + str(vars(sink))
    assert not [secret for secret in ("localhost", ":1/", "pw@") if secret in caplog.text]


@pytest.mark.parametrize("url", ["ftp://host/secret", "secret", "http://", "http://[secret", "https://ho st:secret/"])
def test_a_url_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with raises(ConfigError, "URL") as refusal:
        WebhookSink(url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("token", ["sec ret", "secret\r\nX-More: 1", "secrét"])
def test_a_token_that_is_none_is_refused_and_not_repeated(token: str) -> None:
    with raises(ConfigError, "token") as refusal:
        WebhookSink("http://127.0.0.1", token=token)
    assert "sec" not in str(refusal.value)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_cooldown_that_is_none_is_refused(seconds: float) -> None:
    with raises(ConfigError, "cooldown … 0"):
        WebhookSink("http://127.0.0.1", cooldown_s=seconds)


def test_without_urllib3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "urllib3", None)
    with raises(BackendUnavailable, "edge-runtime[alerts]"):
        WebhookSink("http://127.0.0.1")


def refusing_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
