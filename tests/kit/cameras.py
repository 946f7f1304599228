"""A camera on the network that does what a test tells it to, misbehaving included; and a bad line to it."""

from __future__ import annotations

import contextlib
import json
import random
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.kit.drawn_footage import Reel, black_reel

__all__ = ["SYSTEM_PYTHON", "Pattern", "Proxy", "RtspCamera"]

SYSTEM_PYTHON = Path("/usr/bin/python3")
SERVER = Path(__file__).with_name("rtsp_server.py")
LONGEST_ANSWER_S = 20


@dataclass(frozen=True)
class Pattern:
    """GStreamer's moving ball; it can be started, stopped and killed, but not frozen or switched while it runs."""

    width: int = 320
    height: int = 240
    fps: int = 15


class RtspCamera:
    """An RTSP server with one stream, in a process of its own; a context manager, started when entered.

    Args:
        shown: what it shows, from the beginning when it ends.
        codec: `h264` or `mjpeg`.
        user, password: wanted from whoever connects (basic authentication); anybody may where None.
    """

    def __init__(self, shown: Reel | Pattern, *, codec: str = "h264", user: str | None = None, password: str | None = None) -> None:
        self._shown = shown
        self._codec = codec
        self._user = user
        self._password = password
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

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
        return f"rtsp://127.0.0.1:{self._port}/camera"

    def uri_at(self, port: int) -> str:
        """With the credentials, at the port of a `Proxy`."""
        who = f"{self._user}:{self._password}@" if self._user else ""
        return f"rtsp://{who}127.0.0.1:{port}/camera"

    def __enter__(self) -> RtspCamera:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self.kill()

    def start(self) -> None:
        """Start it and wait until it listens."""
        assert self._process is None
        self._process = subprocess.Popen([SYSTEM_PYTHON, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        kind = "reel" if isinstance(self._shown, Reel) else "pattern"
        who = {"user": self._user, "password": self._password}
        try:
            self._port = self._tell({kind: _plain(self._shown), "codec": self._codec, "port": self._port} | who)["port"]
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL: its connections are reset, nobody listens any more."""
        assert self._process is not None
        process, self._process = self._process, None
        process.kill()
        with process:  # closes the pipes and waits
            pass

    def restart(self) -> None:
        """Kill it, if it runs, and start it again at the same port, with what it showed last."""
        if self._process:
            self.kill()
        self.start()

    def stall(self) -> None:
        """SIGSTOP: its connections stay open and new ones are accepted by the kernel, but nothing comes."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: go on after `stall`."""
        self._signal(signal.SIGCONT)

    def freeze(self) -> None:
        """Send the same picture over and over."""
        self._tell({"freeze": True})

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._tell({"freeze": False})

    def show(self, reel: Reel) -> None:
        """Show something else of the same size in the sessions that are open."""
        self._shown = reel
        self._tell({"show": _plain(reel)})

    def black(self) -> None:
        """Send all-black pictures; `show` ends it."""
        assert isinstance(self._shown, Reel)
        self._tell({"show": _plain(black_reel(self._shown))})

    def switch(self, reel: Reel, *, hang_up: bool = True) -> None:
        """Show something of another size, as a camera does whose settings were changed.

        Args:
            hang_up: end all sessions; the new size comes with the next. False: the size changes within the session, which
                PyAV and GStreamer show; OpenCV's FFmpeg scales the pictures to the size that the session began with.
        """
        self._shown = reel
        self._tell({"show": _plain(reel), "hang_up": hang_up})

    def hang_up(self) -> None:
        """End all sessions; new ones are welcome."""
        self._tell({"hang_up": True})

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _tell(self, wanted: dict[str, Any]) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        assert select.select([self._process.stdout], [], [], LONGEST_ANSWER_S)[0], "the RTSP server does not answer"
        line = self._process.stdout.readline()
        assert line, "the RTSP server ended; what it said is in the captured output"
        answer: dict[str, Any] = json.loads(line)
        return answer


class Proxy:
    """A TCP line to a port of the loopback, with something wrong with it on command; a context manager.

    RTSP goes through it where both sides agree on TCP.

    Args:
        target_port: where it leads.
        seed: of the damage it does.
    """

    def __init__(self, target_port: int, *, seed: int = 0) -> None:
        self._target_port = target_port
        self._random = random.Random(seed)
        self._damage = self._loss = 0.0
        self._unsent = b""
        self._is_silent = self._is_refusing = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def port(self) -> int:
        """Where it listens, on the loopback."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Proxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        # Wakes the thread that waits for a caller; closing alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def mend(self) -> None:
        """Let everything through, as at the beginning."""
        self._damage = self._loss = 0.0
        self._is_silent = self._is_refusing = False

    def corrupt(self, share: float) -> None:
        """Replace this share, in [0, 1], of the bytes that come from the target by random ones."""
        self._damage = share

    def lose(self, share: float) -> None:
        """Leave out this share, in [0, 1], of the packets with pictures in an RTSP session, as a camera does whose line is too slow."""
        self._loss = share

    def blackhole(self) -> None:
        """Swallow everything in both directions and keep the connections open."""
        self._is_silent = True

    def refuse(self) -> None:
        """End all connections, and every new one as soon as it is made."""
        self._is_refusing = True
        self.cut()

    def cut(self) -> None:
        """End all connections; new ones are welcome."""
        with self._lock:
            for end in self._open:
                _shut(end)

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._connect, args=(caller,))
            self._threads.append(thread)
            thread.start()

    def _connect(self, caller: socket.socket) -> None:
        with caller:
            try:
                target = socket.create_connection(("127.0.0.1", self._target_port), timeout=LONGEST_ANSWER_S)
            except OSError:
                return
            with target:
                self._join(caller, target)

    def _join(self, caller: socket.socket, target: socket.socket) -> None:
        target.settimeout(None)
        with self._lock:
            if self._is_refusing:
                return
            self._open |= {caller, target}
        asked = threading.Thread(target=self._pump, args=(caller, target))
        asked.start()
        self._pump(target, caller, self._damaged)
        asked.join()
        with self._lock:
            self._open -= {caller, target}

    def _pump(self, source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes] = bytes) -> None:
        try:
            while data := source.recv(1 << 16):
                if not self._is_silent:
                    sink.sendall(change(data))
        except OSError:
            pass  # one of the ends is gone; so is the other, now
        _shut(source)
        _shut(sink)

    def _damaged(self, data: bytes) -> bytes:
        damaged = bytearray(self._thinned(data) if self._loss else data)
        if self._damage:
            for index in range(len(damaged)):
                if self._random.random() < self._damage:
                    damaged[index] = self._random.randrange(256)
        return bytes(damaged)

    def _thinned(self, data: bytes) -> bytes:
        """Without some of its packets, each of which has a head of `$`, channel and length; a packet that has not come to its end waits."""
        self._unsent += data
        kept = b""
        while len(self._unsent) >= 4:
            is_packet = self._unsent[:1] == b"$"
            length = 4 + int.from_bytes(self._unsent[2:4], "big") if is_packet else len(self._unsent)
            if len(self._unsent) < length:
                break
            packet, self._unsent = self._unsent[:length], self._unsent[length:]
            if not is_packet or packet[1] != 0 or self._random.random() >= self._loss:
                kept += packet
        return kept


def _plain(shown: Reel | Pattern) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(shown).items()}


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
