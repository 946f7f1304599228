"""Things cut out of one normal clip that glide through another, too fast for the place: an anomaly of which no model was told.

Cheaper than a labelled set, and unlike a piece of footage that plays too fast: the thing keeps its shape, only its motion is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import numpy as np

from calibration.pseudo_anomalies import EVENT_S, PAUSE_S, random_frames
from edge_runtime.frames import Frame
from edge_runtime.opencv import opencv

__all__ = ["CutOut", "add_gliders", "brisk_speed", "cut_out_movers"]

CONTRAST = 18  # grey levels between a thing and the background
HEIGHT = (0.05, 0.4)  # of the picture's, of a thing
WIDTH = (0.015, 0.3)
FILL = 0.35  # share of its box that a thing fills: a crowd or a reflection is thinner
MARGIN_PX = 3  # to the border, which cuts things in half
LATERAL = 0.4  # steepest slope of a glide
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
    """A clip through which something glides now and then, to and fro between the borders; its frames know the truth.

    Args:
        frames: a normal clip, all of one size, that of the cut-outs' frames.
        cut_outs: what may glide.
        speed_px: bounds of its speed, in pixels a frame.
        rng: chooses when, what, how fast and where.

    Returns:
        As many frames, with `truth` set.
    """
    changed = [replace(frame, truth=False) for frame in frames]
    at = random_frames(rng, PAUSE_S, fps)
    while at < len(frames):
        stop = min(at + random_frames(rng, EVENT_S, fps), len(frames))
        cut_out = cut_outs[int(rng.integers(len(cut_outs)))]
        for i, (row, column) in enumerate(_path(cut_out, frames[at].image.shape, stop - at, speed_px, rng), start=at):
            changed[i] = replace(frames[i], image=_paste(frames[i].image, cut_out, row, column), truth=True)
        at = stop + random_frames(rng, PAUSE_S, fps)
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


def _path(
    cut_out: CutOut, shape: tuple[int, ...], count: int, speed_px: tuple[float, float], rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Where the cut-out's top left corner is, frame by frame: a straight line near the height it came from, thrown back by the borders."""
    room = np.array([shape[0] - cut_out.mask.shape[0], shape[1] - cut_out.mask.shape[1]], float)
    start = np.array([cut_out.top + rng.uniform(-0.1, 0.1) * shape[0], rng.uniform(0, room[1])])
    speed = rng.uniform(*speed_px)
    step = speed * np.array([rng.uniform(-LATERAL, LATERAL), rng.choice([-1, 1])])
    straight = np.clip(start, 0, room) + step * np.arange(count)[:, None]
    period = 2 * np.maximum(room, 1)
    return [(float(row), float(column)) for row, column in room - np.abs(room - straight % period)]


def _paste(image: np.ndarray, cut_out: CutOut, row: float, column: float) -> np.ndarray:
    """The image (H, W, 3) uint8 with the cut-out at (row, column), which may lie between pixels."""
    cv2 = opencv()
    top, left = int(row), int(column)
    height, width = cut_out.mask.shape
    box = np.s_[top : top + height + 1, left : left + width + 1]
    rows, columns = image[box].shape[:2]
    shift = np.array([[1, 0, column - left], [0, 1, row - top]], np.float32)
    mask = cv2.warpAffine(cut_out.mask, shift, (columns, rows))[..., None]
    thing = cv2.warpAffine(cut_out.image, shift, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
    pasted = image.copy()
    pasted[box] = np.rint(mask * thing + (1 - mask) * image[box]).astype(np.uint8)
    return pasted
