"""A camera on this machine, read through OpenCV."""

from __future__ import annotations

import time
from collections.abc import Iterator

from edge_runtime.errors import ConfigError, SourceOpenError, SourceStalled
from edge_runtime.frames import Frame
from edge_runtime.opencv import opencv

__all__ = ["CameraSource"]


class CameraSource:
    """`camera:N`, the N-th video device. Times are those of the monotonic clock, taken when a frame arrives.

    Raises:
        ConfigError: no number, or an option that only files have.
        SourceOpenError: no such camera.
        SourceStalled (while iterating): it gives no frame, or stopped giving them.
    """

    is_live = True
    frame_count = None

    def __init__(self, uri: str, *, fps: float | None = None, loop: bool = False, stream: str | None = None) -> None:
        number = uri.removeprefix("camera:")
        if not number.isdecimal():
            raise ConfigError(f"{uri}: expected a camera's number, as in camera:0, got '{number}'.")
        if loop:
            raise ConfigError(f"{uri}: a camera does not end, so it cannot loop. Leave --loop away.")
        cv2 = opencv()
        self.uri = uri
        self.stream = stream or f"camera-{number}"
        self._capture = cv2.VideoCapture()
        if len(number) > 4 or not self._capture.open(int(number)):
            raise SourceOpenError(f"camera {number}: expected a camera there, OpenCV finds none. List them: ls /dev/video*")
        if fps is not None:
            self._capture.set(cv2.CAP_PROP_FPS, fps)
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate if rate > 0 else fps

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while True:
            is_read, image = self._capture.read()
            if not is_read:
                raise SourceStalled(
                    f"{self.uri}: expected a frame, the camera stopped after {index}. Check its cable and that no other program uses it."
                )
            yield Frame(image, index, time.monotonic(), time.time(), self.stream, "start" if index == 0 else None)
            index += 1

    def close(self) -> None:
        """Give the camera back."""
        self._capture.release()
