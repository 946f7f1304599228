"""Which frames are anomalous: a CSV `clip,frame,anomalous` or a folder of masks `<clip>/<frame>.png`."""

from __future__ import annotations

import csv
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from edge_runtime.errors import ConfigError, SourceOpenError
from edge_runtime.optional.opencv import opencv
from edge_runtime.sources.footage.clips import Clip, list_clips
from edge_runtime.sources.footage.numbered_files import count_of, name_with

__all__ = ["check_clips", "check_labels", "read_labels"]

HEADER = ["clip", "frame", "anomalous"]
LOSSY_ENDINGS = (".jpg", ".jpeg")

log = logging.getLogger(__name__)


def read_labels(where: str | Path) -> dict[str, np.ndarray]:
    """Read which frames are anomalous.

    Args:
        where: a CSV with the header `clip,frame,anomalous` (0-based frames in any order, each once; anomalous 0 or 1),
            or a folder of masks `<clip>/<frame>.png` in natural order (any non-zero pixel makes a frame anomalous). They need not
            be called like the frames, but where they are numbered, none may be missing in between.

    Returns:
        per clip name (frames,) bool.

    Raises:
        ConfigError: nothing there, it is neither of the two, or a frame has no label.
    """
    path = Path(where)
    if not path.exists():
        raise ConfigError(f"labels {path}: expected a CSV or a folder of masks, found nothing there. Check the path.")
    return _read_masks(path) if path.is_dir() else _read_csv(path)


def check_clips(labels: Mapping[str, np.ndarray], clips: Collection[str]) -> None:
    """What can be known before a frame is scored: every clip has labels, and they are of both kinds.

    Labels of further clips are named in the log and do no harm: part of a test set may be scored.

    Args:
        labels: per clip (frames,) bool, as `read_labels` gives them.
        clips: names of the footage's.

    Raises:
        ConfigError: a clip has none, or all frames are normal, or all anomalous.
    """
    missing = [name for name in clips if name not in labels]
    if missing:
        raise ConfigError(
            f"labels don't match the frames: expected labels of {_listed(clips)}, got {_listed(labels)}; "
            f"missing: {_listed(missing)}. Name the clips in the labels as the folders or videos of the footage."
        )
    anomalous = sum(int(labels[name].sum()) for name in clips)
    normal = sum(labels[name].size for name in clips) - anomalous
    if not anomalous or not normal:
        raise ConfigError(
            f"labels: expected anomalous and normal frames, got {anomalous} anomalous and {normal} normal. "
            "Check the labels, or add clips of the other kind."
        )
    unused = [name for name in labels if name not in clips]
    if unused:
        log.warning("labels: %d clips are not in the footage and are left out: %s", len(unused), _listed(unused))


def check_labels(labels: Mapping[str, np.ndarray], frame_counts: Mapping[str, int]) -> None:
    """Make sure that every frame has a label, once it is known how many there are.

    Args:
        labels: per clip (frames,) bool, at least those of `frame_counts`.
        frame_counts: per clip of the footage, how many frames it has.

    Raises:
        ConfigError: the labels don't match the frames.
    """
    wrong = [
        f"{name} has {count} frames and {len(labels[name])} labels" for name, count in frame_counts.items() if len(labels[name]) != count
    ]
    if wrong:
        raise ConfigError(
            f"labels don't match the frames: expected one label per frame, got: {_listed(wrong, '; ')}. "
            "Label every frame, the first ones too, or check that labels and footage are of the same version."
        )


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    clips: dict[str, dict[int, bool]] = defaultdict(dict)
    for line, row in _csv_rows(path):
        clip, frame, is_anomalous = _parse_row(f"{path}, line {line}", row)
        if frame in clips[clip]:
            raise ConfigError(
                f"{path}, line {line}: expected each frame once, got clip {clip} frame {frame} again. Remove one of the lines."
            )
        clips[clip][frame] = is_anomalous
    if not clips:
        raise ConfigError(f"{path}: expected a line per frame after the header, got none. Label every frame.")
    return {clip: _in_order(path, clip, frames) for clip, frames in clips.items()}


def _csv_rows(path: Path) -> list[tuple[int, list[str]]]:
    """The lines after the header with their 1-based numbers, blank ones left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except OSError as error:
        raise ConfigError(f"{path}: expected labels, got '{error.strerror}'. Check the file and its permissions.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: expected a CSV in UTF-8, got '{error}'. Save the labels as text.") from error
    if not rows or rows[0][1] != HEADER:
        got = ",".join(rows[0][1])[:80] if rows else "an empty file"
        raise ConfigError(f"{path}, line 1: expected the header '{','.join(HEADER)}', got '{got}'. Write it above the rest.")
    return rows[1:]


def _parse_row(place: str, row: list[str]) -> tuple[str, int, bool]:
    is_well_formed = len(row) == len(HEADER) and row[0] and row[1].isdecimal() and row[2] in ("0", "1")
    if not is_well_formed:
        raise ConfigError(
            f"{place}: expected a clip's name, a frame from 0 and 0 or 1, got '{','.join(row)}'. Mend the line; it looks like this: 01,17,1"
        )
    return row[0], int(row[1]), row[2] == "1"


def _in_order(path: Path, clip: str, frames: Mapping[int, bool]) -> np.ndarray:
    missing = [str(frame) for frame in range(len(frames)) if frame not in frames]
    if missing:
        raise ConfigError(
            f"{path}, clip {clip}: expected frames 0 to {len(frames) - 1} for its {len(frames)} lines, got no line for "
            f"{_listed(missing)} and frames up to {max(frames)}. Count frames from 0 and label every one."
        )
    return np.array([frames[frame] for frame in range(len(frames))], bool)


def _read_masks(folder: Path) -> dict[str, np.ndarray]:
    try:
        clips = list_clips(folder)
    except SourceOpenError as error:
        raise ConfigError(f"labels {folder}: expected masks <clip>/<frame>.png, found none. Check the folder.") from error
    return {clip.name: _read_clip_masks(clip) for clip in clips}


def _read_clip_masks(clip: Clip) -> np.ndarray:
    if not clip.images:
        raise ConfigError(f"labels {clip.path}: expected masks, got a video. Give the masks, not the footage.")
    _check_numbers(clip.images)
    return np.array([_has_anomaly(path) for path in clip.images], bool)


def _check_numbers(masks: Sequence[Path]) -> None:
    """Masks belong to frames by their order: one that is missing shifts all after it, which another at the end hides from the count."""
    counted = count_of(masks)
    if counted is None:
        return
    for (before, after), (last, mask) in zip(pairwise(counted.numbers), pairwise(masks), strict=True):
        if after - before != counted.step:
            wanted = f"{name_with(last, before + counted.step)}{mask.suffix}"
            raise ConfigError(
                f"labels {mask.parent}: expected a mask of every frame, got {mask.name} after {last.name}, not {wanted}. Add what is "
                "missing, remove what is there twice, or, if the frames have the same hole, label them in a CSV clip,frame,anomalous."
            )


def _has_anomaly(mask: Path) -> bool:
    if mask.suffix.lower() in LOSSY_ENDINGS:
        raise ConfigError(
            f"{mask}: expected a lossless mask (.png), got a {mask.suffix} file, whose zeros are not exact. "
            "Give the masks, not the frames, or save them as .png."
        )
    cv2 = opencv()
    # Colour and depth as stored, but without an alpha channel, which is non-zero everywhere.
    pixels = cv2.imread(str(mask), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise ConfigError(f"{mask}: expected a mask, cannot decode it. Replace the file.")
    return bool(pixels.any())


def _listed(names: Iterable[str], between: str = ", ", most: int = 6) -> str:
    """The first names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return (between.join(every[:most]) or "none") + more
