from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from edge_runtime.errors import BackendUnavailable, ConfigError, SinkError
from edge_runtime.score import Event, EventKind
from edge_runtime.sinks import Sink
from edge_runtime.sinks.alerts.mqtt import MqttSink
from edge_runtime.sinks.alerts.mqtt_address import MqttAddress
from tests.kit.commands import ROOT
from tests.kit.mosquitto import Broker, Heard, Listener, broker, free_port, listener, wait_until
from tests.kit.scores import make_score, make_step
from tests.kit.wording import missing, raises

pytestmark = pytest.mark.waits

OUTAGE_S = float(os.environ.get("OUTAGE_S", "3"))
needs_mosquitto = pytest.mark.mosquitto


def event_of(kind: str, index: int, **detail: float | int | str) -> Event:
    return Event(EventKind(kind), "gate", index, index / 25, 1e9 + index / 25, detail)


def write_scores(sink: Sink, frames: range, score: float) -> None:
    for index in frames:
        sink.write_step(make_step(make_score(index, score)))


def contents(heard: list[Heard]) -> list[dict[str, Any]]:
    return [it.content for it in heard]


def frames_of(heard: list[Heard]) -> list[int]:
    return [it.content["frame"] for it in heard]


def has(count: int) -> Callable[[list[Heard]], bool]:
    """That so many were heard."""
    return lambda heard: len(heard) >= count


def ends_with(frame: int) -> Callable[[list[Heard]], bool]:
    """That the newest is of a frame."""
    return lambda heard: bool(heard) and heard[-1].content["frame"] == frame


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    with broker(folder) as it:
        yield it


@pytest.fixture
def ears(mosquitto: Broker) -> Iterator[Listener]:
    with listener(mosquitto.port, "edge-runtime/gate") as it:
        yield it


@pytest.fixture
def sink(mosquitto: Broker, ears: Listener) -> Iterator[MqttSink]:
    it = MqttSink(f"mqtt://127.0.0.1:{mosquitto.port}", "gate")
    ears.wait_for("availability", lambda heard: [each.text for each in heard] == ["online"])
    try:
        yield it
    finally:
        it.close()


# What is said


@needs_mosquitto
def test_an_alarm_is_new_updated_and_ended_under_one_name(sink: MqttSink, ears: Listener) -> None:
    sink.write_event(event_of("alarm_start", 0, alarm="gate-1", score=4.0, threshold=3.0))
    write_scores(sink, range(1, 25), 5.0)  # the peak rose, but the second is not over
    write_scores(sink, range(25, 27), 4.5)
    write_scores(sink, range(27, 251), 4.0)  # no news, until it gets long
    write_scores(sink, range(251, 280), 4.0)
    sink.write_event(event_of("alarm_end", 280, alarm="gate-1", peak_score=5.0, duration_s=9.0))
    sink.write_step(make_step(make_score(400, 9.0)))
    sink.write_event(event_of("gap", 401, reason="start"))
    heard = contents(ears.wait_for("events", has(5)))
    assert [(it["type"], it["frame"], it.get("alarm")) for it in heard] == [
        ("new", 0, "gate-1"),
        ("update", 25, "gate-1"),
        ("update", 275, "gate-1"),
        ("end", 280, "gate-1"),
        ("event", 401, None),
    ]
    assert heard[0] | {"score": 4.0, "threshold": 3.0, "wall_time_s": 1e9, "stream": "gate"} == heard[0]
    assert heard[1] | {"score": 4.5, "peak_score": 5.0, "duration_s": 1.0, "wall_time_s": 1e9 + 1} == heard[1]
    assert heard[3] | {"peak_score": 5.0, "duration_s": 9.0} == heard[3]
    assert heard[4] | {"event": "gap", "reason": "start"} == heard[4]


@needs_mosquitto
def test_the_score_is_told_once_a_second_and_not_kept(sink: MqttSink, ears: Listener, mosquitto: Broker) -> None:
    write_scores(sink, range(60), 1.5)
    heard = ears.wait_for("score", has(3))
    assert frames_of(heard) == [0, 25, 50]
    assert heard[0].content["score"] == 1.5 and heard[0].content["is_anomalous"] is False
    assert not any(it.is_retained for it in heard)


@needs_mosquitto
def test_a_late_listener_learns_who_is_there(sink: MqttSink, ears: Listener, mosquitto: Broker) -> None:
    ears.close()
    with listener(mosquitto.port, "edge-runtime/gate") as late:
        (state,) = late.wait_for("availability", bool)
    assert (state.text, state.is_retained) == ("online", True)


@needs_mosquitto
def test_the_end_is_offline_and_leaves_no_thread(mosquitto: Broker, ears: Listener) -> None:
    before = threading.enumerate()
    sink = MqttSink(f"mqtt://127.0.0.1:{mosquitto.port}", "gate")
    for index in range(50):
        sink.write_event(event_of("gap", index))
    sink.close()
    assert threading.enumerate() == before
    assert [it.text for it in ears.wait_for("availability", lambda heard: len(heard) >= 2)] == ["online", "offline"]
    assert frames_of(ears.wait_for("events", has(50))) == list(range(50))


# The broker goes and comes back


@needs_mosquitto
def test_nothing_is_lost_and_order_kept_while_the_broker_is_away(
    sink: MqttSink, ears: Listener, mosquitto: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    count, pause = 0, threading.Event()
    for _ in range(10):
        sink.write_event(event_of("gap", count))
        count += 1
    ears.wait_for("events", has(count))
    mosquitto.stop(signal.SIGKILL)
    back_at = monotonic() + OUTAGE_S
    while monotonic() < back_at:
        sink.write_event(event_of("gap", count))
        count += 1
        pause.wait(0.05)
    mosquitto.start()
    for _ in range(10):  # some of them before the sink has noticed
        sink.write_event(event_of("gap", count))
        count += 1
    wait_until(lambda: sink.is_connected, "the sink does not come back")
    sink.write_event(event_of("gap", count))
    heard = frames_of(ears.wait_for("events", ends_with(count)))
    assert list(dict.fromkeys(heard)) == list(range(count + 1))
    assert len(heard) - len(set(heard)) <= 20  # what was in flight may come twice
    assert caplog.text.count("away") <= 2  # lost, then out of reach


@needs_mosquitto
def test_a_broker_that_restarts_again_and_again_gets_everything_in_order(sink: MqttSink, ears: Listener, mosquitto: Broker) -> None:
    count, pause = 0, threading.Event()
    for _ in range(4):
        for _ in range(200):
            sink.write_event(event_of("gap", count))
            count += 1
            pause.wait(0.001)
        mosquitto.stop(signal.SIGTERM)  # in the middle of it; what it acknowledged, it remembers
        mosquitto.start()
    heard = frames_of(ears.wait_for("events", ends_with(count - 1)))
    assert list(dict.fromkeys(heard)) == list(range(count))


@needs_mosquitto
def test_an_alarm_that_is_open_at_the_return_is_brought_up_to_date_by_one_update(sink: MqttSink, ears: Listener, mosquitto: Broker) -> None:
    mosquitto.stop()
    wait_until(lambda: not sink.is_connected, "the loss goes unnoticed")
    sink.write_event(event_of("alarm_start", 0, alarm="gate-1", score=4.0, threshold=3.0))
    write_scores(sink, range(1, 500), 7.0)
    mosquitto.start()
    ears.wait_for("events", has(1))
    write_scores(sink, range(500, 520), 5.0)
    sink.write_event(event_of("alarm_end", 520, alarm="gate-1", peak_score=7.0))
    heard = contents(ears.wait_for("events", has(3)))
    assert [(it["type"], it["frame"]) for it in heard] == [("new", 0), ("update", 500), ("end", 520)]
    assert heard[1]["peak_score"] == 7.0


@needs_mosquitto
def test_beyond_its_limit_the_oldest_are_lost_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with broker(tmp_path) as it:
        Listener(it.port, "edge-runtime/gate").close()  # from here on the broker keeps what it misses
        it.stop(signal.SIGTERM)
        sink = MqttSink(f"mqtt://127.0.0.1:{it.port}", "gate", spool_limit=5)
        for index in range(8):
            sink.write_event(event_of("gap", index))
        it.start()
        with listener(it.port, "edge-runtime/gate") as ears:
            heard = frames_of(ears.wait_for("events", has(5)))
        sink.close()
    assert heard == [3, 4, 5, 6, 7]
    assert sum(record.args[-1] for record in caplog.records if "the oldest" in record.msg) == 3  # in one line or more


# The process dies


@needs_mosquitto
def test_the_last_will_of_a_killed_process_is_seen(ears: Listener, mosquitto: Broker) -> None:
    process = run_sink(mosquitto.port, "import time; time.sleep(60)")
    try:
        ears.wait_for("availability", lambda heard: [it.text for it in heard] == ["online"])
    finally:
        process.kill()
        process.wait()
    heard = ears.wait_for("availability", lambda heard: len(heard) == 2)
    assert [it.text for it in heard] == ["online", "offline"]


@needs_mosquitto
def test_what_waited_on_disk_is_sent_first_by_the_next_process(tmp_path: Path) -> None:
    folder, spool = tmp_path / "broker", tmp_path / "spool"
    folder.mkdir()
    spool.mkdir()
    away = Broker(folder)
    program = """
for index in range(100):
    sink.write_event(Event(EventKind.GAP, "gate", index, 0.0, 0.0))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_sink(away.port, program, spool).wait(30) == -signal.SIGKILL
    away.start()
    try:
        with listener(away.port, "edge-runtime/gate") as ears:
            sink = MqttSink(f"mqtt://127.0.0.1:{away.port}", "gate", spool_dir=spool)
            sink.write_event(event_of("gap", 100))
            assert frames_of(ears.wait_for("events", has(101))) == list(range(101))
            sink.close()
        assert os.listdir(spool) == []
    finally:
        away.stop()


def test_what_cannot_be_delivered_at_the_end_stays_on_disk_and_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = threading.enumerate()
    url = f"mqtt://127.0.0.1:{free_port()}"
    for already in (0, 3):
        sink = MqttSink(url, "gate", spool_dir=tmp_path, close_wait_s=0.2)
        for index in range(3):
            sink.write_event(event_of("gap", already + index))
        sink.close()
    assert threading.enumerate() == before
    assert not missing(caplog.text, "delivered: 3 … next start")
    assert not missing(caplog.text, "delivered: 6 … next start")


def test_without_a_folder_they_are_lost_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    sink = MqttSink(f"mqtt://127.0.0.1:{free_port()}", "gate", close_wait_s=0.1)
    sink.write_event(event_of("gap", 0))
    sink.close()
    assert not missing(caplog.text, "delivered: 1 … lost")


@needs_mosquitto
def test_a_broker_that_hangs_keeps_nobody(sink: MqttSink, mosquitto: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = threading.enumerate()
    hung = MqttSink(f"mqtt://127.0.0.1:{mosquitto.port}/other", "other", close_wait_s=0.3)
    wait_until(lambda: hung.is_connected, "no connection")
    mosquitto.freeze()
    for index in range(100):
        hung.write_event(event_of("gap", index))
    hung.close()
    assert threading.enumerate() == before
    assert not missing(caplog.text, "delivered: 100")


# Credentials and encryption


@needs_mosquitto
def test_a_wrong_password_is_refused_once_in_the_log_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    passwords = tmp_path / "passwords"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "camera", "right-secret"], check=True, capture_output=True)
    with broker(tmp_path, "allow_anonymous false", f"password_file {passwords}") as it:
        wrong = MqttSink(f"mqtt://camera:wr%6Fng-secret@127.0.0.1:{it.port}", "gate", spool_dir=tmp_path, close_wait_s=2.5)
        wrong.write_event(event_of("gap", 0))
        wrong.close()  # after a second try
        right = MqttSink(f"mqtt://camera:right-secret@127.0.0.1:{it.port}", "gate", close_wait_s=30)
        right.write_event(event_of("gap", 0))
        right.close()
    shown = caplog.text + repr(wrong) + repr(wrong.__dict__) + "".join(path.read_text() for path in tmp_path.glob("*.jsonl"))
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["mqtt-edge-runtime%2Fgate.jsonl"]
    assert caplog.text.count("refused ('Not authorized')") == 1
    assert len([message for message in caplog.messages if "delivered" in message]) == 1
    assert "secret" not in shown and "wr%6F" not in shown and "camera:" not in shown


@needs_mosquitto
def test_a_password_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "camera", "right-secret"], check=True, capture_output=True)
    monkeypatch.setenv("EDGE_MQTT_PASSWORD", "right-secret")
    with broker(tmp_path, "allow_anonymous false", f"password_file {passwords}") as it:
        sink = MqttSink(f"mqtt://camera@127.0.0.1:{it.port}", "gate", close_wait_s=30)
        sink.write_event(event_of("gap", 0))
        sink.close()
    assert caplog.messages == []


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a broker with a certificate of its own, and that certificate."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(key), "-out", str(certificate), *names]
    subprocess.run(make, check=True, capture_output=True)
    with broker(tmp_path, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}") as it:
        yield f"mqtts://127.0.0.1:{it.port}", certificate


@needs_mosquitto
def test_tls_trusts_the_authority_it_is_given(encrypted: tuple[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    url, certificate = encrypted
    sink = MqttSink(url, "gate", ca_file=certificate, close_wait_s=30)
    sink.write_event(event_of("gap", 0))
    sink.close()
    assert caplog.messages == []


@needs_mosquitto
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # paho leaves a socket to the collector after a failed handshake
def test_tls_trusts_no_other_authority(encrypted: tuple[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    url, _ = encrypted
    sink = MqttSink(url, "gate", close_wait_s=0.5)
    sink.write_event(event_of("gap", 0))
    sink.close()
    gc.collect()
    assert not missing(caplog.text, "delivered")


# What is refused


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://host/secret", "mqtt:// or mqtts://"),
        ("mqtt://", "a host"),
        ("mqtt://u:secret@host:port", "be read"),
        ("mqtt://u:secret@a..b", "be read"),
        ("mqtt://host/site/#secret", ". … #"),
        ("mqtt://host/site/%2B/gate", "wildcards"),
    ],
)
def test_a_url_that_is_none_is_refused_and_not_repeated(url: str, complaint: str) -> None:
    with raises(ConfigError, complaint) as refusal:
        MqttSink(url, "gate")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "stream", "address"),
    [
        ("mqtt://host", "gate", "mqtt://host:1883/edge-runtime/gate"),
        ("mqtts://host/", "a/b+c", "mqtts://host:8883/edge-runtime/a_b_c"),
        ("mqtt://u:p@[::1]:1/site/gate/", "x", "mqtt://[::1]:1/site/gate"),
    ],
)
def test_an_address_without_what_goes_without_saying(url: str, stream: str, address: str) -> None:
    assert str(MqttAddress.from_url(url, stream)) == address


def test_what_waits_for_one_base_is_not_taken_for_anothers() -> None:
    bases = ("site/gate", "site_gate", "Site/gate", "日本", "東京")
    assert len({MqttAddress.from_url(f"mqtt://host/{base}", "gate").file_name for base in bases}) == len(bases)


def test_user_and_password_are_unquoted_and_never_shown() -> None:
    address = MqttAddress.from_url("mqtt://us%40er:pass%2Fword@host", "gate")
    assert (address.user, address.password) == ("us@er", "pass/word")
    assert "us@er" not in repr(address) + str(address) and "pass" not in repr(address) + str(address)


def test_a_missing_spool_folder_is_a_sink_error(tmp_path: Path) -> None:
    with raises(SinkError, str(tmp_path / "nowhere")):
        MqttSink("mqtt://127.0.0.1", "gate", spool_dir=tmp_path / "nowhere")


def test_certificates_that_are_none_are_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    for path in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with raises(ConfigError, "certificates"):
            MqttSink("mqtts://127.0.0.1", "gate", ca_file=path)


def test_without_paho_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with raises(BackendUnavailable, "edge-runtime[alerts]"):
        MqttSink("mqtt://127.0.0.1", "gate")


def run_sink(port: int, program: str, spool: Path | None = None) -> subprocess.Popen[bytes]:
    """A process of its own with a sink."""
    start = f"""
import os, signal
from pathlib import Path
from edge_runtime.score import Event, EventKind
from edge_runtime.sinks.alerts.mqtt import MqttSink
sink = MqttSink("mqtt://127.0.0.1:{port}", "gate", spool_dir={str(spool) if spool else None!r})
"""
    return subprocess.Popen([sys.executable, "-c", start + program], cwd=ROOT)
