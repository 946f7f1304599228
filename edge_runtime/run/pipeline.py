"""One stream from its source through the detector into the sinks, until it ends or is told to stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from time import monotonic, perf_counter

from edge_runtime.detector import Detector
from edge_runtime.errors import EdgeError
from edge_runtime.frames import Frame
from edge_runtime.run.camera_run import CameraRun
from edge_runtime.run.state import StateStore
from edge_runtime.run.summary import Progress, Summary
from edge_runtime.score import Event
from edge_runtime.sinks import Sink
from edge_runtime.sources import LiveSource, Source
from edge_runtime.sources.read_ahead import read_ahead
from edge_runtime.stream import Stream

__all__ = ["Pipeline"]

END = object()  # what comes after the last frame
POLL_S = 0.5  # how long a camera without frames keeps a signal, or the watchdog, waiting

log = logging.getLogger(__name__)


class Pipeline:
    """Runs one stream.

    Args:
        sinks: every step and event goes to each of them, in order; they are closed at the end, whatever happens. One that
            cannot write does not end the run: what it lost is counted, said, and raised at the end.
        stream: made by the detector; restored and frozen as wished before the run.
        state: saves the stream's memory while it runs and at the end.
        on_frame: called with the progress after every frame.
        on_round: called after every frame, and while a camera gives none, every half second in which its reader is at work.

    Attributes:
        is_stopping: `stop` was called.
        is_closing: no more frames; files are being finished, which must not be interrupted.
    """

    def __init__(
        self,
        detector: Detector,
        source: Source,
        sinks: Sequence[Sink],
        stream: Stream,
        *,
        state: StateStore | None = None,
        on_frame: Callable[[Progress], None] = lambda progress: None,
        on_round: Callable[[], None] = lambda: None,
    ) -> None:
        self._detector = detector
        self._source = source
        self._camera = CameraRun(detector, source, sinks, stream, state)
        self._on_frame = on_frame
        self._on_round = on_round
        self._seconds = 0.0
        self._ended_by = "not run"
        self.is_stopping = False
        self.is_closing = False

    @property
    def progress(self) -> Progress:
        """Counts so far."""
        return self._camera.progress

    def stop(self) -> None:
        """Finish the frame at hand, then end; safe to call from a signal handler."""
        self.is_stopping = True

    def run(self, max_frames: int | None = None) -> None:
        """Process frames until the source ends, `max_frames` is reached or `stop` is called. Runs once.

        Raises:
            EdgeError: of the source or the engines, after the sinks are closed and the state is saved.
            SinkError: all frames were processed, but something could not be written.
        """
        started = perf_counter()
        failure: BaseException | None = None
        self._ended_by = "an unexpected error"
        try:
            self._ended_by = self._process(max_frames)
        except (EdgeError, KeyboardInterrupt) as error:  # a second Ctrl-C does not let the frame at hand finish
            failure = error
        finally:
            self.is_closing = True
            self._seconds = perf_counter() - started
            self._camera.finish()
        lost = self._camera.lost.error()
        if failure is not None:
            self._ended_by = f"error: {failure}" if isinstance(failure, EdgeError) else "interrupted"
            if lost is not None:
                log.warning("besides: %s", lost)
            raise failure
        if lost is not None:
            raise lost

    def summary(self) -> Summary:
        """What came of the run, also of one that an error ended."""
        return self._camera.summary(self._seconds, self._ended_by)

    def _process(self, max_frames: int | None) -> str:
        arrivals = _arrivals(self._source)
        try:
            self._camera.begin()
            while not self.is_stopping:
                if self.progress.frames == max_frames:
                    return "max frames"
                started = perf_counter()
                item = next(arrivals, END)
                if item is END:
                    return "end of source"
                if isinstance(item, Event):
                    self._camera.note(item)
                elif isinstance(item, Frame):
                    self._handle(item, started)
                    self._on_frame(self.progress)
                self._on_round()
            return "interrupted"
        finally:
            arrivals.close()
            self._source.close()

    def _handle(self, frame: Frame, started: float) -> None:
        """One frame through the detector; `started` is from before it was grabbed. A camera's frame has waited since it arrived."""
        grabbed = perf_counter()
        began = grabbed - (monotonic() - frame.time_s) if self._source.is_live else started
        [step] = self._detector.step([(self._camera.stream, frame)])
        self._camera.take(step, began, grabbed)


def _arrivals(source: Source) -> Generator[Frame | Event | None]:
    """What a source gives, in order; None where a camera gives nothing for a while."""
    if not isinstance(source, LiveSource):
        yield from read_ahead(source)
        return
    while True:
        yield source.poll(POLL_S)
