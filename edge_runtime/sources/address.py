"""What a live source's URI says, and what may be shown of it.

camera:0                            the first local camera, /dev/video0
/dev/video0                         the same
v4l2:///dev/v4l/by-id/usb-…         a local camera by its identity, whatever number it gets today
csi://0                             a Jetson's CSI camera
gst:videotestsrc is-live=true       any GStreamer pipeline; what it ends in is scored
rtsp://user:password@host/stream    an IP camera
http://host/video                   MJPEG over HTTP
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, urlsplit, urlunsplit

from edge_runtime.errors import ConfigError

__all__ = ["CODECS", "FLIPS", "Address", "CameraOptions", "is_live", "parse_address", "redacted"]

CODECS = ("h264", "h265", "mjpeg", "yuyv", "nv12")
FLIPS = ("none", "horizontal", "vertical", "rotate-180", "clockwise", "counterclockwise")
NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")
# As cameras call them; `usr` and `loginpas` are real.
SECRET_KEYS = (
    *("apikey", "auth", "key", "loginpas", "loginuse", "pass", "passwd", "password", "pwd", "secret", "sig", "signature", "token"),
    *("user", "username", "usr"),
)
HIDDEN = "***"
QUICKEST_OPEN_S = 2.0


@dataclass(frozen=True)
class Address:
    """Where a live source is.

    Attributes:
        kind: `v4l2`, `csi`, `gst` or `network`.
        target: the device's path, the sensor's number, the pipeline, or the address with its credentials.
        shown: the URI without credentials: for people, logs and files.
        stream: a name for the stream.
    """

    kind: str
    target: str
    shown: str
    stream: str

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"


@dataclass(frozen=True)
class CameraOptions:
    """What is asked of a camera, and when it counts as lost.

    Attributes:
        width, height: pixels; None: what it gives by itself.
        rate: frames per second asked of the camera; None: its own.
        flip: one of `FLIPS`, applied before anything looks at a frame.
        codec: one of `CODECS`, how its pictures travel; None: found out.
        stall_s: seconds without a frame after which it is opened again.
        waits: a camera that is not there at the start is waited for, instead of an error.
    """

    width: int | None = None
    height: int | None = None
    rate: float | None = None
    flip: str = "none"
    codec: str | None = None
    stall_s: float = 5.0
    waits: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: one of them is not possible.
        """
        for name, value in (("width", self.width), ("height", self.height), ("rate", self.rate)):
            if value is not None and not 0 < value < 1e5:
                raise ConfigError(f"{name}: expected a positive number, got {value}. Leave it out for the camera's own.")
        if (self.width is None) != (self.height is None):
            raise ConfigError("width and height: expected both or none, got one. Say, for example: --width 1280 --height 720")
        if self.flip not in FLIPS:
            raise ConfigError(f"flip: expected one of {', '.join(FLIPS)}, got '{self.flip}'.")
        if self.codec is not None and self.codec not in CODECS:
            raise ConfigError(f"codec: expected one of {', '.join(CODECS)}, got '{self.codec}'.")
        if not 0.1 <= self.stall_s <= 3600:
            raise ConfigError(f"stall_s: expected seconds between 0.1 and 3600, got {self.stall_s}. Five suit most cameras.")

    @property
    def open_s(self) -> float:
        """Seconds that opening may take: the first key frame takes its time, however soon a silent camera counts as lost."""
        return max(self.stall_s, QUICKEST_OPEN_S)

    def refuse_for_footage(self) -> None:
        """What only a camera can be asked for would have no effect on footage.

        Raises:
            ConfigError: it is asked for.
        """
        asked = {"width": self.width, "height": self.height, "rate": self.rate, "codec": self.codec, "flip": self.flip != "none"}
        names = [name for name, is_asked in asked.items() if is_asked]
        if names:
            raise ConfigError(f"{', '.join(names)}: expected a camera, got footage, which is taken as it lies. Leave it out.")


def is_live(uri: str) -> bool:
    """Whether a URI is that of a camera, by its form alone. Files in memory are footage."""
    if uri.startswith("/dev/shm/"):  # noqa: S108  (read, not written)
        return False
    return uri.startswith(("camera:", "v4l2:", "csi:", "gst:", "/dev/")) or uri.partition("://")[0].lower() in NETWORK_SCHEMES


def parse_address(uri: str) -> Address:
    """Read the URI of a live source; the module's docstring lists the forms.

    Raises:
        ConfigError: none of these forms.
    """
    scheme = uri.partition(":")[0].lower()
    if scheme == "camera":
        return _numbered(uri)
    if uri.startswith("/dev/") or scheme == "v4l2":
        return _device(uri)
    if scheme == "csi":
        return _csi(uri)
    if scheme == "gst":
        return _pipeline(uri)
    if scheme in NETWORK_SCHEMES:
        return _network(uri)
    raise ConfigError(f"{redacted(uri)}: expected camera:, /dev/…, v4l2://, csi://, gst:, rtsp:// or http://, got '{scheme}:'.")


def redacted(uri: str) -> str:
    """A URI, or a text with URIs in it, without user names, passwords and other secrets.

    A password with `/`, `?` or `#` in it, as people type them, ends at the last @ all the same: rather too much is hidden than too little.
    """
    text = re.sub(r"\b([a-zA-Z][a-zA-Z0-9+.-]*:/+)[^\s\"]*@", rf"\1{HIDDEN}@", uri)
    return re.sub(rf"(?i)\b((?:[\w-]*[_-])?(?:{'|'.join(SECRET_KEYS)}|id|pw)=)(\"[^\"]*\"|[^\s&\"'!]+)", _hide_secret, text)


def _hide_secret(match: re.Match[str]) -> str:
    key = match[1].lower()
    # `id=` alone is harmless, `user-id=` (GStreamer's rtspsrc) is not.
    return match[0] if key in ("id=", "sensor-id=", "by-id=") else f"{match[1]}{HIDDEN}"


def _numbered(uri: str) -> Address:
    number = uri.removeprefix("camera:")
    if not number.isdecimal() or len(number) > 4:
        raise ConfigError(f"{uri}: expected a camera's number, as in camera:0, got '{number}'. List them: ls /dev/video*")
    return Address("v4l2", f"/dev/video{int(number)}", uri, f"camera-{int(number)}")


def _device(uri: str) -> Address:
    path = uri if uri.startswith("/") else urlsplit(uri).path
    if not path.startswith("/dev/"):
        raise ConfigError(f"{uri}: expected a device, as in v4l2:///dev/v4l/by-id/usb-…, got '{path}'. List them: ls /dev/v4l/by-id")
    name = PurePosixPath(path).name
    return Address("v4l2", path, uri, f"camera-{name.removeprefix('video')}" if re.fullmatch(r"video\d+", name) else name)


def _csi(uri: str) -> Address:
    number = re.fullmatch(r"csi:(?://)?(\d{1,2})", uri)
    if number is None:
        raise ConfigError(f"{uri}: expected a sensor's number, as in csi://0.")
    return Address("csi", number[1], uri, f"csi-{number[1]}")


def _pipeline(uri: str) -> Address:
    pipeline = uri.removeprefix("gst:").strip().removesuffix("!").strip()
    if not pipeline:
        raise ConfigError(f"{uri}: expected a pipeline, as in 'gst:v4l2src device=/dev/video0 ! videoconvert', got none.")
    return Address("gst", pipeline, redacted(uri), "gst")


def _network(uri: str) -> Address:
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:  # which quotes what may be a password
        raise ConfigError(
            f"{_all_hidden(uri)}: expected an address, got one that cannot be read. Write / ? # [ ] in a password as %2F %3F %23 %5B %5D."
        ) from None
    if not host or re.search(r"[\s\"'\\]", uri):
        raise ConfigError(
            f"{_all_hidden(uri)}: expected an address with a host and without blanks or quotes, as in rtsp://camera.local/stream."
        )
    shown = redacted(urlunsplit(parts))
    place = shown.partition("://")[2].rpartition("@")[2]
    name = re.sub(r"[?#].*", "", place).replace(HIDDEN, "").strip("/")
    target = parts.scheme + uri[len(parts.scheme) :]  # in lower case: `RTSP:` is no protocol of FFmpeg's
    return Address("network", target, shown, quote(re.sub(r"[/:]+", "-", name), safe="-._[]"))


def _all_hidden(uri: str) -> str:
    """An address that cannot be read: who knows where a password in it ends?"""
    scheme, _, rest = uri.partition("://")
    return redacted(f"{scheme}://{HIDDEN}@{rest.rpartition('@')[2]}" if "@" in rest else uri)
