"""A size that changes within a video: OpenCV scales later pictures to the first size and tells nothing; the packets they come from tell."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.optional.pyav import has_pyav, pyav

__all__ = ["KeyFrameSizes", "SizeChange", "SizeWarnings", "SizeWatch"]

# A picture is stored before others that are shown before it, as far from its place as this at the most.
MOST_REORDERED = 32
MOST_AHEAD = 2 * MOST_REORDERED
# Their decoders read a picture's size, and skip the rest where they are told to.
TOLD_BY_HEADERS = ("mjpeg", "mpeg2video", "mpeg4")
# Of the others so many key frames are decoded a second, and a few more at once: one that comes early may do so for its size.
DECODED_PER_S = 2.5
MOST_AT_ONCE = 4.0

Size = tuple[int, int]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SizeChange:
    """Width and height in pixels, as they are stored: of the frame before, and from here on."""

    before: Size
    after: Size


class SizeWatch:
    """Follows the reader of a video through the same file, and looks at its key frames' sizes.

    It sees no change where PyAV is missing or cannot read the file, or where the reader has no time stamps. Where key frames come many
    a second, it may see one up to half a second late.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._has_begun = False
        self._container: Any = None
        self._sizes: _PacketSizes | None = None
        self._size: Size | None = None

    def look(self, stamp_s: float | None) -> SizeChange | None:
        """At the next frame, by its time stamp in seconds as OpenCV says it; None where the size is that of the frame before."""
        size = None if stamp_s is None else self._size_at(stamp_s)
        before, self._size = self._size, size or self._size
        return SizeChange(before, size) if before and size and size != before else None

    def close(self) -> None:
        """Give the file back; no change is seen any more."""
        container, self._container, self._sizes = self._container, None, None
        if container is not None:
            container.close()

    def _size_at(self, stamp_s: float) -> Size | None:
        try:
            if not self._has_begun:
                self._has_begun = True
                self._begin()
            return self._sizes.at(stamp_s) if self._sizes else None
        except Exception as error:  # noqa: BLE001  (whatever PyAV makes of a file that OpenCV can read)
            log.debug("%s: no size is watched, PyAV cannot read on: %s (%s)", self._path, error, type(error).__name__)
            self.close()
            return None

    def _begin(self) -> None:
        if has_pyav():
            self._container = pyav("sizes of a video", encodes=False).open(os.path.abspath(self._path), metadata_errors="replace")
            self._sizes = _PacketSizes(self._container)


class SizeWarnings:
    """Says once of each video that its size changes."""

    def __init__(self) -> None:
        self._told: set[Path] = set()

    def look(self, video: Path, number: int, time_s: float, change: SizeChange | None) -> None:
        """At a frame of a video, by its number and time in it, counted from 0."""
        if change is None or video in self._told:
            return
        self._told.add(video)
        log.warning(
            "%s: %dx%d pixels instead of %dx%d from frame %d on, at %.1f s. Each such change is a gap, nothing is scored or learned across "
            "it. Scores after it hold only if the camera still sees what the model knows.",
            *(video, *change.after, *change.before, number, time_s),
        )


class _PacketSizes:
    """The sizes of frames, found by their time stamps among those of the packets; where a file has none, by counting both."""

    def __init__(self, container: Any) -> None:
        stream = container.streams.video[0]  # the one that OpenCV reads
        self._packets = container.demux(stream)
        self._pictures = KeyFrameSizes(stream.codec_context)
        # An .avi says when its pictures are to be decoded; OpenCV's stamps of these two are up to two frames away from that.
        is_vague = container.format.name == "avi" and stream.codec_context.name in ("h264", "hevc")
        self._start: int | None = None if is_vague else stream.start_time
        self._unit_s = float(stream.time_base if self._start is not None else 1 / (stream.average_rate or 25))
        self._frames = self._taken = 0
        self._ahead: dict[int, Size | None] = {}  # by tick, of packets whose frames have not come yet
        self._in_vain = 0
        self._shown = 0

    def at(self, stamp_s: float) -> Size | None:
        """Of the next frame; None where it is not found."""
        tick = self._frames if self._start is None else self._start + round(stamp_s / self._unit_s)
        self._frames += 1
        while tick not in self._ahead and self._in_vain < MOST_REORDERED:
            packet = next(self._packets, None)
            if packet is None:
                break
            self._in_vain += self._take(packet) > tick
        if tick not in self._ahead:
            self._in_vain = max(self._in_vain - 1, 0)
            return None
        self._in_vain = 0
        return self._show(tick)

    def _show(self, tick: int) -> Size | None:
        """The size at a tick; what cannot be shown after it any more is forgotten, as the reader could not decode it."""
        size = self._ahead[tick]
        if tick < self._shown:  # times begin anew
            taken = list(self._ahead)
            self._ahead = {later: self._ahead[later] for later in taken[taken.index(tick) + 1 :]}
        else:
            self._ahead = {later: size for later, size in self._ahead.items() if later > tick}
        self._shown = tick
        return size

    def _take(self, packet: Any) -> float:
        """Note the size of a packet's picture; returns its tick."""
        tick = self._tick(packet)
        if tick is None:
            return math.inf
        self._taken += 1
        self._ahead.pop(tick, None)  # of another time; this one comes last
        self._ahead[tick] = self._pictures.look(packet, tick * self._unit_s)
        if len(self._ahead) > MOST_AHEAD:
            del self._ahead[next(iter(self._ahead))]
        return tick

    def _tick(self, packet: Any) -> int | None:
        """Its time as OpenCV takes it; None of the empty packet after the last."""
        if packet.size == 0:
            return None
        stored: int | None = packet.dts if packet.pts is None else packet.pts
        return self._taken if self._start is None else stored


class KeyFrameSizes:
    """The size of a video's pictures by its key frames: looks at its packets, in order.

    Args:
        decoder: the codec context of the packets' stream; nobody else uses it.
    """

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self._decoder.thread_count = 1  # each thread would hold a picture back
        self._is_told_by_headers = decoder.name in TOLD_BY_HEADERS
        self._size: Size | None = None
        self._newest_s = 0.0
        self._credit = MOST_AT_ONCE

    def look(self, packet: Any, time_s: float) -> Size | None:
        """Width and height in pixels, as they are stored, of the packet's picture; None where no packet told any so far."""
        if self._is_told_by_headers:
            self._decode(packet, is_skipped=True)
            self._size = self._decoder.width, self._decoder.height
        elif packet.is_keyframe:
            is_due = self._is_due(time_s)
            # One that is skipped goes to the decoder, too: it may bring the parameters of those after it.
            if self._decode(packet, is_skipped=not is_due) and is_due:
                self._size = self._decoder.width, self._decoder.height
        return self._size

    def _is_due(self, time_s: float) -> bool:
        self._credit = min(self._credit + DECODED_PER_S * abs(time_s - self._newest_s), MOST_AT_ONCE)
        self._newest_s = time_s
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def _decode(self, packet: Any, *, is_skipped: bool) -> bool:
        """Whether the packet could be decoded. Nothing of it is left in the decoder but its parameters."""
        self._decoder.skip_frame = "ALL" if is_skipped else "DEFAULT"
        try:
            packet.decode()
            self._decoder.decode(None)
        except pyav("sizes of a video", encodes=False).FFmpegError:
            return False
        finally:
            self._decoder.flush_buffers()
        return True
