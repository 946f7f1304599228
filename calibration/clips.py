"""Normal footage to calibrate on: whole clips, or parts of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from edge_runtime.errors import ConfigError
from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.sources import clip_uris, open_source
from edge_runtime.sources.footage import agree_on_rate

__all__ = ["NormalClip", "check_clips", "find_clips", "frame_rate", "read_frames", "split_at_gaps"]


@dataclass(frozen=True)
class NormalClip:
    """Frames start ≤ i < stop of the footage at `uri`; stop None is its end."""

    name: str
    uri: str
    start: int = 0
    stop: int | None = None


def find_clips(where: str) -> list[NormalClip]:
    """Every clip at a place, whole.

    Raises:
        SourceOpenError: nothing there.
    """
    return [NormalClip(name, uri) for name, uri in clip_uris(where).items()]


def read_frames(clip: NormalClip, fps: float) -> Iterator[Frame]:
    """The clip's frames, counted from 0, the first with a gap."""
    source = open_source(clip.uri, default_fps=fps, stream=clip.name)
    for index, frame in enumerate(islice(source, clip.start, clip.stop)):
        yield replace(frame, index=index, gap=frame.gap if index else Gap(GapKind.START, "start"))


def split_at_gaps(frames: Sequence[Frame]) -> list[Sequence[Frame]]:
    """The stretches of a clip, of one size, in which every frame follows the one before: there is a gap between any two."""
    starts = [i for i, frame in enumerate(frames) if i == 0 or frame.gap is not None]
    return [frames[start:stop] for start, stop in pairwise([*starts, len(frames)])]


def frame_rate(clips: Sequence[NormalClip], default_fps: float) -> float:
    """The one frame rate of the clips; `default_fps` where they do not say.

    Raises:
        ConfigError: they have different ones.
    """
    rates = {open_source(clip.uri, default_fps=default_fps).fps or default_fps for clip in clips}
    rate = agree_on_rate(rates)
    if rate is None:
        raise ConfigError(f"expected clips of one frame rate, got {sorted(rates)}. Take clips of the rate the camera has.")
    return rate


def check_clips(clips: Sequence[NormalClip]) -> None:
    """Raises:
    ConfigError: no clip at all.
    """
    if not clips:
        raise ConfigError("expected at least one normal clip, got none. Hold out some, or say --data.")
