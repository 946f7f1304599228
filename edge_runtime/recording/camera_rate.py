"""At how many frames per second a camera is recorded: what it says is often not what it gives."""

from __future__ import annotations

from edge_runtime.errors import ConfigError
from edge_runtime.frames import Frame

__all__ = ["BURST_S", "RateMeter", "rate_to_record"]

# Cameras begin with a burst of old pictures, and adjust to the light: neither is recorded.
BURST_S, MEASURED_S = 1.0, 2.0
FEWEST_FRAMES = 5
COMMON_RATES = (1, 2, 3, 4, 5, 6, 7.5, 8, 10, 12, 12.5, 15, 20, 24, 25, 30, 50, 60)
NEAR = 0.1


class RateMeter:
    """Measures a camera's first seconds; a pause begins them anew."""

    def __init__(self) -> None:
        self._times_s: list[float] = []

    def look(self, frame: Frame) -> float | None:
        """The frames per second so far, once that is known."""
        if frame.gap is not None:
            self._times_s = []
        self._times_s.append(frame.time_s)
        settled = [time_s for time_s in self._times_s if time_s - self._times_s[0] >= BURST_S]
        if len(settled) < FEWEST_FRAMES or settled[-1] - settled[0] < MEASURED_S:
            return None
        return (len(settled) - 1) / (settled[-1] - settled[0])


def rate_to_record(uri: str, measured: float, *, wanted: float | None, declared: float | None) -> float:
    """Frames per second of the clips.

    Args:
        measured: how fast frames come.
        wanted: by the user, or by the clips that are there already.
        declared: what the camera says; cameras over HTTP say nothing, and FFmpeg makes up 25.

    Raises:
        ConfigError: the camera is slower than what is wanted: the clips would play too fast.
    """
    if wanted is not None:
        if measured < (1 - NEAR) * wanted:
            raise ConfigError(
                f"{uri}: expected {wanted:g} frames per second, the camera gives {measured:.1f}: the clips would play too fast. "
                f"Say --fps {_common(measured):g} (and another --out, if there are clips), or add light: cameras slow down in the dark."
            )
        return wanted
    is_true = declared is not None and abs(measured / declared - 1) <= NEAR
    return declared if is_true and declared is not None else _common(measured)


def _common(measured: float) -> float:
    nearest: float = min(COMMON_RATES, key=lambda rate: abs(rate - measured))
    return nearest if abs(measured / nearest - 1) <= NEAR else round(measured, 1)
