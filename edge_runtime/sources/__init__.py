"""Where frames come from.

`open_source` turns a URI into a source: a folder or wildcard of images, video files, a camera on this machine or on the
network, or the built-in synthetic scene.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from edge_runtime.errors import ConfigError
from edge_runtime.sources.source import BREAKING_EVENTS, LiveSource, Source, SourceHealth

if TYPE_CHECKING:
    from edge_runtime.sources.address import CameraOptions

__all__ = ["BREAKING_EVENTS", "LiveSource", "Source", "SourceHealth", "clip_uris", "open_source"]

LEAST_FPS, MOST_FPS = 0.001, 1000.0


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
