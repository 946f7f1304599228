"""A stream's memory on disk, so that what was learned survives a restart.

One safetensors file a stream; its header names the bundle it belongs to. Written beside and renamed: a process killed at any
moment leaves the last state or the one before. What it left half-written goes away when the next one begins.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

import safetensors.numpy

from edge_runtime.bundle import UNREADABLE_TENSORS, Bundle
from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.files import remove_leftovers, unwritable, write_atomically
from edge_runtime.locks import open_lock
from edge_runtime.stream import Bank

__all__ = ["StateStore"]

FORMAT = "edge-runtime-memory-1"
RETRY_S = 0.5

log = logging.getLogger(__name__)


class StateStore:
    """Loads and saves one stream's memory bank.

    Args:
        folder: made where it is missing.
        every_s: seconds between two saves of `save_if_due`.

    Raises:
        SinkError: the folder cannot be made.
    """

    def __init__(self, folder: Path, stream: str, bundle: Bundle, *, every_s: float = 60.0) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        self.path = folder / f"{_file_name(stream)}.safetensors"
        remove_leftovers(self.path)
        self._bundle = bundle
        self._every_s = every_s
        self._saved_at = monotonic()

    def lock(self, patience_s: float = 30.0) -> None:
        """Keep everyone else from this stream's memory, for as long as this store lives: two who save it undo each other's learning.

        On a file system without locks nothing keeps them, which the log says.

        Args:
            patience_s: seconds to wait for somebody else to be done.

        Raises:
            ConfigError: somebody else has it all that time.
            SinkError: the file that says so cannot be written.
        """
        path = self.path.with_suffix(".lock")
        try:
            lock = open_lock(path)
        except OSError as error:
            raise unwritable(path, error) from error
        weakref.finalize(self, os.close, lock)
        try:
            is_ours = self._is_locked(lock, patience_s)
        except OSError as error:
            log.warning("%s: cannot be locked (%s): see to it that no other process learns into this memory.", path, error.strerror)
            return
        if not is_ours:
            raise ConfigError(
                f"{self.path}: expected a memory of its own, another process learns into it. Stop that one, or say another --stream or "
                "--state."
            )

    def _is_locked(self, lock: int, patience_s: float) -> bool:
        """Lock it as soon as nobody else has it; whether that came in time."""
        ends_s = monotonic() + patience_s
        has_told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if monotonic() >= ends_s:
                    return False
            else:
                return True
            if not has_told:
                log.warning("%s: another process learns into it; it is waited for, %g s at most.", self.path, patience_s)
                has_told = True
            sleep(min(RETRY_S, max(0.0, ends_s - monotonic())))

    def load(self, bank: Bank) -> bool:
        """Restore the bank, if there is a state. True if there was.

        Raises:
            BundleError: the state is broken, or belongs to another bundle.
        """
        remedy = "Delete it to begin with the shipped memory, or say another --state."
        try:
            content = self.path.read_bytes()
            items = safetensors.numpy.load(content)
        except FileNotFoundError:
            return False
        except (*UNREADABLE_TENSORS, OSError) as error:
            raise BundleError(f"{self.path}: expected a saved memory, cannot read it ({error}). {remedy}") from error
        header = _metadata(content)
        if header.get("format") != FORMAT:
            raise BundleError(f"{self.path}: expected format {FORMAT}, got {header.get('format')}. {remedy}")
        if header.get("bundle") != self._bundle.identity:
            raise BundleError(
                f"{self.path}: expected the memory of bundle {self._bundle.identity[:12]}… ({self._bundle.path}), "
                f"got that of {str(header.get('bundle'))[:12]}…. {remedy}"
            )
        try:
            bank.restore(items)
        except BundleError as error:
            raise BundleError(f"{self.path}: {error} {remedy}") from error
        if header.get("is_frozen") == "True":
            bank.freeze()
        return True

    def save(self, bank: Bank) -> None:
        """Write the bank's items now.

        Raises:
            SinkError: they cannot be written; the file before stays.
        """
        self._saved_at = monotonic()
        header = {"format": FORMAT, "bundle": self._bundle.identity, "is_frozen": str(bank.is_frozen)}
        write_atomically(self.path, safetensors.numpy.save(bank.snapshot(), metadata=header))

    def save_if_due(self, bank: Bank) -> None:
        """Write the bank's items if the last time is long enough ago."""
        if monotonic() - self._saved_at >= self._every_s:
            self.save(bank)


def _metadata(content: bytes) -> Mapping[str, str]:
    """What a safetensors file that was read without an error says besides its tensors."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__") or {}


def _file_name(stream: str) -> str:
    """Of the same letters where they are safe; never hidden, because the files beside it that are may be removed."""
    name = quote(os.fsencode(stream), safe=" ")
    return f"%2E{name[1:]}" if name.startswith(".") else name
