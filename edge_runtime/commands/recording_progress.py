"""What a person sees while footage is recorded: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from time import monotonic
from types import TracebackType

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from edge_runtime.recording.run import RecordingProgress
from edge_runtime.score import Event

__all__ = ["RecordingLine"]

PLAIN_LINE_EVERY_S = 5.0
REDRAWN_EVERY_S = 0.5


class RecordingLine:
    """Minutes of those wished, clips, megabytes, light and motion, on stderr.

    Args:
        wished_s, there_s: seconds of footage that are wished, and that were there at the start.
    """

    def __init__(self, wished_s: float, there_s: float) -> None:
        self._wished_s = wished_s
        self._is_live = sys.stderr.isatty()
        layout = "{percentage:3.0f}%|{bar}| {remaining} left{postfix}"
        self._bar = tqdm(total=wished_s, initial=there_s, disable=not self._is_live, dynamic_ncols=True, bar_format=layout)
        self._shown_at = monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> RecordingLine:
        self._stack.enter_context(logging_redirect_tqdm())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        self._stack.close()

    def show(self, progress: RecordingProgress) -> None:
        """After every frame."""
        if monotonic() - self._shown_at < (REDRAWN_EVERY_S if self._is_live else PLAIN_LINE_EVERY_S):
            return
        self._shown_at = monotonic()
        status = self._status(progress)
        if self._is_live:
            self._bar.set_postfix_str(status, refresh=False)
            self._bar.update(progress.seconds - self._bar.n)
        else:
            print(status, file=sys.stderr, flush=True)

    def tell(self, event: Event) -> None:
        """A line for what happens to the camera."""
        facts = ", ".join(f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}" for name, value in event.detail.items())
        tqdm.write(f"{event.stream}: {event.event.words} ({facts})", file=sys.stderr)

    def close(self) -> None:
        """The last line stays."""
        self._bar.close()

    def _status(self, progress: RecordingProgress) -> str:
        done = f"{progress.seconds / 60:.1f} of {self._wished_s / 60:g} minutes, {progress.clips} clips, {progress.size_bytes / 1e6:.1f} MB"
        if progress.glance is None:
            return done
        return f"{done}, luminance {progress.glance.mean_luminance:.0f}, motion {progress.glance.moving_share:.0%}"
