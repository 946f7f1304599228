"""Things cut out of one normal clip that glide through another, too fast for the place: an anomaly of which no model was told.

Cheaper than a labelled set, and unlike a piece of footage that plays too fast: the thing keeps its shape, only its motion is wrong. It
comes in at one side and goes out at the other, or is there to the end: what pops up in mid-picture is odd for that alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import numpy as np

from calibration.box_anomalies import random_frames
from calibration.clips import split_at_gaps
from edge_runtime.frames import Frame
from edge_runtime.optional.opencv import opencv

__all__ = ["ROOM_S", "CutOut", "add_gliders", "brisk_speed", "cut_out_movers"]

CONTRAST = 18  # grey levels between a thing and the background
HEIGHT = (0.05, 0.4)  # of the picture's, of a thing
WIDTH = (0.015, 0.3)
FILL = 0.35  # share of its box that a thing fills: a crowd or a reflection is thinner
MARGIN_PX = 3  # to the border, which cuts things in half
PAUSE_S = (4.0, 9.0)  # before each
ROOM_S = 6.0  # of footage without a gap, for one to glide through it
SLOPE = 0.4  # steepest, of a glide
BACKGROUND_FRAMES = 48
FLOW_SIDE_PX = 320  # dense flow loses what jumps further than some ten pixels


@dataclass(frozen=True, eq=False)
class CutOut:
    """A thing, image (h, w, 3) float32 BGR and mask (h, w) float32 in [0, 1], and where its box had its top left corner."""

    image: np.ndarray
    mask: np.ndarray
    top: int
    left: int


def cut_out_movers(frames: Sequence[Frame]) -> list[CutOut]:
    """What moves in a clip of a fixed camera and stands free, a look every ten frames.

    Args:
        frames: a normal clip, all of one size.
    """
    background = _background(frames)
    return [cut_out for frame in frames[::10] for cut_out in _cut_out(frame.image.astype(np.float32), background)]


def brisk_speed(frames: Sequence[Frame]) -> float:
    """Of what moves in a clip, the speed that one pixel in ten exceeds, in pixels a frame, by dense optical flow; 0 where nothing moves.

    What crosses more than a thirtieth of the picture in a frame is underestimated.
    """
    cv2 = opencv()
    background = _background(frames)
    scale = min(FLOW_SIDE_PX / max(frames[0].image.shape[:2]), 1)
    speeds = [np.zeros(0)]
    for before, after in islice(pairwise(frames), 0, None, 10):
        if after.gap is not None:
            continue
        is_moving = _difference(after.image, background) > CONTRAST
        grey = [cv2.resize(frame.image.mean(axis=2).astype(np.uint8), None, fx=scale, fy=scale) for frame in (before, after)]
        flow = cv2.calcOpticalFlowFarneback(grey[0], grey[1], None, 0.5, 3, 11, 3, 5, 1.1, 0)  # (h, w, 2)
        small = cv2.resize(is_moving.astype(np.uint8), flow.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        speeds.append(np.hypot(flow[..., 0], flow[..., 1])[small == 1] / scale)
    every = np.concatenate(speeds)
    return float(np.quantile(every, 0.9)) if every.size else 0.0


def add_gliders(
    frames: Sequence[Frame], cut_outs: Sequence[CutOut], speed_px: tuple[float, float], fps: float, rng: np.random.Generator
) -> list[Frame]:
    """A clip through which something glides now and then, from one side to the other; its frames know the truth.

    It comes into every stretch of the clip between gaps that is long enough, `ROOM_S`, and the first time before the stretch's middle;
    a frame is anomalous as soon and as long as a part of the thing is in it.

    Args:
        frames: a normal clip, all of one size, that of the cut-outs' frames.
        cut_outs: what may glide.
        speed_px: bounds of its speed, in pixels a frame.
        rng: chooses when, what, how fast and where.

    Returns:
        As many frames, with `truth` set.
    """
    return [frame for stretch in split_at_gaps(frames) for frame in _change(stretch, cut_outs, speed_px, fps, rng)]


def _change(
    frames: Sequence[Frame], cut_outs: Sequence[CutOut], speed_px: tuple[float, float], fps: float, rng: np.random.Generator
) -> list[Frame]:
    changed = [replace(frame, truth=False) for frame in frames]
    if len(frames) < ROOM_S * fps:
        return changed
    at = min(random_frames(rng, PAUSE_S, fps), len(frames) // 2)
    while at < len(frames):
        cut_out = cut_outs[int(rng.integers(len(cut_outs)))]
        places = _glide(cut_out, frames[at].image.shape, speed_px, rng)[: len(frames) - at]
        for i, (row, column) in enumerate(places, start=at):
            changed[i] = replace(frames[i], image=_paste(frames[i].image, cut_out, row, column), truth=True)
        at += len(places) + random_frames(rng, PAUSE_S, fps)
    return changed


def _background(frames: Sequence[Frame]) -> np.ndarray:
    sample = frames[:: max(len(frames) // BACKGROUND_FRAMES, 1)]
    return np.asarray(np.median(np.stack([frame.image for frame in sample]), axis=0), np.float32)


def _difference(image: np.ndarray, background: np.ndarray) -> np.ndarray:
    return np.asarray(opencv().GaussianBlur(np.abs(image.astype(np.float32) - background).mean(axis=2), (0, 0), 1))


def _cut_out(image: np.ndarray, background: np.ndarray) -> list[CutOut]:
    cv2 = opencv()
    rows, columns = image.shape[:2]
    count, labels, boxes, _ = cv2.connectedComponentsWithStats((_difference(image, background) > CONTRAST).astype(np.uint8))
    found = []
    for k in range(1, count):
        left, top, width, height, area = (int(value) for value in boxes[k])
        if not (HEIGHT[0] * rows < height < HEIGHT[1] * rows and WIDTH[0] * columns < width < WIDTH[1] * columns):
            continue
        is_free = min(left, top, columns - left - width, rows - top - height) > MARGIN_PX
        if not is_free or area < FILL * width * height:
            continue
        box = np.s_[top - 2 : top + height + 2, left - 2 : left + width + 2]
        mask = cv2.GaussianBlur((labels[box] == k).astype(np.float32), (0, 0), 0.8)
        found.append(CutOut(image[box].copy(), np.clip(1.3 * mask, 0, 1), top - 2, left - 2))
    return found


def _glide(cut_out: CutOut, shape: tuple[int, ...], speed_px: tuple[float, float], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Where the cut-out's top left corner is, frame by frame, from one side of the picture to the other.

    A straight line that begins near the height it came from; the upper and the lower border throw it back.
    """
    height, width = cut_out.mask.shape
    room = max(shape[0] - height, 1)
    step = rng.uniform(*speed_px)
    way = np.arange(step, shape[1] + width, step)  # from just outside to just outside
    columns = way - width if rng.random() < 0.5 else shape[1] - way
    start = np.clip(cut_out.top + rng.uniform(-0.1, 0.1) * shape[0], 0, room)
    rows = room - np.abs(room - (start + rng.uniform(-SLOPE, SLOPE) * way) % (2 * room))
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _paste(image: np.ndarray, cut_out: CutOut, row: float, column: float) -> np.ndarray:
    """The image (H, W, 3) uint8 with the cut-out at (row, column), which may lie between pixels, and partly outside."""
    cv2 = opencv()
    top, left = math.floor(row), math.floor(column)
    height, width = cut_out.mask.shape
    shift = np.array([[1, 0, column - left], [0, 1, row - top]], np.float32)
    size = (width + 1, height + 1)
    mask = cv2.warpAffine(cut_out.mask, shift, size)[..., None]
    thing = cv2.warpAffine(cut_out.image, shift, size, borderMode=cv2.BORDER_REPLICATE)
    inside = np.s_[max(-top, 0) : image.shape[0] - top, max(-left, 0) : image.shape[1] - left]
    box = np.s_[max(top, 0) : top + height + 1, max(left, 0) : left + width + 1]
    pasted = image.copy()
    pasted[box] = np.rint(mask[inside] * thing[inside] + (1 - mask[inside]) * image[box]).astype(np.uint8)
    return pasted
