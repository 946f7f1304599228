"""Between the thread that reads a camera and the detector: the newest picture, and what happened in between."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from edge_runtime.frames import Gap
from edge_runtime.score import EventKind
from edge_runtime.sources.source import SourceHealth

__all__ = ["HandOver", "Notice", "Picture"]

MOST_NOTICES = 100  # nobody took that many: the oldest go


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as it arrived: (H, W, 3) uint8 BGR; `gap` as in `Frame`; times in seconds, monotonic and wall."""

    image: np.ndarray
    gap: Gap | None
    time_s: float
    wall_time_s: float


@dataclass(frozen=True)
class Notice:
    """Something that happened to the camera: an event's kind and its facts."""

    event: EventKind
    detail: dict[str, float | int | str] = field(default_factory=dict)
    time_s: float = field(default_factory=time.monotonic)
    wall_time_s: float = field(default_factory=time.time)


class HandOver:
    """Bounded: holds one picture at most. A newer one takes the place of one that nobody took, which then counts as dropped."""

    def __init__(self, health: SourceHealth) -> None:
        self._changed = threading.Condition()
        self._items: deque[Picture | Notice] = deque()
        self._health = health

    def put(self, picture: Picture) -> None:
        """Offer the newest picture."""
        with self._changed:
            older = next((item for item in self._items if isinstance(item, Picture)), None)
            if older is not None:
                self._items.remove(older)
                picture = replace(picture, gap=picture.gap or older.gap)
                self._health = replace(self._health, dropped=self._health.dropped + 1)
            self._items.append(picture)
            self._changed.notify_all()

    def note(self, notice: Notice) -> None:
        """Add something that happened, after what came before."""
        with self._changed:
            notices = [item for item in self._items if isinstance(item, Notice)]
            if len(notices) >= MOST_NOTICES:
                self._items.remove(notices[0])
            self._items.append(notice)
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Picture | Notice | None:
        """The next picture or notice; None if there is none within `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._items, timeout_s)
            return self._items.popleft() if self._items else None

    def change(self, **facts: object) -> None:
        """Set facts of the health: `state="reading"`, …"""
        with self._changed:
            self._health = replace(self._health, **facts)  # type: ignore[arg-type]
            self._changed.notify_all()

    def count(self, name: str, by: float = 1) -> None:
        """Add to one of the health's counts."""
        with self._changed:
            self._health = replace(self._health, **{name: getattr(self._health, name) + by})

    def wait_for(self, condition: Callable[[SourceHealth], bool], timeout_s: float) -> bool:
        """Wait until the health fulfils a condition; whether it did within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self._health), timeout_s)

    def health(self) -> SourceHealth:
        """The camera's health now."""
        with self._changed:
            return self._health
