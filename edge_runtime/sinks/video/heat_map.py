"""Where the prediction was wrong, as a glow over the picture."""

from __future__ import annotations

import numpy as np

from edge_runtime.optional.opencv import opencv

__all__ = ["HeatMap"]

_LOUDEST_ERROR = 0.35  # root of the squared error at which the heat map is strongest
_OPACITY = 0.65  # at the loudest error; what happened stays visible under it

_QUIET = (0, 0, 255)  # BGR
_LOUD = (0, 235, 255)


class HeatMap:
    """Blends errors over pictures, on a scale that is the same for all frames."""

    def __init__(self) -> None:
        self._cv2 = opencv()
        self._glow, self._clear = _colours()

    def over(self, image: np.ndarray, error_map: np.ndarray) -> np.ndarray:
        """The picture with its errors.

        Args:
            image: (H, W, 3) uint8 BGR.
            error_map: (h, w) float32, squared error on [0, 1] images; of any size.

        Returns:
            (H, W, 3) uint8 BGR, a new array.
        """
        cv2, size = self._cv2, (image.shape[1], image.shape[0])
        level = np.minimum(np.sqrt(error_map) * (255 / _LOUDEST_ERROR), 255).astype(np.uint8)  # (h, w)
        glow = cv2.resize(cv2.applyColorMap(level, self._glow), size)
        clear = cv2.resize(cv2.applyColorMap(level, self._clear), size)
        heated: np.ndarray = cv2.add(cv2.multiply(image, clear, scale=1 / 255), glow)
        return heated


def _colours() -> tuple[np.ndarray, np.ndarray]:
    """What the heat adds to a picture and how much of the picture it leaves, (256, 1, 3) uint8 each, by error level."""
    level = np.linspace(0, 1, 256)[:, None, None]
    # Rises late: what the model gets a little wrong everywhere (edges, noise) stays clear.
    opacity = _OPACITY * level**1.5
    colour = (1 - level) * np.array(_QUIET) + level * np.array(_LOUD)
    clear = np.broadcast_to(255 * (1 - opacity), colour.shape)
    return (opacity * colour).round().astype(np.uint8), clear.round().astype(np.uint8)
