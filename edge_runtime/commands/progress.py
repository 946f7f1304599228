"""What a person sees while a command runs: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from time import monotonic
from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from edge_runtime.run.summary import Progress
from edge_runtime.score import Event, Step

__all__ = ["LiveProgress"]

PLAIN_LINE_EVERY_S = 5.0


class LiveProgress:
    """Frame, frames per second, score and alarms on stderr; a sink, so that alarms are shown as they come.

    Args:
        total: frames to expect, None where that is open.
        say: takes the plain lines, one every five seconds; stderr where None.
    """

    def __init__(self, total: int | None, say: Callable[[str], None] | None = None) -> None:
        self._say = say or partial(print, file=sys.stderr, flush=True)
        self._is_live = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit="frame", disable=not self._is_live, dynamic_ncols=True)
        self._total = total
        self._started = self._shown_at = monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> LiveProgress:
        self._stack.enter_context(logging_redirect_tqdm())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()
        self._stack.close()

    def show(self, progress: Progress) -> None:
        """After every frame."""
        if self._is_live:
            self._bar.update(progress.frames - self._bar.n)
            self._bar.set_postfix_str(_status(progress), refresh=False)
        elif monotonic() - self._shown_at >= PLAIN_LINE_EVERY_S:
            self._shown_at = monotonic()
            fps = progress.frames / (self._shown_at - self._started)
            of = "" if self._total is None else f"/{self._total}"
            self._say(f"frame {progress.frames}{of}, {fps:.1f} fps, {_status(progress)}")

    def write_step(self, step: Step) -> None:
        """Frames are shown by `show`."""

    def write_event(self, event: Event) -> None:
        """A line for each alarm, gap and freeze."""
        facts = ", ".join(f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}" for name, value in event.detail.items())
        tqdm.write(f"{event.time_s:8.1f} s  {event.stream}: {event.event.words} ({facts})", file=sys.stderr)

    def close(self) -> None:
        """The last line stays."""


def _status(progress: Progress) -> str:
    score = "window fills" if progress.score is None else f"score {progress.score.score:.2f}"
    return f"{score}, {progress.alarms} alarms"
