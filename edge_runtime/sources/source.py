"""What a source is: a stream of frames, and of a camera also what happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edge_runtime.frames import Frame
from edge_runtime.score import Event, EventKind

__all__ = ["BREAKING_EVENTS", "LiveSource", "Source", "SourceHealth"]

# After these the frames to come do not lead on from those before: what is open ends at once, not when they come.
BREAKING_EVENTS = (EventKind.SOURCE_LOST, EventKind.PICTURE_FROZEN, EventKind.FILLER)


class Source(Protocol):
    """A stream of frames, read once from first to last.

    Attributes:
        uri: what it was opened from.
        stream: name of the camera, also in every frame.
        fps: frames per second, None where a camera does not tell.
        frame_count: frames to expect, None where that is open.
        is_live: frames arrive in real time and cannot be read again.
    """

    @property
    def uri(self) -> str: ...

    @property
    def stream(self) -> str: ...

    @property
    def fps(self) -> float | None: ...

    @property
    def frame_count(self) -> int | None: ...

    @property
    def is_live(self) -> bool: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


@runtime_checkable
class LiveSource(Source, Protocol):
    """A camera: its frames come when they come, and sometimes they do not.

    Iterating gives the frames alone and waits for them as long as it takes; `poll` never waits longer than it is told.
    """

    def poll(self, timeout_s: float) -> Frame | Event | None:
        """The newest frame that was not taken yet, or something that happened to the camera; None if neither came in time.

        Raises:
            SourceStalled: the camera's driver hangs so badly that only a new process can open it again.
        """

    def health(self) -> SourceHealth:
        """How the camera has been so far."""


@dataclass(frozen=True)
class SourceHealth:
    """A live source in `summary.json`, under `source`.

    Attributes:
        uri: without credentials.
        state: `opening`, `reading`, `waiting` (to try again) or `closed`.
        decoder: what decodes its pictures, such as `FFmpeg, software`; None before the first frame.
        fps: frames per second as the camera says; None where it says nothing.
        width, height: of the newest frame, in pixels; None before the first.
        frames: read from the camera. Of these `dropped` came while the detector was busy and were replaced by newer ones,
            `skipped` came faster than the rate that is scored, `filler` were of one colour or repeated the one before, `damaged`
            were not as the camera saw them, as far as the decoder can tell. What cannot be decoded at all is no frame.
        connects: how often it was opened. `losses`: how often it was lost; of these `stalls`: no frame for `stall_s`.
        down_s: seconds without a connection, while it was lost.
        last_error: why it was lost, or could not be opened, the last time; None if never.
    """

    uri: str
    state: str
    decoder: str | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    frames: int = 0
    dropped: int = 0
    skipped: int = 0
    filler: int = 0
    damaged: int = 0
    connects: int = 0
    losses: int = 0
    stalls: int = 0
    down_s: float = 0.0
    last_error: str | None = None
