"""Clips of normal footage as training sees them: decoded once into a cache, then cut into windows.

Frames are kept as uint8 on disk and mapped into memory, so that footage larger than the memory trains, too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.files import remove_leftovers, replacing, unwritable, write_atomically
from edge_runtime.preprocess import InputSpec, fit
from edge_runtime.sources import Source, clip_uris, open_source
from edge_runtime.sources.footage import agree_on_rate
from edge_runtime.sources.footage.clips import list_clips
from train.config import DataConfig, PseudoAnomalyConfig
from train.pseudo_anomalies import quicken_some

__all__ = [
    "CALIBRATION_S",
    "Batch",
    "CachedClip",
    "Footage",
    "Segment",
    "Windows",
    "cache_footage",
    "is_same_place",
    "load_segments",
    "split_clips",
]

CALIBRATION_S = 6.0  # a held-out clip as long as this has room for a pseudo-anomaly, without which no bundle is calibrated
LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{8}\.(u8|json)")

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


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows as a model takes them.

    Attributes:
        window: (B, T, C, h, w) float32 in [−1, 1].
        target: (B, C, h, w) float32 in [−1, 1].
        is_pseudo: (B,) bool, windows that were made anomalous.
    """

    window: Tensor
    target: Tensor
    is_pseudo: Tensor


class Windows:
    """All windows of some clips, in batches.

    A window is `spec.span` consecutive frames of one clip; none reaches over the end of a clip, nor over a gap, which ends one.

    Args:
        device: where batches go. A GPU keeps all frames, as bytes, where they fit into half of its free memory.
    """

    def __init__(
        self,
        clips: Sequence[CachedClip],
        spec: InputSpec,
        pseudo_anomalies: PseudoAnomalyConfig | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._pseudo_anomalies = pseudo_anomalies
        self._device = torch.device(device)
        self._frames = _near([_mapped(clip.frames) for clip in clips], self._device)
        self._spec = spec
        self._starts = np.array(
            [(c, i) for c, frames in enumerate(self._frames) for i in range(len(frames) - spec.span + 1)], dtype=np.int64
        )

    def __len__(self) -> int:
        return len(self._starts)

    def batches(self, size: int, order: np.random.Generator | None = None) -> Iterator[Batch]:
        """Yield the windows.

        Args:
            size: B. The last batch may be smaller, but never a single window: batch norm needs two.
            order: shuffles the windows and draws the pseudo-anomalies; None keeps the windows as they are and as they lie.
        """
        starts = self._starts if order is None else order.permutation(self._starts)
        for at in range(0, len(starts), size):
            chosen = starts[at : at + size]
            if order is not None and len(chosen) < min(size, 2):
                return
            windows = torch.stack([self._frames[c][i : i + self._spec.span] for c, i in chosen.tolist()])
            is_pseudo = torch.zeros(len(chosen), dtype=torch.bool, device=windows.device)
            if order is not None and self._pseudo_anomalies is not None:
                is_pseudo = quicken_some(windows, self._frames, chosen, self._spec.frames, self._pseudo_anomalies, order)
            batch = windows.to(self._device).float().mul_(1 / 127.5).sub_(1)  # (B, span, C, h, w)
            yield Batch(batch[:, : self._spec.frames], batch[:, self._spec.target], is_pseudo.to(self._device))


def _mapped(frames: np.ndarray) -> Tensor:
    """(N, C, h, w) uint8, where it is mapped from disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a map that cannot be written; nobody does
        return torch.from_numpy(frames)


def _near(frames: list[Tensor], device: torch.device) -> list[Tensor]:
    """The same on the GPU, where it has room."""
    if device.type != "cuda" or 2 * sum(tensor.nbytes for tensor in frames) > torch.cuda.mem_get_info(device)[0]:
        return frames
    return [tensor.to(device) for tensor in frames]


def cache_footage(data: str, spec: InputSpec, config: DataConfig, cache: Path) -> Footage:
    """Decode the clips at `data` into `cache` (kept and reused) and split them.

    Args:
        data: folder of clips, a video, or `synthetic:?clips=16&anomalies=off`.

    Raises:
        SourceError: footage missing or unreadable.
        ConfigError: clips too short for a window, or nothing left to train on.
        SinkError: the cache cannot be written.
    """
    _begin_cache(cache)
    clips: list[CachedClip] = []
    rates: set[float] = set()
    for name, uri in tqdm(clip_uris(data).items(), desc="decode", unit="clip", disable=None):
        frames, gaps, rate = _cached_frames(uri, spec, config.fps, _cache_path(cache, name, uri, spec))
        clips += _between_gaps(CachedClip(Segment(name, uri, 0, len(frames)), frames), gaps)
        rates.add(rate)
    fps = agree_on_rate(rates)
    if fps is None:
        raise ConfigError(f"{data}: expected one frame rate, got {sorted(rates)}. Train on clips of one rate, the camera's.")
    training, held_out = split_clips(_long_enough(clips, spec, "clips"), config.held_out_share)
    footage = Footage(_long_enough(training, spec, "training clips"), _long_enough(held_out, spec, "held-out clips"), fps)
    _warn_where_no_bundle_comes_of_it(footage, config.held_out_share)
    return footage


def load_segments(segments: Sequence[Segment], spec: InputSpec, fps: float, most_frames: int | None = None) -> list[CachedClip]:
    """Decode segments again, into memory: without the run's cache, and no more than `most_frames` of each.

    Raises:
        SourceError: footage is gone, unreadable, or shorter than it was.
    """
    clips = []
    for segment in segments:
        stop = segment.stop if most_frames is None else min(segment.stop, segment.start + most_frames)
        frames = [fit(frame.image, spec) for frame in islice(open_source(segment.uri, default_fps=fps), segment.start, stop)]
        if len(frames) < stop - segment.start:
            raise SourceError(
                f"{segment.uri}: expected frames {segment.start} to {stop - 1} as they were when training began, "
                f"found {len(frames)} of them. Put the footage back as it was, or train again."
            )
        clips.append(CachedClip(segment, np.stack(frames)))
    return clips


def is_same_place(one: str, other: str) -> bool:
    """Whether two URIs of footage, or two places of clips, are one, however their paths are spelled."""
    return _place(one) == _place(other)


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
    """Frames start ≤ i < stop of a clip, which may be a part itself."""
    segment = clip.segment
    name = f"{segment.name}[{start}:{stop}]"
    return CachedClip(Segment(name, segment.uri, segment.start + start, segment.start + stop), clip.frames[start:stop])


def _long_enough(clips: Sequence[CachedClip], spec: InputSpec, what: str) -> tuple[CachedClip, ...]:
    """Those with a window in them. It is asked before the split, too: a clip that is left out holds nothing out."""
    enough = tuple(clip for clip in clips if len(clip.frames) >= spec.span)
    for clip in clips:
        if clip not in enough:
            log.warning("clip %s has %d frames, a window needs %d: left out.", clip.segment.name, len(clip.frames), spec.span)
    if not enough:
        longest = max(len(clip.frames) for clip in clips)
        raise ConfigError(f"{what}: expected at least one of {spec.span} frames or more, the longest has {longest}. Record longer clips.")
    return enough


def _warn_where_no_bundle_comes_of_it(footage: Footage, held_out_share: float) -> None:
    """Training itself does well on such clips, so it is no error; after hours of it, it would be a surprise."""
    longest = max(footage.held_out, key=lambda clip: len(clip.frames))
    seconds = len(longest.frames) / footage.fps
    if seconds >= CALIBRATION_S:
        return
    is_end_of_one = longest.segment.start > 0
    remedy = f"one clip of {ceil(CALIBRATION_S / held_out_share)} s or more, or several of " if is_end_of_one else "clips of "
    log.warning(
        "WARNING: make bundle is likely to refuse this run: to calibrate it needs %g s of a held-out clip, the longest (%s) has %.1f s "
        "(%d frames at %g per second). Train on %s%g s or more.",
        CALIBRATION_S,
        longest.segment.name,
        seconds,
        len(longest.frames),
        footage.fps,
        remedy,
        CALIBRATION_S,
    )


def _place(uri: str) -> str:
    return uri if uri.startswith("synthetic:") else os.path.realpath(uri)


def _begin_cache(cache: Path) -> None:
    """Make the folder; what killed decoders left in it goes away, also of footage that has changed since."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(cache, error) from error
    for name in {f"{match[1]}.{match[2]}" for entry in cache.iterdir() if (match := LEFTOVER.fullmatch(entry.name))}:
        remove_leftovers(cache / name)


def _cache_path(cache: Path, name: str, uri: str, spec: InputSpec) -> Path:
    """One file for each clip, its files' names, sizes and times, and the input size: footage that changed is decoded again."""
    facts = [uri]
    if not uri.startswith("synthetic:"):
        files = [path for clip in list_clips(uri) for path in clip.images or (clip.path,)]
        facts += [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    content = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
    return cache / f"{name}-{content}-{spec.width}x{spec.height}x{spec.channels}.u8"


def _between_gaps(clip: CachedClip, gaps: Sequence[int]) -> list[CachedClip]:
    """A clip in parts, so that no window reaches over a gap; the clip itself where there is none."""
    if not gaps:
        return [clip]
    edges = [0, *gaps, len(clip.frames)]
    return [_part(clip, start, stop) for start, stop in pairwise(edges)]


def _cached_frames(uri: str, spec: InputSpec, fps: float | None, path: Path) -> tuple[np.ndarray, list[int], float]:
    """The clip's frames, (N, C, h, w) uint8, mapped from `path` (decoded into it first), which come after a gap, and their rate."""
    source = _opened(uri, fps)
    assert source.fps is not None
    note = path.with_suffix(".gaps.json")
    if not (path.exists() and note.exists()):
        gaps = []
        with replacing(path) as beside, open(beside, "wb") as file:
            for i, frame in enumerate(source):
                file.write(np.ascontiguousarray(fit(frame.image, spec)).data)
                if i > 0 and frame.gap is not None:
                    gaps.append(i)
        write_atomically(note, json.dumps(gaps).encode())
    frames = np.memmap(path, np.uint8, mode="r").reshape(-1, spec.channels, spec.height, spec.width)
    return frames, json.loads(note.read_text(encoding="utf-8")), source.fps


def _opened(uri: str, fps: float | None) -> Source:
    try:
        return open_source(uri, default_fps=fps)
    except ConfigError as error:
        if fps is not None or uri.startswith("synthetic:"):
            raise
        raise ConfigError(
            f"{uri}: expected a frame rate, found none in the footage. Say it in the configuration, with the key data.fps: "
            "fps = 10.0 under [data], for example."
        ) from error
