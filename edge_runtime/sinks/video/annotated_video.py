"""A video of what the detector saw: where the prediction was wrong, how odd the frame was, and when that was an alarm.

H.264 in an mp4 that a browser plays. It appears under its name when it is complete.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_runtime.errors import ConfigError
from edge_runtime.frames import Frame
from edge_runtime.optional.opencv import opencv
from edge_runtime.optional.pyav import pyav
from edge_runtime.score import Event, Score, Step
from edge_runtime.sinks.video.h264 import H264Settings, Mp4File, even
from edge_runtime.sinks.video.heat_map import HeatMap

__all__ = ["AnnotatedVideoSink"]

_SMALLEST_WIDTH_PX = 480  # narrower pictures are enlarged by an integer, so that the text is readable
_LARGEST_WIDTH_PX = 1280  # wider ones are reduced, so that drawing and encoding stay cheap
_STRIP_FRAMES = 150
# Looking ahead ten frames makes a still scene a quarter of the size at no cost.
_ENCODER = {"preset": "superfast", "crf": "25", "x264-params": "mbtree=1:rc-lookahead=10"}
_SMALL, _LARGE = 0.48, 0.85  # OpenCV's font scales, at a width of 640

_Colour = tuple[int, int, int]  # BGR
_BACKGROUND: _Colour = (30, 28, 27)
_FILL: _Colour = (66, 62, 58)
_GREY: _Colour = (150, 146, 142)
_WHITE: _Colour = (240, 240, 240)
_RED: _Colour = (60, 60, 235)
_CYAN: _Colour = (215, 190, 40)


class AnnotatedVideoSink:
    """Draws the frames of one stream into an mp4.

    Sources narrower than 480 px are enlarged, those wider than 1280 px reduced. All frames take the size of the first.
    Every frame is shown once, with its score where it has one: it waits until it, or a later one, is scored, or there is a gap.

    Args:
        path: the mp4 to write.
        fps: frames per second at which it plays.

    Raises:
        BackendUnavailable: PyAV, or its H.264 encoder, is not installed.
        ConfigError: fps is not a positive number.
        SinkError: the video cannot be written, here or at any later frame.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise ConfigError(f"annotated video: expected a frame rate above 0, got {fps}. Give the source's rate.")
        self._path = Path(path)
        self._fps = fps
        pyav("annotated video")
        self._painter: _Painter | None = None
        self._video: Mp4File | None = None
        self._waiting: deque[Frame] = deque()  # fewer than a window has

    def write_step(self, step: Step) -> None:
        """Draw the frames that are scored now, or not any more."""
        if step.gap is not None:
            self._draw_waiting()
        self._waiting.append(step.frame)
        if step.target is not None:
            self._draw_waiting(step.target, step.score)

    def write_event(self, event: Event) -> None:
        """Nothing: an alarm shows in the scores."""

    def close(self) -> None:
        """Finish the video and give it its name; without frames there is none."""
        try:
            self._draw_waiting()
        finally:
            if self._video is not None:
                self._video.finish()

    def _draw_waiting(self, target: Frame | None = None, score: Score | None = None) -> None:
        """All frames that wait, or those up to the one that is scored."""
        while self._waiting:
            frame = self._waiting.popleft()
            self._draw(frame, score if frame is target else None)
            if frame is target:
                return

    def _draw(self, frame: Frame, score: Score | None) -> None:
        if self._painter is None or self._video is None:
            layout = _layout_for(frame.image)
            self._painter = _Painter(layout)
            self._video = Mp4File(self._path, H264Settings(layout.width, layout.height, self._fps, _ENCODER))
        self._video.encode(self._painter.draw(frame, score))


@dataclass(frozen=True)
class _Layout:
    """The picture above, a panel with score and history below; everything in px.

    Attributes:
        scale: size of text and lines, 1 at a width of 640.
    """

    width: int
    picture_height: int
    panel_height: int
    scale: float

    @property
    def height(self) -> int:
        return self.picture_height + self.panel_height

    def px(self, length: float) -> int:
        """A length drawn for a width of 640, at this width; at least 1."""
        return max(1, round(length * self.scale))


def _layout_for(image: np.ndarray) -> _Layout:
    """Where things go for pictures like this one: (H, W, 3)."""
    height, width = image.shape[:2]
    factor: float = math.ceil(_SMALLEST_WIDTH_PX / width)
    if width > _LARGEST_WIDTH_PX:
        factor = _LARGEST_WIDTH_PX / width
    picture_width = even(width * factor)
    scale = picture_width / 640
    return _Layout(picture_width, even(height * factor), even(92 * scale), scale)


class _Painter:
    """Draws frames of one layout and remembers the last scores for the strip."""

    def __init__(self, layout: _Layout) -> None:
        self._layout = layout
        self._cv2 = opencv()
        self._canvas = np.empty((layout.height, layout.width, 3), np.uint8)
        self._history: deque[Score] = deque(maxlen=_STRIP_FRAMES)
        self._heat = HeatMap()

    def draw(self, frame: Frame, score: Score | None) -> np.ndarray:
        """The annotated picture, (H, W, 3) uint8 BGR; valid until the next call."""
        if score is not None:
            self._history.append(score)
        cv2, size = self._cv2, (self._layout.width, self._layout.picture_height)
        picture, panel = self._canvas[: size[1]], self._canvas[size[1] :]
        image = frame.image
        if image.shape[1] > size[0]:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        if score is not None and score.error_map is not None:
            image = self._heat.over(image, score.error_map)  # before an enlargement: that is fewer pixels
        cv2.resize(image, size, dst=picture)
        if score is not None and score.is_anomalous:
            self._alarm(picture)
        if score is not None and score.truth is not None:
            self._truth(picture, score.truth)
        cv2.rectangle(panel, (0, 0), (panel.shape[1], panel.shape[0]), _BACKGROUND, -1)
        self._readout(panel[:, : self._layout.px(174)], frame, score)
        self._strip(panel)
        return self._canvas

    def _alarm(self, picture: np.ndarray) -> None:
        bottom_right = (picture.shape[1] - 1, picture.shape[0] - 1)
        self._cv2.rectangle(picture, (0, 0), bottom_right, _RED, self._layout.px(12))  # half of it lies outside
        width = self._text_width("ALARM", _LARGE, bold=True) + self._layout.px(28)
        self._cv2.rectangle(picture, (0, 0), (width, self._layout.px(36)), _RED, -1)
        self._text(picture, "ALARM", (self._layout.px(14), self._layout.px(26)), _LARGE, _WHITE, bold=True)

    def _truth(self, picture: np.ndarray, truth: bool) -> None:
        px, right = self._layout.px, picture.shape[1] - self._layout.px(12)
        words, ground, ink = ("truth: anomalous", _CYAN, _BACKGROUND) if truth else ("truth: normal", _FILL, _WHITE)
        left = right - self._text_width(words, _SMALL) - px(16)
        self._cv2.rectangle(picture, (left, px(10)), (right, px(34)), ground, -1)
        self._text(picture, words, (left + px(8), px(27)), _SMALL, ink)

    def _readout(self, panel: np.ndarray, frame: Frame, score: Score | None) -> None:
        """The score as a number and as a bar whose middle is the threshold."""
        px = self._layout.px
        self._text(panel, f"{frame.stream}  frame {frame.index}", (px(14), px(22)), _SMALL, _GREY)
        if score is None:
            self._text(panel, "not scored", (px(14), px(54)), _SMALL, _GREY)
            return
        colour = _RED if score.is_anomalous else _WHITE
        number = f"{score.score:.2f}"
        after = px(22) + self._text_width(number, _LARGE, bold=True)
        self._text(panel, number, (px(14), px(54)), _LARGE, colour, bold=True)
        self._text(panel, f"/ {score.threshold:.2f}", (after, px(54)), _SMALL, _GREY)
        left, right, top, bottom = px(14), px(164), px(66), px(76)
        reach = left + round((right - left) * _share(score.score, score.threshold))
        mark = (left + right) // 2
        self._cv2.rectangle(panel, (left, top), (right, bottom), _FILL, -1)
        self._cv2.rectangle(panel, (left, top), (reach, bottom), colour, -1)
        self._cv2.line(panel, (mark, top - px(3)), (mark, bottom + px(3)), _GREY, px(2))

    def _strip(self, panel: np.ndarray) -> None:
        """The last scores, red above the threshold, with a band under the frames that are known to be anomalous."""
        px = self._layout.px
        left, right, top, bottom = px(184), panel.shape[1] - px(14), px(10), panel.shape[0] - px(16)
        middle = (top + bottom) // 2
        if self._history:
            steps = np.arange(_STRIP_FRAMES - len(self._history), _STRIP_FRAMES)
            columns = left + steps * (right - left) // (_STRIP_FRAMES - 1)  # (n,)
            shares = np.array([_share(past.score, past.threshold) for past in self._history])
            self._curve(panel, columns, (bottom - shares * (bottom - top)).round().astype(np.int32), bottom, middle)
            band = panel[bottom + px(4) : bottom + px(9)]
            for column, past in zip(columns, self._history, strict=True):
                if past.truth:
                    band[:, max(left, column - px(4)) : column + 1] = _CYAN
        panel[middle, left:right:2] = _GREY
        panel[bottom, left:right] = _GREY

    def _curve(self, panel: np.ndarray, columns: np.ndarray, rows: np.ndarray, bottom: int, middle: int) -> None:
        """A filled curve through (columns, rows), (n,) each, that turns red above the row `middle`."""
        points = np.stack([columns, rows], axis=1).astype(np.int32)  # (n, 2)
        ends = np.array([[columns[-1], bottom], [columns[0], bottom]], np.int32)
        px = self._layout.px
        self._cv2.fillPoly(panel, [np.concatenate([points, ends])], _FILL)
        self._cv2.polylines(panel, [points], False, _WHITE, px(1), self._cv2.LINE_AA)
        self._cv2.polylines(panel[:middle], [points], False, _RED, px(2), self._cv2.LINE_AA)

    def _text(self, image: np.ndarray, words: str, at: tuple[int, int], size: float, colour: _Colour, *, bold: bool = False) -> None:
        """Write with the bottom left corner at (x, y)."""
        scale, thickness = size * self._layout.scale, self._layout.px(1)
        self._cv2.putText(image, words, at, self._font(bold), scale, colour, thickness, self._cv2.LINE_AA)

    def _text_width(self, words: str, size: float, *, bold: bool = False) -> int:
        """How wide `_text` writes them: OpenCV's fonts differ between its versions."""
        scale, thickness = size * self._layout.scale, self._layout.px(1)
        return int(self._cv2.getTextSize(words, self._font(bold), scale, thickness)[0][0])

    def _font(self, bold: bool) -> int:
        return int(self._cv2.FONT_HERSHEY_DUPLEX if bold else self._cv2.FONT_HERSHEY_SIMPLEX)


def _share(score: float, threshold: float) -> float:
    """Where a score lies between nothing and twice its threshold, in [0, 1]."""
    return min(max(score / (2 * threshold), 0.0), 1.0) if threshold > 0 else 1.0
