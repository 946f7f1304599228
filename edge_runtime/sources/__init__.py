"""Where frames come from.

`open_source` turns a URI into a source: a folder or wildcard of images, video files, a camera on this machine or on the
network, or the built-in synthetic scene.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from urllib.parse import unquote

from edge_runtime.errors import ConfigError
from edge_runtime.frames import Frame
from edge_runtime.score import Event

if TYPE_CHECKING:
    from edge_runtime.sources.address import CameraOptions

__all__ = ["BREAKING_EVENTS", "DAMAGED", "LiveSource", "Source", "SourceHealth", "clip_uris", "open_source"]

# After these the frames to come do not lead on from those before: what is open ends at once, not when they come.
BREAKING_EVENTS = ("source_lost", "picture_frozen", "filler")
# Why a frame carries a gap, on a bad line every few seconds: the window is emptied, an open alarm goes on.
DAMAGED = "damaged pictures"
LEAST_FPS, MOST_FPS = 0.001, 1000.0


class Source(Protocol):
    """A stream of frames, read once from first to last.

    Attributes:
        uri: what it was opened from.
        stream: name of the camera, also in every frame.
        fps: frames per second, None where a camera does not tell.
        frame_count: frames to expect, None where that is open.
        is_live: frames arrive in real time and cannot be read again.
    """

    @property
    def uri(self) -> str: ...

    @property
    def stream(self) -> str: ...

    @property
    def fps(self) -> float | None: ...

    @property
    def frame_count(self) -> int | None: ...

    @property
    def is_live(self) -> bool: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


@runtime_checkable
class LiveSource(Source, Protocol):
    """A camera: its frames come when they come, and sometimes they do not.

    Iterating gives the frames alone and waits for them as long as it takes; `poll` never waits longer than it is told.
    """

    def poll(self, timeout_s: float) -> Frame | Event | None:
        """The newest frame that was not taken yet, or something that happened to the camera; None if neither came in time.

        Raises:
            SourceStalled: the camera's driver hangs so badly that only a new process can open it again.
        """

    def health(self) -> SourceHealth:
        """How the camera has been so far."""


@dataclass(frozen=True)
class SourceHealth:
    """A live source in `summary.json`, under `source`.

    Attributes:
        uri: without credentials.
        state: `opening`, `reading`, `waiting` (to try again) or `closed`.
        decoder: what decodes its pictures, such as `FFmpeg, software`; None before the first frame.
        fps: frames per second as the camera says; None where it says nothing.
        width, height: of the newest frame, in pixels; None before the first.
        frames: read from the camera. Of these `dropped` came while the detector was busy and were replaced by newer ones,
            `skipped` came faster than the rate that is scored, `filler` were of one colour or repeated the one before, `damaged`
            were not as the camera saw them, as far as the decoder can tell. What cannot be decoded at all is no frame.
        connects: how often it was opened. `losses`: how often it was lost; of these `stalls`: no frame for `stall_s`.
        down_s: seconds without a connection, while it was lost.
        last_error: why it was lost, or could not be opened, the last time; None if never.
    """

    uri: str
    state: str
    decoder: str | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    frames: int = 0
    dropped: int = 0
    skipped: int = 0
    filler: int = 0
    damaged: int = 0
    connects: int = 0
    losses: int = 0
    stalls: int = 0
    down_s: float = 0.0
    last_error: str | None = None


def open_source(
    uri: str,
    *,
    fps: float | None = None,
    default_fps: float | None = None,
    loop: bool = False,
    stream: str | None = None,
    camera: CameraOptions | None = None,
) -> Source:
    """Open frames by URI.

    Args:
        uri: `synthetic:?seed=7&frames=400`; a video file; a folder of images, of clip folders or of videos; a wildcard of
            images; a camera: `camera:0`, `/dev/video0`, `v4l2:///dev/v4l/by-id/…`, `csi://0`, `gst:…`, `rtsp://…`, `http://…`.
        fps: of footage: frames per second, whatever it says itself; folders of images need it, or `default_fps`.
            Of a camera: how many frames per second to pass on at most.
        default_fps: frames per second of footage that does not say.
        loop: begin again after the last frame (files and folders), with a gap between the rounds.
        stream: name of the stream; made from the URI where None.
        camera: what is asked of a camera; footage is what it is.

    Raises:
        SourceOpenError: nothing there, nothing readable in it, or no such camera.
        ConfigError: fps missing, or one that no footage has, an option that this source does not have.
        BackendUnavailable: this OpenCV cannot open such a camera.
    """
    for rate in (fps, default_fps):
        if rate is not None and not LEAST_FPS <= rate <= MOST_FPS:
            raise ConfigError(
                f"fps: expected {LEAST_FPS:g} to {MOST_FPS:g} frames per second, got {rate:g}. Say the rate of the footage, as in --fps 10"
            )
    if stream is not None and not stream.isprintable():
        raise ConfigError(f"stream: expected a name of letters that can be printed, got {stream!r}. Choose another, as in --stream gate")
    from edge_runtime.sources.address import is_live

    if camera is not None and not is_live(uri):
        camera.refuse_for_footage()
    if uri.startswith("synthetic:"):
        from edge_runtime.sources.drawn.synthetic import SyntheticSource

        return SyntheticSource.from_uri(uri, fps=fps, loop=loop, stream=stream)
    if is_live(uri):
        from edge_runtime.sources.cameras.camera import CameraSource

        return CameraSource(uri, fps=fps, loop=loop, stream=stream, options=camera)
    from edge_runtime.sources.footage import FootageSource

    path = unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri
    return FootageSource(path, fps=fps, default_fps=default_fps, loop=loop, stream=stream)


def clip_uris(where: str) -> dict[str, str]:
    """The clips at a place, name to URI, each to be opened by itself.

    Args:
        where: a folder of clips, one video, a wildcard of images, or `synthetic:?clips=16&seed=100`.

    Raises:
        SourceOpenError: nothing there, or no footage in it.
        ConfigError: two clips of one name.
    """
    if where.startswith("synthetic:"):
        from edge_runtime.sources.drawn.synthetic import synthetic_clips

        return {f"synthetic-{i:02d}": uri for i, uri in enumerate(synthetic_clips(where))}
    from edge_runtime.sources.footage.clips import list_clips

    clips = list_clips(where)
    uris = {clip.name: clip.uri for clip in clips}
    if len(uris) < len(clips):
        names = [clip.name for clip in clips]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ConfigError(f"{where}: expected clips with different names, got {', '.join(twice)} more than once. Rename one of each.")
    return uris
