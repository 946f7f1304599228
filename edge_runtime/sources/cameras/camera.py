"""A live source: a camera on this machine or on the network, that may go away and come back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from time import monotonic

from edge_runtime.errors import ConfigError, SourceOpenError, SourceStalled
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.score import Event, EventKind
from edge_runtime.sources.address import CameraOptions, parse_address
from edge_runtime.sources.cameras.capture import Opener
from edge_runtime.sources.cameras.hand_over import HandOver, Notice
from edge_runtime.sources.cameras.reader import LONGEST_STEP_S, Reader
from edge_runtime.sources.source import SourceHealth

__all__ = ["CameraSource"]

MOST_HANGING_READERS = 3
LONGEST_CLOSE_S = 6.0  # what has been scored is yet to be saved, and systemd waits 45 s

log = logging.getLogger(__name__)


class CameraSource:
    """A camera by its URI, as `edge_runtime.sources.address` lists them. The newest frame wins; older ones are dropped and counted.

    Times are those of the monotonic clock, taken when a frame arrives. Frames of one colour and frames that repeat the one before
    are left out. The first frame after a pause carries a gap.

    Args:
        fps: frames per second to pass on, of a camera that gives more; None: all.

    Attributes:
        fps: frames per second that are passed on at most; None where neither the camera nor the caller says.

    Raises:
        ConfigError: not the URI of a camera, or an option that only files have.
        SourceOpenError: no such camera, unless `options.waits`.
        BackendUnavailable: this OpenCV cannot open it.
        SourceStalled (from `poll`, while iterating): the driver hangs so badly that only a new process can open the camera again.
    """

    is_live = True
    frame_count = None

    def __init__(
        self, uri: str, *, fps: float | None = None, loop: bool = False, stream: str | None = None, options: CameraOptions | None = None
    ) -> None:
        address = parse_address(uri)
        if loop:
            raise ConfigError(f"{address.shown}: a camera does not end, so it cannot loop. Leave --loop away.")
        self._options = options or CameraOptions()
        if address.kind in ("network", "gst") and (self._options.width or self._options.rate):
            log.warning(
                "%s: size and rate are set where the pictures are made; --width, --height and --rate do nothing here.", address.shown
            )
        self._wanted_fps = fps
        self.uri = address.shown
        self.stream = stream or address.stream
        self._hand_over = HandOver(SourceHealth(address.shown, "opening"))
        self._opener = Opener(address, self._options)
        self._index = 0
        self._taken_s: float | None = None  # when the frame before arrived
        self._left_behind: list[Reader] = []
        self._reader = self._start_reader()
        self._wait_for_first_answer()

    @property
    def fps(self) -> float | None:
        known = [rate for rate in (self._wanted_fps, self._hand_over.health().fps) if rate is not None]
        return min(known, default=None)

    def __iter__(self) -> Iterator[Frame]:
        while True:
            item = self.poll(1.0)
            if isinstance(item, Frame):
                yield item
            elif item is not None:
                log.warning("%s: %s %s", item.stream, item.event.words, dict(item.detail))

    def poll(self, timeout_s: float) -> Frame | Event | None:
        """As `LiveSource` says."""
        self._check_reader()
        item = self._hand_over.take(timeout_s)
        if item is None:
            return None
        if isinstance(item, Notice):
            return Event(item.event, self.stream, self._index, item.time_s, item.wall_time_s, item.detail)
        frame = Frame(item.image, self._index, item.time_s, item.wall_time_s, self.stream, item.gap or self._pause_before(item.time_s))
        self._index += 1
        self._taken_s = item.time_s
        return frame

    def _pause_before(self, time_s: float) -> Gap | None:
        """The gap in what was taken, of one who comes for frames too seldom: those in between were dropped."""
        longest_s = max(LONGEST_STEP_S, 2 / self._wanted_fps if self._wanted_fps else 0.0)
        if self._taken_s is None or time_s - self._taken_s <= longest_s:
            return None
        return Gap(GapKind.NOT_TAKEN, f"no frame taken for {time_s - self._taken_s:.1f} s")

    def health(self) -> SourceHealth:
        """As `LiveSource` says."""
        return self._hand_over.health()

    def close(self) -> None:
        """Give the camera back; waits as long as the driver takes, but no longer than about `stall_s`, or 6 s."""
        readers = [self._reader, *self._left_behind]
        for reader in readers:
            reader.stop()
        ends_s = monotonic() + min(self._options.stall_s + 1.0, LONGEST_CLOSE_S)
        for reader in readers:
            reader.join(max(0.0, ends_s - monotonic()))
        if any(reader.is_alive() for reader in readers):
            log.warning("%s: the camera's driver does not return; it is left to end with the process.", self.uri)
        self._hand_over.change(state="closed")

    def _start_reader(self, lost_at_s: float | None = None) -> Reader:
        reader = Reader(self._opener, self._options, self._wanted_fps, self._hand_over, lost_at_s)
        reader.start()
        return reader

    def _wait_for_first_answer(self) -> None:
        """Until the camera gives its first picture, or cannot be opened."""
        if self._options.waits:
            return
        try:
            self._hand_over.wait_for(lambda health: health.state != "opening", timeout_s=4 * self._options.open_s + 5)
        except KeyboardInterrupt:
            self._reader.stop()
            raise
        health = self._hand_over.health()
        if health.state == "reading":
            return
        self.close()
        raise SourceOpenError(_as_sentence(health)) from self._reader.failure

    def _check_reader(self) -> None:
        """Put a new reader in the place of one that hangs in the driver."""
        failure = self._reader.failure
        if failure is not None:
            raise SourceStalled(f"{self.uri}: expected frames, the reader failed: {failure!r}. Start again.") from failure
        if not self._reader.hangs():
            return
        self._left_behind = [reader for reader in self._left_behind if reader.is_alive()]
        if len(self._left_behind) >= MOST_HANGING_READERS:
            raise SourceStalled(
                f"{self.uri}: expected the camera's driver to answer, {len(self._left_behind) + 1} calls hang in it. Start the process "
                "again, or let systemd do it (docs/operations.md)."
            )
        self._reader.stop()
        self._left_behind.append(self._reader)
        reason = "the driver does not answer"
        self._hand_over.count("stalls")
        self._hand_over.change(state="opening", last_error=reason)
        lost_at_s = self._reader.lost_at_s
        if lost_at_s is None:
            lost_at_s = monotonic()
            self._hand_over.count("losses")
            self._hand_over.note(Notice(EventKind.SOURCE_LOST, {"reason": reason}))
        self._reader = self._start_reader(lost_at_s)


def _as_sentence(health: SourceHealth) -> str:
    error = health.last_error or "it does not answer"
    if error.startswith(health.uri):
        return error
    return f"{health.uri}: expected a picture, got none: {error}. Check that it is on, and its address."
