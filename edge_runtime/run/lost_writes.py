"""What could not be written: a full disk or a dead broker does not stop the scoring, and is not kept quiet either."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from edge_runtime.errors import SinkError

__all__ = ["LostWrites"]

SAID_EVERY_S = 60.0

log = logging.getLogger(__name__)


class LostWrites:
    """Counts failed writes by who writes; says the first at once, further ones every minute, and when writing works again.

    Attributes:
        counts: how many writes failed, by who writes; only of those where one failed.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._errors: dict[str, SinkError] = {}
        self._said_at_s: dict[str, float] = {}
        self._failing: set[str] = set()

    def attempt(self, who: str, write: Callable[[], None]) -> None:
        """Write, or count and say that it failed."""
        try:
            write()
        except SinkError as error:
            self._note(who, error)
        else:
            if who in self._failing:
                self._failing.discard(who)
                log.warning("%s writes again; %d writes were lost so far.", who, self.counts[who])

    def error(self) -> SinkError | None:
        """An error that tells all lost writes; None if there were none."""
        if not self.counts:
            return None
        return SinkError("; ".join(f"{who} lost {count} writes, the last time: {self._errors[who]}" for who, count in self.counts.items()))

    def _note(self, who: str, error: SinkError) -> None:
        self.counts[who] = self.counts.get(who, 0) + 1
        self._errors[who] = error
        is_new = who not in self._failing
        self._failing.add(who)
        if is_new or monotonic() - self._said_at_s[who] >= SAID_EVERY_S:
            self._said_at_s[who] = monotonic()
            log.warning("%s lost a write (%d so far), scoring goes on: %s", who, self.counts[who], error)
