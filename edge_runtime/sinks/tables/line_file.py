"""A text file that holds whole lines only, whatever happens to the process or the disk."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edge_runtime.files import unwritable

__all__ = ["LineFile"]


class LineFile:
    """Takes lines, each in one write: neither a kill nor a full disk leaves a part of one.

    Args:
        path: the file.
        keep: append to what is there; a fresh file otherwise.

    Raises:
        SinkError: the file cannot be written, here or at any later line.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self._path = Path(path)
        try:
            self._file = open(self._path, "ab" if keep else "wb", buffering=0)  # noqa: SIM115  (closed in close)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._length = os.fstat(self._file.fileno()).st_size if keep else 0

    def append(self, line: bytes) -> None:
        """Write a line, given without its end."""
        whole = line + b"\n"
        rest = whole
        try:
            while rest:  # where only a part finds room, the next try says why
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._drop_cut_line()
            raise unwritable(self._path, error) from error
        self._length += len(whole)

    def clear(self) -> None:
        """Remove every line."""
        try:
            os.ftruncate(self._file.fileno(), 0)
            self._file.seek(0)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._length = 0

    def close(self) -> None:
        """Close the file.

        Raises:
            SinkError: what was written is not on the disk.
        """
        try:
            self._file.close()
        except OSError as error:  # some file systems, a network's above all, say only now that they are full
            raise unwritable(self._path, error) from error

    def _drop_cut_line(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), self._length)
            self._file.seek(self._length)
