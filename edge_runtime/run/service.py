"""What a service tells systemd: that it is ready, how it goes, that it still makes progress, that it ends.

The protocol is one datagram of `NAME=value` to the socket that `NOTIFY_SOCKET` names (sd_notify(3)).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from time import monotonic

__all__ = ["Service"]

SEND_WITHIN_S = 1.0

log = logging.getLogger(__name__)


class Service:
    """This process as systemd sees it; every call does nothing where systemd did not start it.

    `progress` must only be called for work that was really done. Nothing here runs by itself, so a process that hangs falls
    silent, and systemd restarts it.

    Args:
        environment: with `NOTIFY_SOCKET` and `WATCHDOG_USEC`, as systemd sets them.
        clock: seconds that only go forward.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, *, clock: Callable[[], float] = monotonic) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._beat_s = _watchdog_s(environment) / 3
        self._clock = clock
        self._beat_at = -1.0

    @property
    def is_there(self) -> bool:
        """Systemd started this process and listens."""
        return self._address is not None

    def ready(self) -> None:
        """Frames are about to be read; from now on the watchdog counts."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; must not carry credentials."""
        self._send("STATUS=" + " ".join(text.split()))

    def progress(self) -> None:
        """A frame was processed, or the camera's reader was seen alive and trying again; cheap enough for every frame."""
        if self._beat_s and (self._beat_at < 0 or self._clock() - self._beat_at >= self._beat_s):
            self._beat_at = self._clock()
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """No more frames; files are being finished."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.settimeout(SEND_WITHIN_S)  # systemd itself may be busy: scoring must not wait for it
                connection.sendto(message.encode(), self._address)
        except OSError as error:
            log.warning("systemd: expected to send %s, got '%s'.", message.partition("=")[0], error)


def _address(name: str) -> str | None:
    """A path, or a name without a file, which systemd writes with @ for the zero byte in front."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Seconds of silence after which systemd restarts this process; 0 where it does not watch it."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else 0.0
