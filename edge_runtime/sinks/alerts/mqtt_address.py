"""Where an MQTT broker is, and under which topics one stream stands there."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit

from edge_runtime.errors import ConfigError

__all__ = ["MqttAddress"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_EXAMPLE = "Example: mqtt://user:password@192.168.1.5:1883/site/gate"


@dataclass(frozen=True)
class MqttAddress:
    """A broker and a base topic; its text is without credentials.

    Attributes:
        host, port: of the broker.
        is_encrypted: TLS.
        base: what all topics begin with.
        user, password: None where there are none.
    """

    host: str
    port: int
    is_encrypted: bool
    base: str
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str, stream: str) -> MqttAddress:
        """Read `mqtt://user:password@host:1883/base/topic`; see `MqttSink`.

        Raises:
            ConfigError: not such a URL; the message does not repeat it, for it may hold a password.
        """
        parts, port = _split(url)
        base = unquote(parts.path).strip("/") or f"edge-runtime/{_one_level(stream)}"
        if re.search(r"[+#\0]", base):
            raise ConfigError(f"MQTT base topic: expected none of the wildcards + and #, got '{base}'. Publish under one name each.")
        password = unquote(parts.password) if parts.password is not None else os.environ.get("EDGE_MQTT_PASSWORD")
        user = unquote(parts.username) if parts.username else None
        return cls(parts.hostname or "", port, parts.scheme == "mqtts", base, user, password if user else None)

    @property
    def client_id(self) -> str:
        """The same for every run on this machine and topic, so that a broker which still waits for a dead run's keepalive lets
        go of it at once: otherwise its last will would declare the new run offline. 23 characters, which every broker takes."""
        digest = hashlib.sha256(f"{socket.gethostname()}/{self.base}".encode()).hexdigest()
        return f"edge-runtime-{digest[:10]}"

    @property
    def file_name(self) -> str:
        """For what waits to be sent there; another for every base, because what one stream left is no other's to send."""
        return f"mqtt-{quote(self.base, safe='')}.jsonl"

    def topic(self, name: str) -> str:
        """A topic under the base."""
        return f"{self.base}/{name}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.is_encrypted else 'mqtt'}://{host}:{self.port}/{self.base}"


def _split(url: str) -> tuple[SplitResult, int]:
    """The parts of a URL, and its port."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        (parts.hostname or "").encode("idna")  # as a connection will
    except ValueError:
        raise ConfigError(f"MQTT broker: expected a URL, got one that cannot be read. {_EXAMPLE}") from None
    if parts.scheme not in _PORTS:
        raise ConfigError(f"MQTT broker: expected mqtt:// or mqtts://, got a URL that begins otherwise. {_EXAMPLE}")
    if not parts.hostname:
        raise ConfigError(f"MQTT broker: expected a host in the URL, got none. {_EXAMPLE}")
    if parts.query or parts.fragment:
        raise ConfigError(
            f"MQTT broker: expected a URL without ? and #, got one with them. Write them in a password as %3F and %23. {_EXAMPLE}"
        )
    return parts, port


def _one_level(stream: str) -> str:
    """A stream's name as one level of a topic."""
    return re.sub(r"[+#/\0]", "_", stream)
