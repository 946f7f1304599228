"""Video files whose pictures change their size on the way: as recorders leave them that are set anew, or cut together."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Part", "changes_in", "edited", "has_encoder", "turned", "write_resized", "write_streams", "write_two_descriptions"]

RATE = 10
KEY_EVERY = 10
GLOBAL_HEADER = 1 << 22
OPTIONS = {"libx264": {"preset": "ultrafast", "bf": "2"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"}}
IDENTITY = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
QUARTER_TURN = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)


@dataclass(frozen=True)
class Part:
    """So many pictures of one size and grey level."""

    width: int
    height: int
    grey: int
    frames: int = 20


def has_encoder(name: str) -> bool:
    """Whether PyAV is here and has it."""
    try:
        import av
    except ImportError:
        return False
    return name in av.codecs_available


def write_resized(path: Path, parts: Sequence[Part], *, codec: str, key_every: int = KEY_EVERY, start: int = 0) -> Path:
    """Ten pictures a second, of one encoder after the other, in one stream.

    Args:
        key_every: pictures from a key frame to the next; 1: nothing but key frames.
        start: number of the first picture; 50 is a video that begins at 5 s.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = _stream(container, codec, parts[0])
        for part in parts:
            for packet in _packets(part, codec, key_every, start):
                packet.stream = stream
                container.mux(packet)
            start += part.frames
    return path


def write_streams(path: Path, parts: Sequence[Part], *, codec: str, kind: str = "mpegts") -> Path:
    """Streams of a part each, put together byte for byte: their times begin anew. `kind` is FFmpeg's name, such as `h264`: no times."""
    import av

    content = b""
    for part in parts:
        with av.open(str(path), "w", format=kind) as container:
            stream = _stream(container, codec, part)
            for picture in _pictures(part, stream.codec_context.pix_fmt, 0):
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        content += path.read_bytes()
    path.write_bytes(content)
    return path


def write_two_descriptions(path: Path, one: Part, other: Part) -> Path:
    """An MP4 of H.264 without parameters in its pictures: two descriptions in its header say what is what."""
    import av

    entries = []
    for part in (other, one):
        with av.open(str(path), "w") as container:
            stream = _stream(container, "libx264", part)
            for each in (one, other) if part is one else (part,):
                for packet in _packets(each, "libx264", KEY_EVERY, one.frames if each is other else 0, flags=GLOBAL_HEADER):
                    packet.stream = stream
                    container.mux(packet)
        edited(path.read_bytes(), b"moov/trak/mdia/minf/stbl/stsd", lambda found: entries.append(found[8:]) or found)
    sizes: list[int] = []
    content = edited(path.read_bytes(), b"moov/trak/mdia/minf/stbl/stsz", lambda found: sizes.extend(_numbers(found[12:])) or found)
    for box, edit in (
        (b"stsd", lambda found: found[:4] + struct.pack(">I", 2) + found[8:] + entries[0]),
        (b"stsc", lambda found: found[:4] + struct.pack(">7I", 2, 1, one.frames, 1, 2, other.frames, 2)),
        (b"stco", lambda found: found[:4] + struct.pack(">I", 2) + found[8:12] + _sum(found[8:12], sizes[: one.frames])),
    ):
        content = edited(content, b"moov/trak/mdia/minf/stbl/" + box, edit)
    path.write_bytes(content)
    return path


def turned(path: Path) -> Path:
    """The same MP4, to be shown a quarter turn further."""
    path.write_bytes(edited(path.read_bytes(), b"moov/trak/tkhd", lambda found: found.replace(IDENTITY, QUARTER_TURN)))
    return path


def edited(data: bytes, place: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    """An MP4 with other content in the boxes at a place, such as `moov/trak`."""
    kind, _, inner = place.partition(b"/")
    result = b""
    while data:
        (size,) = struct.unpack(">I", data[:4])
        content = data[8:size]
        if data[4:8] == kind:
            content = edited(content, inner, edit) if inner else edit(content)
        result += struct.pack(">I", 8 + len(content)) + data[4:8] + content
        data = data[size:]
    return result


def changes_in(images: Sequence[np.ndarray]) -> list[int]:
    """Where the grey level jumps, as it does from part to part."""
    levels = np.array([image.mean() for image in images])
    return [int(i) + 1 for i in np.flatnonzero(np.abs(np.diff(levels)) > 30)]


def _stream(container: Any, codec: str, part: Part) -> Any:
    stream = container.add_stream(codec, rate=RATE)
    stream.width, stream.height = part.width, part.height
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.options = OPTIONS.get(codec, {})
    stream.codec_context.gop_size = KEY_EVERY
    return stream


def _packets(part: Part, codec: str, key_every: int, start: int, flags: int = 0) -> Iterator[Any]:
    import av

    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height = part.width, part.height
    encoder.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, RATE), Fraction(RATE)
    encoder.gop_size = key_every
    encoder.options = OPTIONS.get(codec, {})
    encoder.flags |= flags
    for picture in _pictures(part, encoder.pix_fmt, start):
        yield from encoder.encode(picture)
    yield from encoder.encode(None)


def _pictures(part: Part, pixel_format: str, start: int) -> Iterator[Any]:
    import av

    for i in range(part.frames):
        image = np.full((part.height, part.width, 3), part.grey, np.uint8)
        image[: part.height // 8, : part.width // 8] = 255 - 9 * i % 255
        picture = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pixel_format)
        picture.pts, picture.time_base = start + i, Fraction(1, RATE)
        yield picture


def _numbers(data: bytes) -> list[int]:
    return [number for (number,) in struct.iter_unpack(">I", data)]


def _sum(first: bytes, others: Sequence[int]) -> bytes:
    return struct.pack(">I", sum([*_numbers(first), *others]))
