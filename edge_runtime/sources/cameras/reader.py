"""The thread that keeps one camera open and hands over its newest picture."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Iterator

import numpy as np

from edge_runtime.errors import EdgeError
from edge_runtime.frames import Gap, GapKind
from edge_runtime.score import EventKind
from edge_runtime.sources.address import CameraOptions
from edge_runtime.sources.cameras.capture import Capture, Opener
from edge_runtime.sources.cameras.hand_over import HandOver, Notice, Picture
from edge_runtime.sources.cameras.picture_check import Filler, FreezeWatch, PictureCheck
from edge_runtime.sources.cameras.pyav_capture import AccessRefused

__all__ = ["LONGEST_STEP_S", "Pace", "Reader", "waits_s"]

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 2.0
REFUSED_WAIT_S = 60.0  # after a wrong password: cameras lock accounts for the sixth within minutes
# Frames further apart than this do not lead up to each other, whatever the rate.
LONGEST_STEP_S = 1.0
CLEAN_S = 10.0  # a bad line spoils a part of every few seconds: that is said once, until so long nothing was damaged
ONLY_DAMAGE_S = 30.0  # after so long without a whole picture the camera counts as lost
NEARLY = 0.8  # of `stall_s`: a read that ends after so long has timed out


class Reader(threading.Thread):
    """Opens the camera, reads it until it is lost, waits a little and begins again, until it is told to stop.

    A call into a camera's driver cannot be interrupted. A reader that hangs in one is left behind with `stop` and ends, without
    another word to the hand-over, when the call returns.

    Attributes:
        failure: an unexpected error that ended the thread; None otherwise.
        lost_at_s: when the camera was lost, on the monotonic clock; None while it is there, or has never been.
    """

    def __init__(
        self, opener: Opener, options: CameraOptions, fps: float | None, hand_over: HandOver, lost_at_s: float | None = None
    ) -> None:
        super().__init__(name="camera reader", daemon=True)
        self.failure: Exception | None = None
        self.lost_at_s = lost_at_s
        self._opener = opener
        self._stall_s, self._open_s = options.stall_s, options.open_s
        self._pace = Pace(fps)
        self._hand_over = hand_over
        self._stopping = threading.Event()
        self._in_driver: tuple[str, float] | None = None
        self._check = PictureCheck()
        self._freeze = FreezeWatch(options.stall_s)
        self._attempts = 0
        self._is_refused = False
        self._good_at_s: float | None = None  # the last picture that showed something new
        self._filler: Filler | None = None  # what the newest picture was, if it was nothing
        self._frozen_since_s: float | None = None
        self._damaged_since_s: float | None = None
        self._damaged_at_s = -math.inf
        self._gap: Gap | None = Gap(GapKind.START, "start")

    def stop(self) -> None:
        """Say that it is no longer wanted; it ends after the driver's call that it is in."""
        self._stopping.set()

    def hangs(self) -> bool:
        """Whether a call into the driver takes longer than it may: a read twice `stall_s`, opening in several ways three times `open_s`."""
        call = self._in_driver
        if call is None:
            return False
        name, since_s = call
        limit_s = (2.0 * self._stall_s if name == "read" else 3.0 * self._open_s) + 1.0
        return time.monotonic() - since_s > limit_s

    def run(self) -> None:
        """The thread's life."""
        try:
            self._keep_reading()
        except Exception as error:  # noqa: BLE001  (told by `failure`: a thread has no caller to raise to)
            self.failure = error
            if not self._stopping.is_set():
                self._hand_over.change(state="waiting", last_error=f"the reader failed ({type(error).__name__})")

    def _keep_reading(self) -> None:
        waits = waits_s()
        while not self._stopping.is_set():
            connects = self._hand_over.health().connects
            self._hand_over.change(state="opening")
            self._attempts += 1
            reason = self._open_and_read()
            if self._stopping.is_set():
                return
            self._lose(reason)
            if self._hand_over.health().connects > connects:
                waits = waits_s()
            self._stopping.wait(REFUSED_WAIT_S if self._is_refused else next(waits))

    def _open_and_read(self) -> str:
        """One connection, from its beginning to its end; why it ended."""
        self._in_driver = ("open", time.monotonic())
        self._is_refused = False
        try:
            capture = self._opener.open()
        except EdgeError as error:
            self._is_refused = isinstance(error, AccessRefused)
            return str(error)
        finally:
            self._in_driver = None
        try:
            return self._read_until_lost(capture)
        finally:
            self._in_driver = ("close", time.monotonic())
            capture.close()
            self._in_driver = None

    def _read_until_lost(self, capture: Capture) -> str:
        while not self._stopping.is_set():
            began_s = time.monotonic()
            self._in_driver = ("read", began_s)
            image = capture.read()
            self._in_driver = None
            if self._stopping.is_set():
                break
            waited_s = time.monotonic() - began_s
            # After a timeout FFmpeg still gives the frames it has left, one for each further timeout.
            if image is None or (self._is_connected() and waited_s >= NEARLY * self._stall_s):
                return self._why_lost(waited_s)
            # Back is a camera with its first whole picture: else one that sends no other would be lost and back without end.
            if not capture.is_damaged or self.lost_at_s is None:
                self._connect(capture, image)
            self._receive(image, time.monotonic(), time.time(), is_damaged=capture.is_damaged)
            if self._damaged_since_s is not None and time.monotonic() - self._damaged_since_s >= ONLY_DAMAGE_S:
                return f"only damaged pictures for {ONLY_DAMAGE_S:.0f} s"
        return "closed"

    def _why_lost(self, waited_s: float) -> str:
        if waited_s >= NEARLY * self._stall_s:
            self._hand_over.count("stalls")
            return f"no frame for {waited_s:.1f} s"
        return "the connection ended"

    def _lose(self, reason: str) -> None:
        self._hand_over.change(state="waiting", last_error=reason)
        if self.lost_at_s is None:
            self.lost_at_s = time.monotonic()
            if self._hand_over.health().connects:
                self._hand_over.count("losses")
                self._hand_over.note(Notice(EventKind.SOURCE_LOST, {"reason": reason}))
        self._check.forget()
        self._freeze.forget()
        self._filler = self._damaged_since_s = None
        self._note_freeze(False, time.monotonic())

    def _is_connected(self) -> bool:
        return self._hand_over.health().state == "reading"

    def _connect(self, capture: Capture, image: np.ndarray) -> None:
        """Note the first picture of a connection."""
        health = self._hand_over.health()
        height, width = image.shape[:2]
        if (health.width, health.height) != (width, height):
            self._hand_over.change(width=width, height=height)
        if self._is_connected():
            return
        self._hand_over.change(state="reading", decoder=capture.decoder, fps=capture.fps, connects=health.connects + 1)
        if health.connects and self.lost_at_s is not None:
            down_s = time.monotonic() - self.lost_at_s
            self._hand_over.count("down_s", down_s)
            self._gap = Gap(GapKind.RECONNECT, f"reconnect after {down_s:.1f} s")
            self._hand_over.note(Notice(EventKind.RECONNECT, {"down_s": down_s, "attempts": self._attempts, "decoder": capture.decoder}))
        self.lost_at_s, self._attempts, self._good_at_s = None, 0, None

    def _receive(self, image: np.ndarray, time_s: float, wall_time_s: float, *, is_damaged: bool) -> None:
        """A picture from the camera: counted, and handed over if it is whole, shows something new and is due."""
        self._hand_over.count("frames")
        if is_damaged:
            self._note_damage(time_s)
            return
        self._damaged_since_s = None
        is_frozen = self._freeze.look(image, time_s)
        filler = self._check.look(image) or (Filler.FROZEN if is_frozen else None)
        self._note_freeze(is_frozen and filler is not Filler.ONE_COLOUR, time_s)
        self._note_filler(filler)
        if filler is not None:
            return
        if self._good_at_s is not None and time_s - self._good_at_s > LONGEST_STEP_S:
            self._gap = self._gap or Gap(GapKind.PAUSE, f"no new picture for {time_s - self._good_at_s:.1f} s")
        self._good_at_s = time_s
        if not self._pace.is_due(time_s):
            self._hand_over.count("skipped")
            return
        self._hand_over.put(Picture(image, self._gap, time_s, wall_time_s))
        self._gap = None

    def _note_freeze(self, is_frozen: bool, time_s: float) -> None:
        if is_frozen and self._frozen_since_s is None:
            self._frozen_since_s = self._freeze.since_s
            self._gap = self._gap or Gap(GapKind.FROZEN, "the picture was frozen")
            self._hand_over.note(Notice(EventKind.PICTURE_FROZEN, {"for_s": time_s - self._frozen_since_s}))
        elif not is_frozen and self._frozen_since_s is not None:
            self._hand_over.note(Notice(EventKind.PICTURE_MOVES, {"frozen_s": time_s - self._frozen_since_s}))
            self._frozen_since_s = None

    def _note_damage(self, time_s: float) -> None:
        self._hand_over.count("damaged")
        self._gap = self._gap or Gap(GapKind.DAMAGED, "damaged pictures")
        self._damaged_since_s = time_s if self._damaged_since_s is None else self._damaged_since_s
        if time_s - self._damaged_at_s > CLEAN_S:
            self._hand_over.note(Notice(EventKind.FILLER, {"reason": "damaged"}))
        self._damaged_at_s = time_s

    def _note_filler(self, filler: Filler | None) -> None:
        if filler is not None:
            self._hand_over.count("filler")
        if filler is Filler.ONE_COLOUR and self._filler is not filler:
            self._gap = self._gap or Gap(GapKind.ONE_COLOUR, "pictures of one colour")
            self._hand_over.note(Notice(EventKind.FILLER, {"reason": filler.value}))
        self._filler = filler


class Pace:
    """Chooses frames at an even rate from those of a camera that may be faster.

    Args:
        fps: the rate wanted; None: every frame.
    """

    def __init__(self, fps: float | None) -> None:
        self._step_s = 0.0 if fps is None else 1 / fps
        self._due_s: float | None = None
        self._before_s: float | None = None
        self._interval_s = 0.0  # between the camera's frames, smoothed

    def is_due(self, time_s: float) -> bool:
        """Whether the frame that arrives at `time_s` is the nearest one to the next moment wanted."""
        if self._before_s is not None:
            interval_s = time_s - self._before_s
            self._interval_s = interval_s if self._interval_s == 0 else 0.9 * self._interval_s + 0.1 * min(interval_s, LONGEST_STEP_S)
        self._before_s = time_s
        if self._due_s is not None and time_s < self._due_s - 0.5 * self._interval_s:
            return False
        # After a pause the beat begins anew: what was missed is not made up for.
        is_on_beat = self._due_s is not None and time_s - self._due_s < self._step_s
        self._due_s = (self._due_s if is_on_beat and self._due_s is not None else time_s) + self._step_s
        return True


def waits_s() -> Iterator[float]:
    """Seconds to wait before each next attempt: doubling, bounded, and never the same for two cameras."""
    wait_s = FIRST_WAIT_S
    while True:
        yield wait_s * random.uniform(0.5, 1.0)  # noqa: S311  (spreads attempts, keeps no secret)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
