"""Clips of normal footage as training sees them: decoded once into a cache, then cut into windows.

Frames are kept as uint8 on disk and mapped into memory, so that footage larger than the memory trains, too.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from edge_runtime.errors import ConfigError
from edge_runtime.files import replacing
from edge_runtime.preprocess import InputSpec, fit
from edge_runtime.sources import clip_uris, open_source
from edge_runtime.sources.footage import agree_on_rate, list_clips
from train.config import DataConfig, PseudoAnomalyConfig
from train.pseudo_anomalies import quicken_some

__all__ = ["CachedClip", "Footage", "Segment", "Windows", "cache_footage", "load_segments", "split_clips"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segment:
    """Frames start ≤ i < stop of the clip at `uri`; `name` is what reports and manifests call it."""

    name: str
    uri: str
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class CachedClip:
    """A segment with its frames, (N, C, h, w) uint8, mapped from disk."""

    segment: Segment
    frames: np.ndarray


@dataclass(frozen=True)
class Footage:
    """Normal footage split into what trains and what is held out.

    Attributes:
        fps: frame rate of the footage.
    """

    training: tuple[CachedClip, ...]
    held_out: tuple[CachedClip, ...]
    fps: float


class Windows:
    """All windows of some clips, in batches.

    A window is `spec.span` consecutive frames of one clip; none reaches over the end of a clip.
    """

    def __init__(self, clips: Sequence[CachedClip], spec: InputSpec, pseudo_anomalies: PseudoAnomalyConfig | None = None) -> None:
        self._pseudo_anomalies = pseudo_anomalies
        self._frames = [clip.frames for clip in clips]
        self._spec = spec
        self._starts = np.array(
            [(c, i) for c, frames in enumerate(self._frames) for i in range(len(frames) - spec.span + 1)], dtype=np.int64
        )

    def __len__(self) -> int:
        return len(self._starts)

    def batches(self, size: int, order: np.random.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (clip, target): (B, T, C, h, w) and (B, C, h, w) float32 in [−1, 1].

        Args:
            size: B. The last batch may be smaller, but never a single window: batch norm needs two.
            order: shuffles the windows and draws the pseudo-anomalies; None keeps the windows as they are and as they lie.
        """
        starts = self._starts if order is None else order.permutation(self._starts)
        for at in range(0, len(starts), size):
            chosen = starts[at : at + size]
            if order is not None and len(chosen) < min(size, 2):
                return
            windows = np.stack([self._frames[c][i : i + self._spec.span] for c, i in chosen])
            if order is not None and self._pseudo_anomalies is not None:
                quicken_some(windows, self._frames, chosen, self._spec.frames, self._pseudo_anomalies, order)
            batch = torch.from_numpy(windows).float().mul_(1 / 127.5).sub_(1)  # (B, span, C, h, w)
            yield batch[:, : self._spec.frames], batch[:, self._spec.target]


def cache_footage(data: str, spec: InputSpec, config: DataConfig, cache: Path) -> Footage:
    """Decode the clips at `data` into `cache` (kept and reused) and split them.

    Args:
        data: folder of clips, a video, or `synthetic:?clips=16&anomalies=off`.

    Raises:
        SourceError: footage missing or unreadable.
        ConfigError: clips too short for a window, or nothing left to train on.
    """
    cache.mkdir(parents=True, exist_ok=True)
    clips: list[CachedClip] = []
    rates: set[float] = set()
    for name, uri in tqdm(clip_uris(data).items(), desc="decode", unit="clip", disable=None):
        frames, rate = _cached_frames(uri, spec, config.fps, _cache_path(cache, name, uri, spec))
        clips.append(CachedClip(Segment(name, uri, 0, len(frames)), frames))
        rates.add(rate)
    fps = agree_on_rate(rates)
    if fps is None:
        raise ConfigError(f"{data}: expected one frame rate, got {sorted(rates)}. Train on clips of one rate, the camera's.")
    training, held_out = split_clips(clips, config.held_out_share)
    return Footage(_usable(training, spec, "training"), _usable(held_out, spec, "held-out"), fps)


def load_segments(segments: Sequence[Segment], spec: InputSpec, fps: float, most_frames: int | None = None) -> list[CachedClip]:
    """Decode segments again, into memory: without the run's cache, and no more than `most_frames` of each."""
    clips = []
    for segment in segments:
        stop = segment.stop if most_frames is None else min(segment.stop, segment.start + most_frames)
        frames = islice(open_source(segment.uri, default_fps=fps), segment.start, stop)
        clips.append(CachedClip(segment, np.stack([fit(frame.image, spec) for frame in frames])))
    return clips


def split_clips(clips: Sequence[CachedClip], held_out_share: float) -> tuple[list[CachedClip], list[CachedClip]]:
    """Hold out whole clips, spread evenly over the recording; of a single clip, its end.

    Returns:
        What trains, and what is held out; at least one of each.
    """
    if len(clips) == 1:
        [clip] = clips
        cut = round(len(clip.frames) * (1 - held_out_share))
        return [_part(clip, 0, cut)], [_part(clip, cut, len(clip.frames))]
    count = min(max(round(len(clips) * held_out_share), 1), len(clips) - 1)
    chosen = {int((i + 0.5) * len(clips) / count) for i in range(count)}
    training = [clip for i, clip in enumerate(clips) if i not in chosen]
    held_out = [clip for i, clip in enumerate(clips) if i in chosen]
    return training, held_out


def _part(clip: CachedClip, start: int, stop: int) -> CachedClip:
    name = f"{clip.segment.name}[{start}:{stop}]"
    return CachedClip(Segment(name, clip.segment.uri, start, stop), clip.frames[start:stop])


def _usable(clips: Sequence[CachedClip], spec: InputSpec, part: str) -> tuple[CachedClip, ...]:
    usable = tuple(clip for clip in clips if len(clip.frames) >= spec.span)
    for clip in clips:
        if clip not in usable:
            log.warning("%s clip %s has %d frames, a window needs %d: left out.", part, clip.segment.name, len(clip.frames), spec.span)
    if not usable:
        longest = max(len(clip.frames) for clip in clips)
        raise ConfigError(
            f"{part} clips: expected at least one of {spec.span} frames or more, the longest has {longest}. Record longer clips."
        )
    return usable


def _cache_path(cache: Path, name: str, uri: str, spec: InputSpec) -> Path:
    """One file for each clip, its files' names, sizes and times, and the input size: footage that changed is decoded again."""
    facts = [uri]
    if not uri.startswith("synthetic:"):
        files = [path for clip in list_clips(uri) for path in clip.images or (clip.path,)]
        facts += [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    content = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
    return cache / f"{name}-{content}-{spec.width}x{spec.height}x{spec.channels}.u8"


def _cached_frames(uri: str, spec: InputSpec, fps: float | None, path: Path) -> tuple[np.ndarray, float]:
    """The clip's frames, (N, C, h, w) uint8, mapped from `path`; decoded into it where it is not there yet."""
    source = open_source(uri, default_fps=fps)
    assert source.fps is not None
    if not path.exists():
        with replacing(path) as beside, open(beside, "wb") as file:
            for frame in source:
                file.write(np.ascontiguousarray(fit(frame.image, spec)).data)
    frames = np.memmap(path, np.uint8, mode="r").reshape(-1, spec.channels, spec.height, spec.width)
    return frames, source.fps
