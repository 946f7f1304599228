"""A real MQTT broker that can be taken away and brought back, and a second client that listens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

__all__ = ["Broker", "Heard", "Listener", "broker", "free_port", "listener"]

LONGEST_S = 30.0


class Broker:
    """Mosquitto on a port of its own; it remembers sessions through a kill.

    Args:
        folder: for its configuration and memory.
        settings: lines of configuration.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        memory = ["persistence true", f"persistence_location {folder}/", "autosave_interval 1", "autosave_on_changes true"]
        limits = ["max_queued_messages 0", "user root"]
        lines = [f"listener {self.port} 127.0.0.1", *memory, *limits, *(settings or ["allow_anonymous true"])]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start it and wait until it listens."""
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None
        with open(self._folder / "mosquitto.log", "ab") as log:
            self._process = subprocess.Popen([program, "-c", str(self._folder / "mosquitto.conf")], stdout=log, stderr=log)
        wait_until(lambda: _listens(self.port), "the broker does not listen")

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it with a signal and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(LONGEST_S)
            self._process = None

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)


@contextmanager
def broker(folder: Path, *settings: str) -> Iterator[Broker]:
    """A broker that listens."""
    it = Broker(folder, *settings)
    it.start()
    try:
        yield it
    finally:
        it.stop()


@dataclass(frozen=True)
class Heard:
    """A message: its topic under the base, its payload as text, whether the broker had kept it."""

    topic: str
    text: str
    is_retained: bool

    @property
    def content(self) -> dict[str, Any]:
        content = json.loads(self.text)
        assert isinstance(content, dict)
        return content


class Listener:
    """A client that hears everything under a base topic; the broker keeps what it misses."""

    def __init__(self, port: int, base: str) -> None:
        self._base = base
        self._heard: list[Heard] = []
        self._changed = threading.Condition()
        self._is_subscribed = False
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{base}/#", qos=1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        with self._changed:
            assert self._changed.wait_for(lambda: self._is_subscribed, LONGEST_S)

    def heard(self, topic: str) -> list[Heard]:
        """What came under a topic so far."""
        with self._changed:
            return [heard for heard in self._heard if heard.topic == topic]

    def wait_for(self, topic: str, is_there: Callable[[list[Heard]], bool], timeout_s: float = LONGEST_S) -> list[Heard]:
        """What came under a topic, as soon as it is what is waited for."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: is_there([it for it in self._heard if it.topic == topic]), timeout_s)
        assert arrived, f"{topic}: waited in vain, heard {[heard.text for heard in self.heard(topic)]}"
        return self.heard(topic)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_subscribe(self, *_: object) -> None:
        with self._changed:
            self._is_subscribed = True
            self._changed.notify_all()

    def _on_message(self, client: object, userdata: object, message: mqtt.MQTTMessage) -> None:
        with self._changed:
            topic = message.topic.removeprefix(f"{self._base}/")
            self._heard.append(Heard(topic, message.payload.decode(), message.retain))
            self._changed.notify_all()


@contextmanager
def listener(port: int, base: str) -> Iterator[Listener]:
    """A client that listens."""
    it = Listener(port, base)
    try:
        yield it
    finally:
        it.close()


def free_port() -> int:
    """A port of the loopback interface on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(is_so: Callable[[], bool], complaint: str, timeout_s: float = LONGEST_S) -> None:
    """Look again and again, for what cannot be waited for."""
    pause = threading.Event()
    for _ in range(round(timeout_s / 0.02)):
        if is_so():
            return
        pause.wait(0.02)
    raise AssertionError(complaint)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
