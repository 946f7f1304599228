"""Cameras on the network through PyAV: FFmpeg that tells each frame's size, which are damaged, and what is wrong with a connection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from time import monotonic
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edge_runtime.errors import SourceOpenError
from edge_runtime.optional.pyav import pyav
from edge_runtime.sources.address import Address, CameraOptions
from edge_runtime.sources.cameras.flip import flipped
from edge_runtime.sources.cameras.frame_numbers import FrameNumbers

__all__ = ["AccessRefused", "PyAvCapture", "through_pyav"]

# Sound is not asked for. What FFmpeg looks at before the first frame is half a second instead of five, and is kept: with `nobuffer` the
# key frame in it would be lost, and the first picture would wait for the next one.
RTSP_OPTIONS = {"rtsp_flags": "prefer_tcp", "allowed_media_types": "video"}
OPTIONS = {"analyzeduration": "500000"}
NEARLY = 0.9  # of the patience: an error after so long is a timeout, whatever FFmpeg calls it
CHECK = "Check that it is on, and its address."
END_OF_JPEG = b"\xff\xd9"  # nowhere else in a picture; cameras pad what follows as they like
LEAST_HOLE = 3  # packets more without a picture than usual: a decoder that waits for the next key frame, as that of HEVC does
LONGEST_DAMAGE_S = 10.0  # some streams have no key frames; by then the damage is over even there


class AccessRefused(SourceOpenError):
    """The camera is there and does not let us in; many lock out who tries too often."""


class PyAvCapture:
    """A network camera that PyAV opened, as `Capture` says.

    A damaged picture spoils those after it, up to the next key frame: they count as damaged, too; so does the first one after a hole.
    """

    decoder = "FFmpeg (PyAV), software"

    def __init__(self, container: Any, stream: Any, fps: float | None, options: CameraOptions) -> None:
        self.fps = fps
        self.is_damaged = False
        self._container = container
        self._options = options
        self._to_bgr = _av().video.reformatter.VideoReformatter()
        self._damaged_at_s: float | None = None
        self._usually_empty: int | None = None  # packets before the newest picture that gave none
        is_h264 = stream.codec_context.name == "h264"
        self._numbers = FrameNumbers(stream.codec_context.extradata or b"") if is_h264 else None
        self._is_jpeg = stream.codec_context.name == "mjpeg"
        self._has_seen_end = self._is_cut_short = False
        self._frames = self._decode(stream)

    def read(self) -> np.ndarray | None:
        """As `Capture` says."""
        av = _av()
        ends_s = monotonic() + self._options.stall_s
        empty = 0
        try:
            for frame in self._frames:
                if frame is not None:
                    return self._picture(frame, empty)
                empty += 1
                if monotonic() >= ends_s:  # much comes, but no pictures
                    return None
        except av.FFmpegError:  # the line is cut, or silent for too long
            return None
        return None

    def close(self) -> None:
        """Give the camera back."""
        self._frames.close()
        self._container.close()

    def _decode(self, stream: Any) -> Generator[Any, None, None]:
        """The frames; None after each packet that gave none or could not be decoded."""
        av = _av()
        for packet in self._container.demux(stream):
            self._is_cut_short = self._is_jpeg and self._lacks_end(packet)
            if self._numbers is not None and self._numbers.follows_hole(bytes(packet)):
                self._damaged_at_s = monotonic()
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._damaged_at_s = monotonic()
                frames = []
            yield from frames or [None]

    def _lacks_end(self, packet: Any) -> bool:
        """Whether a JPEG picture stops before its end, of a camera that sends ends: FFmpeg fills up what is missing and does not tell."""
        has_end = END_OF_JPEG in bytes(packet)
        self._has_seen_end |= has_end
        return self._has_seen_end and not has_end

    def _picture(self, frame: Any, empty: int) -> np.ndarray:
        now_s = monotonic()
        is_after_hole = self._usually_empty is not None and empty >= self._usually_empty + LEAST_HOLE
        self._usually_empty = empty
        if frame.is_corrupt or self._is_cut_short:
            self._damaged_at_s = now_s
        elif self._damaged_at_s is not None and (frame.key_frame or now_s - self._damaged_at_s > LONGEST_DAMAGE_S):
            self._damaged_at_s = None
        self.is_damaged = self._damaged_at_s is not None or is_after_hole
        image = self._to_bgr.reformat(frame, format="bgr24").to_ndarray()
        return flipped(image, self._options.flip)


def through_pyav(address: Address, options: CameraOptions) -> Callable[[], PyAvCapture]:
    """How to open a network camera.

    Raises:
        AccessRefused (when opening): it does not let us in.
        SourceOpenError (when opening): it is not there, or sends nothing that can be decoded; which of them, is said.
    """
    is_rtsp = address.target.lower().startswith("rtsp")
    asked = OPTIONS | (RTSP_OPTIONS if is_rtsp else {})

    def open_stream() -> PyAvCapture:
        av = _av()
        _resolve(address)
        began_s = monotonic()
        try:
            container = av.open(address.target, options=asked, timeout=(options.open_s, options.stall_s), metadata_errors="replace")
        except av.FFmpegError as error:
            is_late = isinstance(error, av.error.ExitError) or monotonic() - began_s >= NEARLY * options.open_s
            problem = f"expected an answer, got none within {options.open_s:g} s. {CHECK}" if is_late else _problem(error, address)
            is_refused = isinstance(error, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError))
            # Without the cause: its text is the whole address, password included.
            raise (AccessRefused if is_refused else SourceOpenError)(f"{address.shown}: {problem}") from None
        except Exception as error:  # noqa: BLE001  (what PyAV makes of an odd answer)
            what = type(error).__name__
            raise SourceOpenError(
                f"{address.shown}: expected a camera there, got an answer that cannot be read ({what}). {CHECK}"
            ) from None
        try:
            stream = _video(container, address)
        except SourceOpenError:
            container.close()
            raise
        # Pictures over HTTP carry no rate; FFmpeg makes up 25.
        fps = float(stream.average_rate) if is_rtsp and stream.average_rate else 0.0
        return PyAvCapture(container, stream, fps if 0 < fps < 1000 else None, options)

    return open_stream


def _resolve(address: Address) -> None:
    """Of a name that nobody knows FFmpeg says `Input/output error`."""
    try:
        socket.getaddrinfo(urlsplit(address.target).hostname, None)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no name of a host"  # one with an empty or overlong part
        raise SourceOpenError(f"{address.shown}: expected a camera there, got '{reason}'. {CHECK}") from None


def _problem(error: Any, address: Address) -> str:
    av = _av()
    if isinstance(error, av.error.HTTPUnauthorizedError):
        if "@" in address.target:
            return (
                "expected a user and password that it knows, it refuses these (401). Check them; in a password / ? # @ are %2F %3F %23 %40."
            )
        return "expected to be let in, it wants a user and password (401). Say them in $EDGE_SOURCE: rtsp://user:password@…"
    if isinstance(error, av.error.HTTPForbiddenError):
        return "expected to be let in, it forbids that (403). Look up in its settings what this user may see."
    if isinstance(error, av.error.HTTPNotFoundError):
        return "expected a stream there, it has none of this name (404). Look up the path of its streams in its manual."
    if isinstance(error, av.error.InvalidDataError):
        return "expected a video stream, got something else. Check port and path."
    return f"expected a camera there, got '{error.strerror}'. {CHECK}"


def _video(container: Any, address: Address) -> Any:
    """The first stream of pictures.

    Raises:
        SourceOpenError: there is none, or none that FFmpeg can decode.
    """
    if not container.streams.video:
        raise SourceOpenError(f"{address.shown}: expected a video stream, it has none. Check the path, and that its video is on.")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise SourceOpenError(f"{address.shown}: expected a codec that FFmpeg knows, got another one. Set the camera to H.264.")
    stream.codec_context.thread_count = 1  # each further thread may hold a frame back
    return stream


def _av() -> ModuleType:
    return pyav("cameras on the network", encodes=False)
