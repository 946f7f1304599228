"""Recorded footage as it lies: `DIR/<clip>/<frame>.jpg`, `DIR/<frame>.jpg`, `DIR/<clip>.mp4`, one video, a wildcard."""

from __future__ import annotations

import glob
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import ConfigError, SourceOpenError
from edge_runtime.sources.address import redacted

__all__ = ["Clip", "list_clips"]

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
VIDEO_ENDINGS = (".mp4", ".avi", ".mkv", ".mov")

# Not read here, but who has such files beside others will miss them.
OTHER_VIDEO_ENDINGS = (".3gp", ".flv", ".m2ts", ".m4v", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """Consecutive frames from one camera.

    Attributes:
        name: the folder's name, or the video's without its ending.
        path: the folder or the video.
        images: the frames in natural order; empty for a video.
        uri: what opens this clip alone.
    """

    name: str
    path: Path
    images: tuple[Path, ...] = ()
    wildcard: str | None = None

    @property
    def uri(self) -> str:
        return str(self.path) if self.wildcard is None else self.wildcard


def list_clips(where: str | Path) -> list[Clip]:
    """Find the clips in a folder, a video file or a wildcard of images.

    A folder that holds images is one clip; else each of its folders with images and each of its videos is one. Of a wildcard,
    the images it matches in one folder are one. Footage that lies deeper, or is of another kind, is named in the log.

    Raises:
        SourceOpenError: it does not exist, or holds no footage.
        ConfigError: a folder holds images beside videos or folders of images.
    """
    if where == "":
        raise SourceOpenError("expected footage or a camera's address, got an empty name. Is a variable empty?")
    clips = _find_clips(str(where))
    if not clips:
        raise SourceOpenError(
            f"{where}: expected images ({', '.join(IMAGE_ENDINGS)}), folders of images or videos, found none. "
            "Lay footage as DIR/<clip>/<frame>.jpg or DIR/<clip>.mp4."
        )
    _check_names(clips)
    return clips


def _find_clips(where: str) -> list[Clip]:
    if "://" in where:
        raise SourceOpenError(
            f"{redacted(where)}: expected a file, a folder, a wildcard, synthetic: or a camera (camera:, /dev/…, v4l2://, "
            "csi://, gst:, rtsp://, http://), got another kind of address."
        )
    if glob.has_magic(where) and not os.path.exists(where):
        return _wildcard_clips(where)
    if not os.path.exists(where):
        raise SourceOpenError(f"{where}: expected a folder, a video or a wildcard of images, found nothing there. Check the path.")
    path = Path(where)
    if path.is_dir():
        return _clips_in(path)
    if path.suffix.lower() not in VIDEO_ENDINGS:
        raise SourceOpenError(
            f"{where}: expected a video ({', '.join(VIDEO_ENDINGS)}) or a folder of images, got a {path.suffix or 'nameless'} file."
        )
    return [Clip(path.stem, path)]


def _clips_in(folder: Path) -> list[Clip]:
    own = _images_in(folder)
    if own:
        _refuse_mixture(folder, own)
        return [Clip(folder.resolve().name, folder, own)]
    clips, passed_over = [], []
    for entry in sorted(_visible(folder), key=_natural):
        if entry.is_dir() and (images := _images_in_part(entry)):
            _refuse_mixture(entry, images)
            clips.append(Clip(entry.name, entry, images))
        elif entry.suffix.lower() in VIDEO_ENDINGS:
            clips.append(Clip(entry.stem, entry))
        elif _holds_other_footage(entry):
            passed_over.append(entry.name)
    if clips and passed_over:
        log.warning(
            "%s: left out, for it is no clip as they are laid here: %s. Lay footage as DIR/<clip>/<frame>.jpg or DIR/<clip>.mp4.",
            *(folder, ", ".join(passed_over)),
        )
    return clips


def _holds_other_footage(entry: Path) -> bool:
    """A folder of clips instead of images, or a video of another kind."""
    if not entry.is_dir():
        return entry.suffix.lower() in OTHER_VIDEO_ENDINGS
    try:
        return any(part.suffix.lower() in VIDEO_ENDINGS or (part.is_dir() and _images_in(part)) for part in _visible(entry))
    except SourceOpenError:
        return False


def _refuse_mixture(folder: Path, images: tuple[Path, ...]) -> None:
    """Refused, not sorted out: whether a picture or a video is the stray one, a preview of the rest, nobody can tell from here."""
    for other in sorted(_visible(folder), key=_natural):
        is_video = other.suffix.lower() in VIDEO_ENDINGS and not other.is_dir()
        if is_video or (other.is_dir() and _images_in_part(other)):
            more = f" and {len(images) - 1} more" if len(images) > 1 else ""
            raise ConfigError(
                f"{folder}: expected the frames of one clip, or several clips, got the image {images[0].name}{more} beside the "
                f"{'video' if is_video else 'folder of images'} {other.name}. Move what is no footage elsewhere, or say what is: "
                f"{other}, or '{glob.escape(str(folder))}/*{images[0].suffix}'"
            )


def _check_names(clips: list[Clip]) -> None:
    """OpenCV crashes on a name that is not valid UTF-8."""
    for path in (path for clip in clips for path in (clip.path, *clip.images)):
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise SourceOpenError(f"{str(path)!r}: expected a name in UTF-8, got other bytes. Rename the file.") from error


def _wildcard_clips(pattern: str) -> list[Clip]:
    """The matching images of each folder: frames of different folders do not follow each other."""
    images = [path for path in map(Path, glob.glob(pattern)) if path.suffix.lower() in IMAGE_ENDINGS]
    if not images:
        raise SourceOpenError(
            f"{pattern}: expected images ({', '.join(IMAGE_ENDINGS)}), the wildcard matches none. Check it, in quotes: 'DIR/*.jpg'"
        )
    clips = []
    for folder in sorted({path.parent for path in images}, key=lambda folder: [_natural(Path(part)) for part in folder.parts]):
        own = tuple(sorted((path for path in images if path.parent == folder), key=_natural))
        wildcard = str(Path(glob.escape(str(folder))) / Path(pattern).name)
        clips.append(Clip(folder.resolve().name, folder, own, wildcard))
    return clips


def _images_in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted((path for path in _visible(folder) if path.suffix.lower() in IMAGE_ENDINGS), key=_natural))


def _images_in_part(folder: Path) -> tuple[Path, ...]:
    """Those of a folder among others, which may be nobody's business here, as lost+found is."""
    try:
        return _images_in(folder)
    except SourceOpenError as error:
        log.warning("%s Left out.", error)
        return ()


def _visible(folder: Path) -> list[Path]:
    """Without hidden files: what is being written, and what macOS puts beside every file."""
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise SourceOpenError(f"{folder}: expected a folder that can be read, got '{error.strerror}'. Check its permissions.") from error


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts `9.jpg` before `10.jpg`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path.name) if part]
