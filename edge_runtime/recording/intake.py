"""Between a camera and the encoder: a disk that takes its time now and then must not cost a frame."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.score import Event
from edge_runtime.sources import LiveSource

__all__ = ["Intake"]

MOST_BYTES = 150_000_000  # 24 pictures of 1920x1080
POLL_S = 0.5


class Intake(threading.Thread):
    """Takes every frame of a camera at once, which itself keeps only the newest, and holds it until it is asked for.

    Bounded: frames that find no room are left out, and the next one carries a gap.
    """

    def __init__(self, source: LiveSource, most_bytes: int = MOST_BYTES) -> None:
        super().__init__(name="intake", daemon=True)
        self._source = source
        self._most_bytes = most_bytes
        self._arrived = threading.Condition()
        self._items: deque[Frame | Event] = deque()
        self._bytes = 0
        self._gap: Gap | None = None
        self._failure: Exception | None = None
        self._is_stopping = False

    def take(self, timeout_s: float) -> Frame | Event | None:
        """The oldest frame or event that was not taken yet; None if none comes in time.

        Raises:
            SourceStalled: as the source says, after what came before is taken.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: self._items or self._failure, timeout_s)
            if not self._items:
                if self._failure is not None:
                    raise self._failure
                return None
            item = self._items.popleft()
            if isinstance(item, Frame):
                self._bytes -= item.image.nbytes
            return item

    def stop(self) -> None:
        """Take no more; waits for the source's answer."""
        self._is_stopping = True
        self.join()

    def run(self) -> None:
        """The thread's life."""
        try:
            while not self._is_stopping:
                item = self._source.poll(POLL_S)
                if item is not None:
                    self._put(item)
        except Exception as error:  # noqa: BLE001  (raised by `take`: a thread has no caller to raise to)
            with self._arrived:
                self._failure = error
                self._arrived.notify_all()

    def _put(self, item: Frame | Event) -> None:
        with self._arrived:
            if isinstance(item, Frame):
                if self._bytes + item.image.nbytes > self._most_bytes:
                    self._gap = item.gap or self._gap or Gap(GapKind.NOT_TAKEN, "the encoder is too slow")
                    return
                item, self._gap = replace(item, gap=item.gap or self._gap), None
                self._bytes += item.image.nbytes
            self._items.append(item)
            self._arrived.notify_all()
