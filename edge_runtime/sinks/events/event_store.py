"""A folder of events that does not outgrow its share of the disk.

An event is a folder with `event.json`, written under a hidden name and renamed when it is complete. Only folders that
hold nothing but an event's own files are counted and, oldest first, removed: put a note into one and it is yours.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from edge_runtime.errors import ConfigError
from edge_runtime.files import move_into_place, unwritable

__all__ = ["CLIP", "FACTS", "PEAK", "EventFolder", "EventStore", "event_folder_name"]

FACTS, CLIP, PEAK = "event.json", "clip.mp4", "peak.jpg"

_BYTES_PER_MB = 1_000_000
_HIDDEN = ".event-"
_HIDDEN_NAME = re.compile(r"\.event-[0-9a-f]{8}")
_LONGEST_NAME_BYTES = 200


def event_folder_name(alarm: str) -> str:
    """The name of an alarm's folder: the alarm's own, with a `_` for what a file system or a shell may not like."""
    safe = re.sub(r"[^\w.-]", "_", alarm).encode()[-_LONGEST_NAME_BYTES:]  # the end says when it was
    return safe.decode(errors="ignore").lstrip(".-") or "alarm"


class EventStore:
    """The events of one folder, of this run and earlier ones.

    Runs may share the folder. What a killed run left half-written is removed when a store is made; what another one
    is writing is left alone.

    Args:
        folder: made if it is missing; the one that holds it must be there.
        capacity_mb: megabytes (10⁶ bytes) that all events together may take. The newest one stays even if it alone is larger.

    Raises:
        ConfigError: a capacity that is not a positive number.
        SinkError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, capacity_mb: float = 2000.0) -> None:
        if not 0 < capacity_mb < float("inf"):
            raise ConfigError(f"capacity_mb: expected megabytes above 0, got {capacity_mb}. A day of alarms rarely needs more than 2000.")
        self.folder = Path(folder)
        self._capacity = capacity_mb * _BYTES_PER_MB
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self.folder)
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def begin(self, alarm: str) -> EventFolder:
        """A hidden folder for the files of a new event.

        Raises:
            SinkError: it cannot be made.
        """
        path = self.folder / event_folder_name(alarm)
        hidden = _hidden_in(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # somebody may have tidied up
            hidden.mkdir()
            return EventFolder(hidden, path, _lock(hidden))
        except OSError as error:
            raise unwritable(path, error) from error

    def keep(self, event: EventFolder) -> None:
        """Give a complete event its name; the oldest events go where the room is needed.

        Raises:
            SinkError: it cannot be renamed, or another event has its name; or an old event cannot be removed.
        """
        try:
            if event.path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            self._make_room(_size(event.hidden))
            move_into_place(event.hidden, event.path)
        except OSError as error:
            raise unwritable(event.path, error) from error
        event.unlock()

    def _make_room(self, size: int) -> None:
        """Remove the oldest events until `size` bytes more are within the capacity."""
        events = _events_in(self.folder)
        sizes = {event: _size(event) for event in events}
        excess = sum(sizes.values()) + size - self._capacity
        for event in events:
            if excess <= 0:
                return
            excess -= sizes[event]
            _remove(event)


class EventFolder:
    """An event that is being written.

    Attributes:
        hidden: where its files go.
        path: where they will be found.
    """

    def __init__(self, hidden: Path, path: Path, lock: int | None) -> None:
        self.hidden = hidden
        self.path = path
        self._lock = lock

    def discard(self) -> None:
        """Remove what was written so far."""
        shutil.rmtree(self.hidden, ignore_errors=True)
        self.unlock()

    def unlock(self) -> None:
        """The folder is no longer being written."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _events_in(folder: Path) -> list[Path]:
    """The events, oldest first."""
    events = [(_completed_ns(path), path.name, path) for path in folder.iterdir() if not path.name.startswith(".") and _is_event(path)]
    return [path for _, _, path in sorted(events)]


def _is_event(path: Path) -> bool:
    """A folder with `event.json` and nothing in it that an event does not have."""
    if path.is_symlink() or not path.is_dir():
        return False
    with suppress(OSError):
        names = set(os.listdir(path))
        return FACTS in names and names <= {FACTS, CLIP, PEAK}
    return False


def _completed_ns(path: Path) -> int:
    with suppress(OSError):
        return (path / FACTS).stat().st_mtime_ns
    return 0


def _size(path: Path) -> int:
    """Bytes in the files of a folder; 0 where it is gone by now."""
    with suppress(FileNotFoundError), os.scandir(path) as files:
        return sum(file.stat(follow_symlinks=False).st_size for file in files)
    return 0


def _remove(event: Path) -> None:
    """Remove an event so that a kill half-way leaves no half event under its name."""
    hidden = _hidden_in(event.parent)
    with suppress(FileNotFoundError):  # another run was faster
        os.replace(event, hidden)
        shutil.rmtree(hidden)


def _remove_leftovers(folder: Path) -> None:
    for path in folder.iterdir():
        if _HIDDEN_NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            _remove_unless_locked(path)


def _remove_unless_locked(path: Path) -> None:
    lock = _lock(path)
    if lock is not None:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _hidden_in(folder: Path) -> Path:
    return folder / f"{_HIDDEN}{secrets.token_hex(4)}"


def _lock(path: Path) -> int | None:
    """A descriptor of a folder that is locked as long as it is open, at the latest until this process ends, killed or not.

    None where another process has locked it, it is gone, or its file system has no locks: then leftovers stay.
    """
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
    return None
