"""From a camera's picture to the network's input: the only place where this is done.

Training, calibration, evaluation and the runtime all pass here, so that they see the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_runtime.errors import ShapeError
from edge_runtime.optional.opencv import opencv

__all__ = ["InputSpec", "check_frame", "fit", "preprocess"]


@dataclass(frozen=True)
class InputSpec:
    """What a model looks at.

    Attributes:
        frames: T, number of consecutive frames that the encoder takes, ≥ 1; its input is called `clip`.
        target: position of the target frame, counted from the first of them. `target == frames` is the frame that follows
            them and more is further ahead (prediction); anything smaller is one of them (reconstruction).
        channels: C, 1 (grey) or 3 (BGR).
        height, width: h and w in pixels.
    """

    frames: int
    target: int
    channels: int
    height: int
    width: int

    @property
    def span(self) -> int:
        """Consecutive frames needed for one score."""
        return max(self.frames, self.target + 1)


def preprocess(image: np.ndarray, spec: InputSpec, out: np.ndarray | None = None) -> np.ndarray:
    """From a camera's picture to the network's scale: `fit`, then x / 127.5 − 1.

    Args:
        image: (H, W, 3) uint8, BGR.
        spec: gives (C, h, w).
        out: (C, h, w) float32 to write into; made where None.

    Returns:
        (C, h, w) float32 in [−1, 1].

    Raises:
        ShapeError: the image is not (H, W, 3) uint8.
    """
    planes = fit(image, spec)
    if out is None:
        out = np.empty(planes.shape, np.float32)
    np.multiply(planes, np.float32(1 / 127.5), out=out)
    np.subtract(out, np.float32(1), out=out)
    return out


def fit(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Grey where the model wants it, then area resize; both round to uint8.

    Args:
        image: (H, W, 3) uint8, BGR.
        spec: gives (C, h, w).

    Returns:
        (C, h, w) uint8.

    Raises:
        ShapeError: the image is not (H, W, 3) uint8.
    """
    check_frame(image)
    cv2 = opencv()
    if spec.channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if image.shape[:2] != (spec.height, spec.width):
        image = cv2.resize(image, (spec.width, spec.height), interpolation=cv2.INTER_AREA)
    return image[None] if spec.channels == 1 else image.transpose(2, 0, 1)


def check_frame(image: np.ndarray) -> None:
    """Hold a picture against what a source must give.

    Raises:
        ShapeError: the image is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ShapeError(f"frame: expected (H, W, 3) uint8 BGR, got {image.shape} {image.dtype}. Convert it before handing it over.")
