"""Messages that wait for their delivery: in order, bounded, and on disk where they shall outlive the process."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_runtime.errors import SinkError
from edge_runtime.files import path_beside, unwritable
from edge_runtime.sinks.tables.line_file import LineFile

__all__ = ["Spool"]

_FEWEST_STALE_LINES = 1000  # before the file is written anew

log = logging.getLogger(__name__)

_Entry = tuple[int, bytes]  # number, message


class Spool:
    """A queue of JSON messages, oldest first. Not safe for threads: its owner holds a lock.

    On disk it is a file of lines, one for a message that came and one for those that are done; it outlives a kill of the
    process at any moment. It is not forced onto the disk: a power cut may take the newest lines. Where the disk fails later
    on, messages go on waiting in memory, and a warning says so.

    Args:
        limit: how many messages may wait; beyond it, each new one pushes out the oldest.
        path: the file; what an earlier process left in it waits first. None keeps messages in memory alone.

    Attributes:
        lost: messages pushed out so far.

    Raises:
        SinkError: the file cannot be read or written.
    """

    def __init__(self, limit: int, path: Path | None = None) -> None:
        self.lost = 0
        self._limit = limit
        self._path = path
        self._taken: list[_Entry] = []
        self._waiting: deque[_Entry] = deque()
        self._next_number = 0
        self._stale_lines = 0
        self._is_behind = False  # the file lacks something
        self._file: LineFile | None = None
        if path is not None:
            self._load(path)

    def __len__(self) -> int:
        """Messages that are not done."""
        return len(self._taken) + len(self._waiting)

    @property
    def is_durable(self) -> bool:
        """What waits is found again by the next process."""
        return self._file is not None and not self._is_behind

    def append(self, message: bytes) -> None:
        """Put a message, JSON on one line, behind the others."""
        entry = (self._next_number, message)
        self._next_number += 1
        self._waiting.append(entry)
        self._record(_message_line(entry))
        if len(self._waiting) > self._limit:
            number, _ = self._waiting.popleft()
            self.lost += 1
            self._record(_done_line([number]), stale=2)

    def take(self, count: int) -> list[bytes]:
        """The oldest messages, `count` at most, to be delivered; those taken before must be done."""
        self._taken = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        return [message for _, message in self._taken]

    def done(self) -> None:
        """The messages that were taken are delivered."""
        numbers = [number for number, _ in self._taken]
        self._taken = []
        self._record(_done_line(numbers), stale=len(numbers) + 1)

    def close(self) -> None:
        """Close the file; what is not done stays in it, and no file stays where all is."""
        if self._file is not None:
            self._file.close()
        if self._path is not None and not len(self):
            with suppress(OSError):
                self._path.unlink()

    def _load(self, path: Path) -> None:
        try:
            left = list(_messages_left(path)) if path.exists() else []
        except OSError as error:
            raise SinkError(f"{path}: expected messages that wait, got '{error.strerror}'. Move the file away.") from error
        self.lost = max(0, len(left) - self._limit)
        self._waiting.extend(enumerate(left[self.lost :]))
        self._next_number = len(self._waiting)
        self._rewrite(path)

    def _record(self, line: bytes, *, stale: int = 0) -> None:
        """Append a line that makes some lines needless; a disk that fails is no reason to stop."""
        if self._file is None or self._path is None:
            return
        self._stale_lines += stale
        try:
            if self._is_behind:
                self._rewrite(self._path)
            elif not len(self):
                self._file.clear()
                self._stale_lines = 0
            else:
                self._file.append(line)
                self._rewrite_if_stale(self._path)
        except SinkError as error:
            if not self._is_behind:
                log.warning("%s Messages wait in memory until then, and would not outlive the process.", error)
            self._is_behind = True

    def _rewrite_if_stale(self, path: Path) -> None:
        if self._stale_lines > max(_FEWEST_STALE_LINES, len(self)):
            self._rewrite(path)

    def _rewrite(self, path: Path) -> None:
        """Replace the file by one with the messages that are not done."""
        beside = path_beside(path)
        try:
            beside.write_bytes(b"".join(_message_line(entry) + b"\n" for entry in [*self._taken, *self._waiting]))
            os.replace(beside, path)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            raise unwritable(path, error) from error
        if self._file is not None:
            self._file.close()
        self._file = LineFile(path, keep=True)
        self._stale_lines = 0
        self._is_behind = False


def _messages_left(path: Path) -> Iterator[bytes]:
    """The messages in a file that are not done, oldest first; lines that a power cut broke are left out."""
    messages: dict[int, bytes] = {}
    with open(path, "rb") as lines:
        for text in lines:
            line = _parsed(text)
            if line is None:
                log.warning("%s: a line is broken and left out.", path)
            elif line.message:
                messages[line.number] = bytes(line.message)
            for number in line.done if line else ():
                messages.pop(number, None)
    yield from messages.values()


class _Line(msgspec.Struct, omit_defaults=True):
    """A message with its number, or the numbers that are done."""

    number: int = -1
    message: msgspec.Raw = msgspec.Raw()
    done: list[int] = []


def _parsed(text: bytes) -> _Line | None:
    try:
        return msgspec.json.decode(text, type=_Line)
    except msgspec.MsgspecError:
        return None


def _message_line(entry: _Entry) -> bytes:
    number, message = entry
    return msgspec.json.encode(_Line(number=number, message=msgspec.Raw(message)))


def _done_line(numbers: list[int]) -> bytes:
    return msgspec.json.encode(_Line(done=numbers))
