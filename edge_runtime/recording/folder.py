"""The folder that footage is recorded to: the clips in it and what was seen in each."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge_runtime.errors import ConfigError, SinkError, SourceOpenError
from edge_runtime.files import write_atomically
from edge_runtime.locks import locked_folder
from edge_runtime.recording.clip_file import read_facts
from edge_runtime.recording.glance import Glance
from edge_runtime.sources.footage import agree_on_rate

__all__ = ["ClipRow", "RecordingFolder"]

NAME_FORMAT = "%Y%m%dT%H%M%SZ"
LEFTOVER = re.compile(r"\.\d{8}T\d{6}Z\.[0-9a-f]{8}\.part")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipRow:
    """A clip in `recording.json`; what only its recording could tell is None for a clip that was put there in another way.

    Attributes:
        name: of the file, without its ending.
        frames, seconds, fps, size_px, size_bytes: as the file says; `fps` is what training takes.
        source: where it was recorded from, without credentials.
        start_wall_time_s: of the first frame, seconds since the epoch.
        first_frame: its index in the source.
        measured_fps: how fast the frames really came.
        end: why it ended.
        glance: exposure and motion.
    """

    name: str
    frames: int
    seconds: float
    fps: float
    size_px: tuple[int, int]
    size_bytes: int
    source: str | None = None
    start_wall_time_s: float | None = None
    first_frame: int | None = None
    measured_fps: float | None = None
    end: str | None = None
    glance: Glance | None = None


@dataclass(frozen=True)
class _Totals:
    clips: int
    frames: int
    seconds: float
    size_bytes: int


@dataclass(frozen=True)
class _Recording:
    clips: list[ClipRow]
    totals: _Totals
    warnings: list[str]


class RecordingFolder:
    """Opened by one recording at a time. The clips that lie there count, whoever put them there.

    Raises:
        SinkError: the folder cannot be made or written.
        ConfigError: another run is writing there.
        BackendUnavailable: PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = ExitStack()
        self._lock.enter_context(locked_folder(path))
        try:
            self._remove_leftovers()
            self.rows: list[ClipRow] = self._read_rows()
        except BaseException:
            self.close()
            raise

    @property
    def seconds(self) -> float:
        """Of footage, in all clips."""
        return sum(row.seconds for row in self.rows)

    @property
    def size_bytes(self) -> int:
        """Of all clips."""
        return sum(row.size_bytes for row in self.rows)

    @property
    def fps(self) -> float | None:
        """Frames per second of the clips; None without clips.

        Raises:
            ConfigError: they differ.
        """
        if not self.rows:
            return None
        fps = agree_on_rate(row.fps for row in self.rows)
        if fps is None:
            raise ConfigError(f"{self.path}: expected clips of one frame rate, got several. Move those of one rate to another folder.")
        return fps

    def frames_taken_from(self, source: str) -> int:
        """Up to which frame a source was recorded: the index of the next one."""
        rows = [row for row in self.rows if row.source == source and row.first_frame is not None]
        return max(((row.first_frame or 0) + row.frames for row in rows), default=0)

    def path_for(self, start_wall_time_s: float) -> Path:
        """Where a clip goes that starts now: named after the time, and after all clips there, also where the clock was set back."""
        start = datetime.fromtimestamp(int(start_wall_time_s), timezone.utc)
        taken = {row.name for row in self.rows}
        newest = max((name for name in taken if _start_in(name)), default=None)
        if newest is not None and start.strftime(NAME_FORMAT) <= newest:
            start = datetime.fromtimestamp(_start_in(newest) + 1, timezone.utc)
        return self.path / f"{start.strftime(NAME_FORMAT)}.mp4"

    def add(self, row: ClipRow) -> None:
        """Note a clip that is complete; its facts are taken from the file."""
        facts = _facts_row(self.path / f"{row.name}.mp4")
        self.rows.append(
            replace(row, frames=facts.frames, seconds=facts.seconds, fps=facts.fps, size_px=facts.size_px, size_bytes=facts.size_bytes)
        )
        self.write()

    def write(self, warnings: Sequence[str] = ()) -> None:
        """Write `recording.json`.

        Raises:
            SinkError: it cannot be written.
        """
        totals = _Totals(len(self.rows), sum(row.frames for row in self.rows), self.seconds, self.size_bytes)
        content = msgspec.json.encode(_Recording(self.rows, totals, list(warnings)))
        write_atomically(self._json, msgspec.json.format(content, indent=2) + b"\n")

    def close(self) -> None:
        """Let others record here."""
        self._lock.close()

    @property
    def _json(self) -> Path:
        return self.path / "recording.json"

    def _remove_leftovers(self) -> None:
        for path in self.path.iterdir():
            if LEFTOVER.fullmatch(path.name):
                log.info("%s: removed, a recording that was killed left it unfinished", path)
                path.unlink()

    def _read_rows(self) -> list[ClipRow]:
        known = {row.name: row for row in self._known_rows()}
        rows = []
        for path in sorted(self.path.glob("*.mp4")):
            if path.name.startswith("."):
                continue
            try:
                facts = _facts_row(path)
            except SourceOpenError as error:
                log.warning("%s", error)
                continue
            row = known.get(facts.name, facts)
            rows.append(row if (row.frames, row.size_bytes) == (facts.frames, facts.size_bytes) else facts)
        return rows

    def _known_rows(self) -> list[ClipRow]:
        try:
            return msgspec.json.decode(self._json.read_bytes(), type=_Recording).clips
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SinkError(f"{self._json}: expected to read it, got '{error.strerror}'. Check its permissions.") from error
        except msgspec.MsgspecError as error:
            log.warning("%s: cannot be read (%s); what was seen in the clips there is forgotten, the clips count.", self._json, error)
            return []


def _facts_row(path: Path) -> ClipRow:
    facts = read_facts(path)
    return ClipRow(path.stem, facts.frames, facts.frames / facts.fps, facts.fps, facts.size_px, facts.size_bytes)


def _start_in(name: str) -> float:
    """The time in a clip's name, seconds since the epoch; 0 where it says none."""
    try:
        return datetime.strptime(name, NAME_FORMAT).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return 0.0
