"""The notifications, as a systemd of this size receives them: a datagram socket of the real kind."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.run.service import Service
from tests.kit.wording import missing


class Listener:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def received(self) -> list[str]:
        """What has come since the last time; a datagram to a bound socket is there when `send` returns."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


class Clock:
    """Seconds that go forward when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Listener, str]]:
    """A listener, and NOTIFY_SOCKET as systemd would set it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@edge-runtime-test-{secrets.token_hex(8)}"
    listener = Listener(name.replace("@", "\0"))
    yield listener, name
    listener.close()


def test_it_says_ready_status_and_stopping(systemd: tuple[Listener, str]) -> None:
    listener, name = systemd
    service = Service({"NOTIFY_SOCKET": name})
    service.ready()
    service.status("gate: reading, 25 fps")
    service.stopping()
    assert listener.received() == ["READY=1", "STATUS=gate: reading, 25 fps", "STOPPING=1"]


def test_a_status_cannot_carry_another_message(systemd: tuple[Listener, str]) -> None:
    listener, name = systemd
    Service({"NOTIFY_SOCKET": name}).status("lost:\nREADY=1\n")
    assert listener.received() == ["STATUS=lost: READY=1"]


def test_progress_is_sent_at_most_every_third_of_the_watchdogs_time(systemd: tuple[Listener, str]) -> None:
    listener, name = systemd
    clock = Clock()
    service = Service({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000"}, clock=clock)
    beats = []
    for _ in range(61):  # a frame a second for a minute
        service.progress()
        beats.append(listener.received())
        clock.now_s += 1
    assert [second for second, beat in enumerate(beats) if beat] == [0, 20, 40, 60]
    assert {message for beat in beats for message in beat} == {"WATCHDOG=1"}


def test_without_progress_nothing_is_sent(systemd: tuple[Listener, str]) -> None:
    listener, name = systemd
    clock = Clock()
    service = Service({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000"}, clock=clock)
    service.ready()
    listener.received()
    clock.now_s += 3600
    service.status("still here")
    assert listener.received() == ["STATUS=still here"]


@pytest.mark.parametrize(
    "watchdog", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getppid())}]
)
def test_without_a_watchdog_of_its_own_progress_is_not_sent(systemd: tuple[Listener, str], watchdog: dict[str, str]) -> None:
    listener, name = systemd
    service = Service({"NOTIFY_SOCKET": name} | watchdog)
    service.progress()
    service.ready()
    assert listener.received() == ["READY=1"]


def test_a_watchdog_for_this_process_counts(systemd: tuple[Listener, str]) -> None:
    listener, name = systemd
    Service({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}).progress()
    assert listener.received() == ["WATCHDOG=1"]


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "60000000"}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_outside_systemd_it_does_nothing(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    service = Service(environment)
    with caplog.at_level(logging.DEBUG):
        for call in (service.ready, service.progress, service.stopping):
            call()
        service.status("reading")
    assert caplog.messages == []


def test_a_systemd_that_went_away_does_not_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = Service({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    service.ready()
    [said] = caplog.messages
    assert said.startswith("systemd: ") and not missing(said, "READY … No such file or directory")


def test_it_reads_this_processs_environment(systemd: tuple[Listener, str], monkeypatch: pytest.MonkeyPatch) -> None:
    listener, name = systemd
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    Service().ready()
    assert listener.received() == ["READY=1"]
