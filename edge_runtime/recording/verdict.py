"""Whether recorded footage is worth training on, in sentences that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_runtime.recording.folder import ClipRow
from edge_runtime.recording.glance import Glance
from edge_runtime.sources import SourceHealth
from edge_runtime.sources.footage import agree_on_rate

__all__ = ["described", "warnings_about", "weighted"]

# Rules of thumb, for grey levels of 0 to 255: a street at night under lamps has a mean of 40 to 60.
DARKEST_MEAN, BRIGHTEST_MEAN = 30, 225
MOST_WHITE, MOST_BLACK = 0.1, 0.5
LEAST_MOVING, MOST_SHAKING, MOST_REPEATED = 0.02, 0.2, 0.5
FARTHEST_RATE = 0.1
MOST_GAPS_PER_MINUTE = 0.5
MOST_FILLER = 0.1
PLANNED_ENDS = ("full length", "enough is recorded", "the footage has ended", "interrupted")


def described(rows: Sequence[ClipRow]) -> str:
    """One line about the clips: how much, how large, how bright, how lively."""
    if not rows:
        return "nothing is recorded"
    seconds, megabytes = sum(row.seconds for row in rows), sum(row.size_bytes for row in rows) / 1e6
    sizes = ", ".join(f"{width}x{height}" for width, height in sorted({row.size_px for row in rows}))
    rates = ", ".join(f"{fps:g}" for fps in sorted({round(row.fps, 2) for row in rows}))
    text = f"{seconds / 60:.1f} minutes in {len(rows)} clips, {megabytes:.1f} MB, {sizes} at {rates} frames per second"
    measured = [row.measured_fps for row in rows if row.measured_fps is not None]
    if measured:
        text += f" (measured {min(measured):.1f} to {max(measured):.1f})"
    if not any(row.glance for row in rows):
        return text
    luminance = weighted(rows, lambda glance: glance.mean_luminance)
    moving = weighted(rows, lambda glance: glance.moving_share)
    return f"{text}; mean luminance {luminance:.0f} of 255, something moves {moving:.0%} of the time"


def warnings_about(rows: Sequence[ClipRow], *, health: SourceHealth | None = None, dropped: int = 0) -> list[str]:
    """What is wrong with the footage; empty where nothing is.

    Args:
        health: of the camera in the last run.
        dropped: pieces that were too short for a clip in the last run.
    """
    return [*_about_light(rows), *_about_motion(rows), *_about_form(rows), *_about_camera(rows, health, dropped)]


def weighted(rows: Sequence[ClipRow], value: Callable[[Glance], float]) -> float:
    """The mean of something that was seen, by the length of the clips; 0 where nothing was looked at."""
    seen = [(row.seconds, value(row.glance)) for row in rows if row.glance is not None]
    total_s = sum(seconds for seconds, _ in seen)
    return sum(seconds * number for seconds, number in seen) / total_s if total_s else 0.0


def _about_light(rows: Sequence[ClipRow]) -> list[str]:
    if not any(row.glance for row in rows):
        return []
    mean = weighted(rows, lambda glance: glance.mean_luminance)
    white, black = weighted(rows, lambda glance: glance.white_share), weighted(rows, lambda glance: glance.black_share)
    if mean < DARKEST_MEAN:
        return [f"too dark: the mean luminance is {mean:.0f} of 255. Add light, or let the camera expose longer, and record again."]
    if mean > BRIGHTEST_MEAN:
        return [f"too bright: the mean luminance is {mean:.0f} of 255. Let the camera expose less, and record again."]
    warnings = []
    if white > MOST_WHITE:
        warnings.append(
            f"overexposed: {white:.0%} of the pixels are white and show nothing. Expose less, or turn the camera from the light."
        )
    if black > MOST_BLACK:
        warnings.append(f"underexposed: {black:.0%} of the pixels are black and show nothing. Add light, or expose longer.")
    return warnings


def _about_motion(rows: Sequence[ClipRow]) -> list[str]:
    seen = [row for row in rows if row.glance is not None]
    if not seen:
        return []
    minutes = sum(row.seconds for row in seen) / 60
    repeated = weighted(seen, lambda glance: glance.repeated_share)
    moving = weighted(seen, lambda glance: glance.moving_share)
    shaking = weighted(seen, lambda glance: glance.shaking_share)
    if repeated > MOST_REPEATED:
        return [f"the picture is frozen: {repeated:.0%} of the frames repeat the one before. Check the camera, and record again."]
    if shaking > MOST_SHAKING:
        return [f"everything moves, {shaking:.0%} of the time: is the camera fixed? Mount it firmly, and record again."]
    if moving == 0:
        return [
            f"nothing moves: {minutes:.1f} minutes without any motion; a model trained on this will call everyone an anomaly. "
            "Record while people come and go as they do."
        ]
    if moving < LEAST_MOVING:
        return [
            f"hardly anything moves: {60 * moving * minutes:.0f} s of {minutes:.1f} minutes; a model trained on this will call "
            "much that is normal an anomaly. Record longer, or at a busier time."
        ]
    return []


def _about_form(rows: Sequence[ClipRow]) -> list[str]:
    warnings = []
    sizes = sorted({row.size_px for row in rows})
    if len(sizes) > 1:
        texts = ", ".join(f"{width}x{height}" for width, height in sizes)
        warnings.append(f"pictures of several sizes: {texts}. Keep those of one camera setting, and remove the other clips.")
    if rows and agree_on_rate(row.fps for row in rows) is None:
        warnings.append("clips of several frame rates: training needs one. Move those of one rate to another folder.")
    slow = [row for row in rows if row.measured_fps is not None and abs(row.measured_fps / row.fps - 1) > FARTHEST_RATE]
    if slow:
        names = ", ".join(row.name for row in slow)
        warnings.append(
            f"the camera's rate changed: {names} would play at the wrong speed. Remove them, and fix the camera's exposure time or "
            "record at fewer --fps: many cameras slow down in the dark. A file whose rate varies is to be written anew before."
        )
    return warnings


def _about_camera(rows: Sequence[ClipRow], health: SourceHealth | None, dropped: int) -> list[str]:
    if health is None:
        return []
    warnings = []
    if health.losses:
        times = {1: "once", 2: "twice"}.get(health.losses, f"{health.losses} times")
        warnings.append(f"the camera was lost {times}, for {health.down_s:.0f} s in all. Check its power and its line.")
    if health.filler > MOST_FILLER * health.frames:
        warnings.append(
            f"{health.filler} of the camera's {health.frames} pictures were of one colour or repeated the one before, and were left out. "
            "Check the camera; or ask it for as many frames per second as it really has (--rate)."
        )
    breaks = dropped + sum(row.end not in PLANNED_ENDS for row in rows) - health.losses
    if breaks > max(3.0, MOST_GAPS_PER_MINUTE * sum(row.seconds for row in rows) / 60):
        warnings.append(
            f"{breaks} gaps, and {dropped} pieces too short for a clip: pictures are missing on the way. Record at fewer --fps or a "
            "smaller picture (--width, --height), or use a cable."
        )
    return warnings
