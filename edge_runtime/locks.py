"""One writer to a folder of results at a time: two would remove and mix what the other writes."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_runtime.errors import ConfigError, SinkError
from edge_runtime.files import unwritable

__all__ = ["locked_folder", "open_lock"]

LOCK = ".lock"

log = logging.getLogger(__name__)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """A folder, made where it is missing, that nobody else locks meanwhile; made and left empty, it goes away again.

    On a file system without locks nothing keeps others from it, which the log says.

    Raises:
        ConfigError: somebody else has it.
        SinkError: it cannot be made or written.
    """
    made: list[Path] = []
    try:
        made += [place for place in (folder, *folder.parents) if not place.exists()]
        lock = _lock(folder)
    except OSError as error:
        _remove_empty(made)
        raise _unusable(folder, error) from error
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        os.close(lock)
        _remove_empty(made)


def open_lock(path: Path) -> int:
    """Open the file to lock, made where it is missing; for reading alone where another user made it, which is enough but on NFS.

    Raises:
        OSError: neither can be done.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        raise


def _lock(folder: Path) -> int:
    """A descriptor that holds the folder's lock until it is closed, at the latest when this process ends."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open_lock(folder / LOCK)
        try:
            _take(folder, lock)
            if _is_there(folder / LOCK, lock):  # not removed by its last owner between opening and locking
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _take(folder: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(
            f"{folder}: expected a folder of its own, another run is writing there. Let that one end, or say another folder."
        ) from error
    except OSError as error:
        log.warning("%s: cannot be locked (%s): see to it that no other run writes there.", folder, error.strerror)


def _is_there(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _unusable(folder: Path, error: OSError) -> SinkError:
    return unwritable(folder / LOCK, error) if folder.is_dir() else unwritable(folder, error, what="folder")


def _remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders, innermost first, that hold nothing."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
