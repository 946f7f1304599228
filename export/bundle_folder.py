"""The place of a bundle: a new one takes it when it is complete, and until then it is the old one's.

The draft lies beside the bundle, in a hidden work folder; the old bundle is moved there while the two change places. A process that
is killed leaves the work folder. The next export to the same place puts back an old bundle that lies in it, and takes the rest away.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edge_runtime.files import held, unwritable

__all__ = ["WorkFolder", "remove_killed_exports", "work_folder"]

log = logging.getLogger(__name__)


class WorkFolder:
    """Where a bundle is drafted; `draft` is an empty folder to fill."""

    def __init__(self, path: Path, out: Path) -> None:
        self.draft = path / "bundle"
        self._path = path
        self._out = out
        self._before = path / "before"

    def put_in_place(self) -> None:
        """Let the draft take the bundle's place.

        Raises:
            SinkError: it cannot be moved; the old bundle stays.
        """
        try:
            if self._out.exists():
                self._out.rename(self._before)
            self.draft.rename(self._out)
        except OSError as error:
            raise unwritable(self._out, error) from error

    def clear_away(self) -> bool:
        """Remove it, but for an old bundle that nothing took the place of: that one goes back there. Whether there was one."""
        is_needed = self._before.exists() and not self._out.exists()
        if is_needed:
            self._before.rename(self._out)
        shutil.rmtree(self._path, ignore_errors=True)
        return is_needed


@contextmanager
def work_folder(out: Path) -> Iterator[WorkFolder]:
    """A work folder for the bundle at `out`, until the end; the folders above are made.

    Raises:
        SinkError: it cannot be made.
    """
    path = out.parent / f".{out.name}.{secrets.token_hex(4)}"
    work = WorkFolder(path, out)
    with ExitStack() as stack:
        stack.callback(work.clear_away)
        try:
            path.mkdir(parents=True)
            stack.enter_context(held(path, is_needed=False))
            work.draft.mkdir()
        except OSError as error:
            raise unwritable(out, error) from error
        yield work


def remove_killed_exports(out: Path) -> None:
    """Clear away what killed exports to `out` left; the work folder of a living one stays."""
    leftover = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{8}}")
    with suppress(OSError):
        for path in [entry for entry in out.parent.iterdir() if leftover.fullmatch(entry.name) and entry.is_dir()]:
            with suppress(OSError), held(path, is_needed=True):
                if WorkFolder(path, out).clear_away():
                    log.warning("%s: put back the bundle that an export moved aside before it was killed.", out)
