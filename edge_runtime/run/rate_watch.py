"""Whether frames are scored at the rate that the bundle was calibrated at; a camera or a machine may turn out slower."""

from __future__ import annotations

import logging

from edge_runtime.score import Step

__all__ = ["RateWatch", "holds_at"]

LOOK_S = 30.0

log = logging.getLogger(__name__)


def holds_at(fps: float, calibrated_fps: float) -> bool:
    """Whether a threshold calibrated at one rate may be used at another."""
    return 0.8 <= fps / calibrated_fps <= 1.25


class RateWatch:
    """Measures the frames of a live stream, half a minute at a time, and says once when their rate is another, and when it is not.

    Args:
        calibrated_fps: frames per second at which the bundle was calibrated.
    """

    def __init__(self, calibrated_fps: float) -> None:
        self._calibrated_fps = calibrated_fps
        self._began_s: float | None = None
        self._frames = 0
        self._holds = True

    def look(self, step: Step) -> None:
        """Take the next frame; a gap begins a new half minute."""
        frame = step.frame
        if self._began_s is None or step.gap is not None:
            self._began_s, self._frames = frame.time_s, 0
            return
        self._frames += 1
        if frame.time_s - self._began_s >= LOOK_S:
            self._judge(frame.stream, self._frames / (frame.time_s - self._began_s))
            self._began_s, self._frames = frame.time_s, 0

    def _judge(self, stream: str, fps: float) -> None:
        held, self._holds = self._holds, holds_at(fps, self._calibrated_fps)
        if held and not self._holds:
            log.warning(
                "%s: %.1f frames per second are scored, the bundle was calibrated at %g: its threshold and smoothing do not hold. Is the "
                "camera that slow, or this machine?",
                *(stream, fps, self._calibrated_fps),
            )
        elif self._holds and not held:
            log.warning("%s: %.1f frames per second are scored again, as calibrated.", stream, fps)
