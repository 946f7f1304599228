"""When a frame of footage was taken: as its place among evenly spaced frames says, unless the file's own time stamps know better."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median_low

__all__ = ["MediaClock", "Tick", "TimeWarnings", "even_rate"]

# A step this much longer than the usual one, and longer than a second, is a pause of the recorder.
PAUSE_PERIODS = 5.0
SHORTEST_PAUSE_S = 1.0
# A step is even up to so far from the usual one, as a share of it: half and double rates are not, what jitters on a network is.
FARTHEST_STEP = 0.4
# A single frame that the recorder dropped is not worth a word.
LEAST_UNEVEN_STEPS = 10
LEAST_UNEVEN_SHARE = 0.02
# Fewer steps, in a file that rounds its times to milliseconds, say less than the rate in its header.
LEAST_STEPS = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tick:
    """A frame's time.

    Attributes:
        time_s: of the frame; it goes on from clip to clip.
        pause_s: how long nothing was recorded before it; None where it follows the frame before.
        is_uneven: so many frames up to here came early or late that the footage has no constant rate.
    """

    time_s: float
    pause_s: float | None = None
    is_uneven: bool = False


class MediaClock:
    """Tells the times of footage, frame after frame.

    As long as a file's time stamps agree with index / fps to within half a frame, that is the time: stamps are rounded, often
    to milliseconds. Where they leave it, they are followed. Stamps that do not rise, as of some AVI files, are none.

    Args:
        fps: frames per second of the even stretches.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._index = 0
        self._offset_s = 0.0  # how far the stamps have led away from index / fps
        self._zero_s = 0.0  # the time of a stamp of 0
        self._time_s = 0.0
        self._stamp_s: float | None = None
        self._steps = 0
        self._uneven_steps = 0

    def begin_clip(self) -> None:
        """The next frame is of another file, one frame after the last."""
        self._stamp_s = None

    def tick(self, stamp_s: float | None) -> Tick:
        """The time of the next frame, whose stamp in its file is `stamp_s`; None: it has none."""
        time_s = self._offset_s + self._index / self._fps
        step_s = None if stamp_s is None or self._stamp_s is None else stamp_s - self._stamp_s
        if stamp_s is not None:
            if step_s is None or step_s <= 0:
                self._zero_s = time_s - stamp_s
            time_s = self._follow(self._zero_s + stamp_s, time_s)
        self._index += 1
        self._time_s, self._stamp_s = time_s, stamp_s
        pause_s = self._judge(step_s)
        return Tick(time_s, pause_s, self._uneven_steps >= max(LEAST_UNEVEN_STEPS, LEAST_UNEVEN_SHARE * self._steps))

    def _follow(self, stamped_s: float, time_s: float) -> float:
        """The stamp's time, and from there on, where it is half a frame off, but not back to the frame before."""
        away_s = stamped_s - time_s
        if abs(away_s) <= 0.5 / self._fps or stamped_s <= self._time_s:
            return time_s
        self._offset_s += away_s
        return stamped_s

    def _judge(self, step_s: float | None) -> float | None:
        """Count a step between stamps; it is returned where it is a pause."""
        if step_s is None or step_s <= 0:
            return None
        periods = step_s * self._fps
        if step_s > SHORTEST_PAUSE_S and periods > PAUSE_PERIODS:
            return step_s
        self._steps += 1
        self._uneven_steps += abs(periods - 1) > FARTHEST_STEP
        return None


class TimeWarnings:
    """Says once each that the recorder paused, and that frames are unevenly spaced: a model takes them for even.

    Args:
        fps: frames per second of the even stretches.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._has_told_pause = False
        self._has_told_uneven = False

    def look(self, video: Path, number: int, tick: Tick) -> None:
        """At a frame of a video, counted from 0."""
        name = shlex.quote(str(video))
        if tick.pause_s is not None and not self._has_told_pause:
            self._has_told_pause = True
            log.warning(
                "%s: no frame for %.1f s before frame %d. Each such pause is a gap, nothing is scored across it. "
                "To train on this video, cut it there into clips: edge-record --source %s --out DIR",
                *(video, tick.pause_s, number, name),
            )
        if tick.is_uneven and not self._has_told_uneven:
            self._has_told_uneven = True
            log.warning(
                "%s: expected evenly spaced frames, as models do, got a rate that varies. Their times are right, their scores may not be. "
                "Write it anew with a constant rate and use that instead: ffmpeg -i %s -vf fps=%g %s",
                *(video, name, self._fps, shlex.quote(f"{video.stem}-even.mp4")),
            )


def even_rate(stamps_s: Sequence[float]) -> float | None:
    """Frames per second of the even stretches among the time stamps of consecutive frames, in any order; None where they do not say.

    Steps that differ much from the usual one, such as the pauses of a recorder, are left out. Six digits are kept: stamps have no more.
    """
    steps_s = [after - before for before, after in pairwise(sorted(set(stamps_s)))]
    if len(steps_s) < LEAST_STEPS:
        return None
    usual_s = median_low(steps_s)
    even_s = [step_s for step_s in steps_s if abs(step_s / usual_s - 1) <= FARTHEST_STEP]
    return float(f"{len(even_s) / sum(even_s):.6g}")
