"""Files and folders that are either whole or not there.

A file is written beside its place, under a hidden name with the same ending, and renamed when it is complete.
A process that is killed half-way leaves what was there before, and the hidden file: `remove_leftovers` takes it away.
Folders go the same way, with `replacing_folder` and `remove_leftover_folders`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_runtime.errors import SinkError

__all__ = [
    "held",
    "locked",
    "move_into_place",
    "path_beside",
    "remove_leftover_folders",
    "remove_leftovers",
    "replacing",
    "replacing_folder",
    "unwritable",
    "write_atomically",
]

HIDDEN_FOLDER = re.compile(r"\..+\.[0-9a-f]{8}")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file, or leave the one that was there.

    Raises:
        SinkError: the disk is full, or the folder is missing or not writable.
    """
    with replacing(path) as beside:
        beside.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` at the end, or goes away after an error.

    Raises:
        SinkError: the disk is full, or the folder is missing or not writable.
    """
    beside = path_beside(path)
    try:
        with locked(beside):
            yield beside
            move_into_place(beside, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            beside.unlink()


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` to fill; it takes the place of `path` as a whole at the end, or goes away after an error.

    A folder that is there is moved aside first: a process killed between the two renames leaves nothing at `path`.

    Raises:
        SinkError: the disk is full, or the folder above is not writable.
    """
    beside, aside = (path.with_name(f".{path.name}.{secrets.token_hex(4)}") for _ in range(2))
    try:
        beside.mkdir(parents=True)
        with held(beside, is_needed=False):
            yield beside
            for file in beside.iterdir():
                _sync(file)
            _sync(beside)
            if path.exists():
                os.replace(path, aside)
            os.replace(beside, path)
        _sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if aside.exists() and not path.exists():
            os.replace(aside, path)
        for folder in (beside, aside):
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftover_folders(parent: Path) -> None:
    """Remove what killed fillers of folders in `parent` left there; what a living one is filling stays."""
    with suppress(OSError):
        for folder in [entry for entry in parent.iterdir() if HIDDEN_FOLDER.fullmatch(entry.name) and entry.is_dir()]:
            with suppress(OSError), held(folder, is_needed=True):
                shutil.rmtree(folder)


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; what a living one is writing stays, in whichever process."""
    leftover = re.compile(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{8}}{re.escape(path.suffix)}")
    with suppress(OSError):
        for beside in [entry for entry in path.parent.iterdir() if leftover.fullmatch(entry.name)]:
            _remove_unlocked(beside)


@contextmanager
def held(folder: Path, *, is_needed: bool) -> Iterator[None]:
    """Hold a folder's lock, until the end or until this process dies.

    Raises:
        OSError: where it is needed, and another process has it, or the file system has no locks.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(*(() if is_needed else (OSError,))):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def path_beside(path: Path) -> Path:
    """A hidden, unused name in the same folder and with the same ending: many writers choose the format by it."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Create an empty file that `remove_leftovers` leaves alone until the end, or until this process dies.

    For who writes to a `path_beside` that others may look for.

    Raises:
        OSError: it cannot be created.
    """
    while True:
        with open(path, "wb") as file:
            with suppress(OSError):  # a file system without locks: there nothing is removed either
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:  # not removed between its creation and the lock
                yield
                return


def move_into_place(beside: Path, path: Path) -> None:
    """Rename a complete file to its final name, so that it survives a power cut from here on.

    Raises:
        OSError: either cannot be written.
    """
    _sync(beside)
    os.replace(beside, path)
    _sync(path.parent)


def unwritable(path: Path, error: Exception, *, what: str = "file") -> SinkError:
    """The error to raise where writing `path`, a file or a folder, failed; a system error's number decides what it advises."""
    reason = getattr(error, "strerror", None) or error
    remedy = _remedy(path, getattr(error, "errno", None))
    return SinkError(f"{path}: expected to write this {what}, got '{reason}'. {remedy}")


def _remove_unlocked(path: Path) -> None:
    with suppress(OSError), open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _remedy(path: Path, number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "Free space on that disk, or choose an output folder on another one."
    if number == errno.EEXIST:
        return "A file has that name: remove it, or choose another output folder."
    if number == errno.ENOENT:
        return f"Make the folder {path.parent}, or choose another output folder."
    if number == errno.ENOTDIR:
        return f"A file has the name of {path.parent}, or of a folder above it: remove it, or choose another output folder."
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"Allow this user to write in {path.parent}, or choose another output folder."
    return f"Check the disk that holds {path.parent}, or choose another output folder."


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
