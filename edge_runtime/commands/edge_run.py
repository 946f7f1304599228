"""`edge-run`: score a camera, a video, a folder of images or the built-in scene."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands import EXIT_INTERRUPTED, run_command, set_up_logging
from edge_runtime.commands.backend_flags import add_backend_flags
from edge_runtime.commands.camera_flags import add_camera_flags, camera_options, source_uri
from edge_runtime.commands.output_flags import add_output_flags, check_output_flags, locked_output, open_sinks
from edge_runtime.commands.signals import StopSignals

if TYPE_CHECKING:
    from edge_runtime.bundle import Bundle
    from edge_runtime.detector import Detector
    from edge_runtime.errors import SinkError
    from edge_runtime.run.pipeline import Pipeline
    from edge_runtime.run.state import StateStore
    from edge_runtime.run.summary import Summary
    from edge_runtime.sources import Source
    from edge_runtime.stream import Stream

__all__ = ["main"]

EPILOG = """examples:
  edge-run --source synthetic: --bundle bundles/synthetic-lite --out runs/demo --save-video
  edge-run --source gate.mp4 --bundle bundles/gate --out runs/gate
  edge-run --camera 0 --bundle bundles/gate --state /var/lib/edge
  EDGE_SOURCE=rtsp://user:password@10.0.0.7/stream1 edge-run --bundle bundles/gate --out runs/gate --wait

cameras: camera:0, /dev/video0, v4l2:///dev/v4l/by-id/…, csi://0, gst:PIPELINE, rtsp://…, http://… (MJPEG).
Without --camera and --source, $EDGE_SOURCE is taken: a password there is not seen in the list of processes.
"""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _run(arguments), is_debug=arguments.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-run", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--camera", type=int, metavar="N", help="the N-th local camera")
    source.add_argument("--source", metavar="URI", help="a camera's address, a video, a folder or wildcard of images, synthetic:?seed=7")
    parser.add_argument(
        "--bundle", type=Path, default=Path(os.environ.get("EDGE_BUNDLE", "bundle")), help="default: $EDGE_BUNDLE, else ./bundle"
    )
    add_backend_flags(parser)
    parser.add_argument("--threads", type=int, help="for each graph on the CPU (default: one a core)")
    parser.add_argument("--update", choices=("on", "off"), default="on", help="off: the memory does not learn")
    parser.add_argument("--state", type=Path, metavar="DIR", help="load the memory from here, save it here every 60 s and at the end")
    parser.add_argument("--threshold", type=float, metavar="X", help="instead of the bundle's")
    parser.add_argument("--max-frames", type=int, metavar="N", help="end after N frames")
    parser.add_argument(
        "--fps",
        type=float,
        metavar="X",
        help="of footage: its frame rate, which image folders need; of a camera: frames per second to score (default: the bundle's)",
    )
    parser.add_argument("--loop", action="store_true", help="begin again at the end of the footage")
    parser.add_argument("--stream", metavar="NAME", help="name of the camera in what is written (default: from the source)")
    add_camera_flags(parser)
    add_output_flags(parser)
    parser.add_argument("--debug", action="store_true", help="more log lines, and tracebacks")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    signals = StopSignals()
    _check(arguments)
    with locked_output(arguments):
        return _score(arguments, signals)


def _score(arguments: argparse.Namespace, signals: StopSignals) -> int:
    from edge_runtime.bundle import Bundle
    from edge_runtime.commands.progress import LiveProgress
    from edge_runtime.detector import Detector
    from edge_runtime.errors import SinkError
    from edge_runtime.run.pipeline import Pipeline
    from edge_runtime.run.service import Service

    bundle = Bundle.load(arguments.bundle)
    detector = Detector.open(
        bundle,
        precision=arguments.precision,
        backend=arguments.backend,
        device=arguments.device,
        threshold=arguments.threshold,
        threads=arguments.threads,
    )
    detector.keeps_error_maps = arguments.save_video or arguments.events is not None
    with signals.interrupting():
        source = _open_source(arguments, bundle)
    service = Service()
    stream = detector.open_stream(arguments.stream or source.stream)
    with signals.interrupting():  # another run may have the memory, and is waited for
        state = _open_state(arguments, bundle, stream)
    if arguments.update == "off":
        stream.bank.freeze()
        state = None  # nothing is learned; saved now, the state would stay frozen in every later run
    where = f"{'fast graphs in ' if detector.runs_fast_graphs else ''}{detector.backend} on {detector.device.name}"
    print(f"{bundle.manifest.name} ({detector.precision}, {where}): {_describe_threshold(detector, arguments)}", file=sys.stderr)
    lost: list[SinkError] = []
    with ExitStack() as stack:
        stack.enter_context(detector)
        # Under systemd the line of state goes there instead of filling the journal.
        progress = stack.enter_context(LiveProgress(source.frame_count, service.status if service.is_there else None))
        sinks = open_sinks(arguments, source, stream.name)
        pipeline = Pipeline(detector, source, [*sinks, progress], stream, state=state, on_frame=progress.show, on_round=service.progress)
        stack.callback(_attempt, lambda: _write_results(pipeline, arguments), lost)
        signals.guard(pipeline)
        service.ready()
        _attempt(lambda: pipeline.run(arguments.max_frames), lost)
        service.stopping()
    summary = pipeline.summary()
    if not summary.scored:
        span = bundle.manifest.input.span
        print(f"warning: nothing was scored: a score needs {span} consecutive frames, got {summary.frames}", file=sys.stderr)
    print(_describe(summary, arguments.out))
    if lost:
        raise SinkError(" ".join(map(str, lost)))
    return EXIT_INTERRUPTED if summary.ended_by == "interrupted" else 0


def _attempt(action: Callable[[], None], lost: list[SinkError]) -> None:
    """Do it; what could not be written is told at the end, after what was scored."""
    from edge_runtime.errors import SinkError

    try:
        action()
    except SinkError as error:
        print(f"warning: {error}", file=sys.stderr)
        lost.append(error)


def _check(arguments: argparse.Namespace) -> None:
    from edge_runtime.errors import ConfigError

    check_output_flags(arguments)
    if arguments.max_frames is not None and arguments.max_frames < 1:
        raise ConfigError(f"--max-frames: expected 1 or more, got {arguments.max_frames}.")


def _open_source(arguments: argparse.Namespace, bundle: Bundle) -> Source:
    from edge_runtime.run.rate_watch import holds_at
    from edge_runtime.sources import open_source
    from edge_runtime.sources.address import is_live

    uri = source_uri(arguments)
    calibrated = bundle.manifest.fps
    fps = calibrated if arguments.fps is None and is_live(uri) else arguments.fps
    source = open_source(uri, fps=fps, loop=arguments.loop, stream=arguments.stream, camera=camera_options(arguments))
    if source.fps and not holds_at(source.fps, calibrated):
        print(
            f"warning: {source.uri} has {source.fps:g} frames per second, the bundle was calibrated at {calibrated:g}: its threshold and "
            f"smoothing do not hold, and its model has not learned such motion. {_rate_remedy(source, arguments.fps, calibrated)}",
            file=sys.stderr,
        )
    return source


def _rate_remedy(source: Source, wished_fps: float | None, calibrated: float) -> str:
    """What to do about another rate. Calibration alone is not it: a model knows motion at the rate it was trained at."""
    if source.is_live and source.fps == wished_fps:
        return "Leave --fps out: the camera is then scored at the bundle's rate."
    if source.is_live:
        return f"Ask the camera for more (--rate), or train a model at {source.fps:g}."
    return f"Make footage of the bundle's rate (ffmpeg -i IN -vf fps={calibrated:g} OUT), or train a model at {source.fps:g}."


def _open_state(arguments: argparse.Namespace, bundle: Bundle, stream: Stream) -> StateStore | None:
    from edge_runtime.run.state import StateStore

    if arguments.state is None:
        return None
    state = StateStore(arguments.state, stream.name, bundle)
    if arguments.update == "on":
        state.lock()
    if state.load(stream.bank):
        note = "; it is frozen: it drifted past its limit" if stream.bank.is_frozen else ""
        print(f"memory restored from {state.path}{note}", file=sys.stderr)
    return state


def _write_results(pipeline: Pipeline, arguments: argparse.Namespace) -> None:
    """summary.json and timeline.png, also of a run that an error ended."""
    if arguments.out is None:
        return
    import msgspec

    from edge_runtime.files import write_atomically

    summary = msgspec.json.format(msgspec.json.encode(pipeline.summary()), indent=2)
    write_atomically(arguments.out / "summary.json", summary + b"\n")
    if arguments.timeline:
        from edge_runtime.sinks.tables.timeline import draw_timeline

        draw_timeline(arguments.out / "scores.jsonl", arguments.out / "timeline.png")


def _describe_threshold(detector: Detector, arguments: argparse.Namespace) -> str:
    threshold = detector.bundle.precision(detector.precision).threshold
    if arguments.threshold is not None:
        return f"threshold {arguments.threshold:g}, as wished"
    note = ", extrapolated: the normal footage was too short to show that rate" if threshold.is_extrapolated else ""
    return f"threshold {threshold.score:.2f} for {threshold.false_alarms_per_hour:g} false alarms per hour{note}"


def _describe(summary: Summary, out: Path | None) -> str:
    latency = summary.latency_ms
    timing = "" if latency is None else f", {latency.p50:.1f} ms a frame (p99 {latency.p99:.1f})"
    where = "" if out is None else f" -> {out}"
    return (
        f"{summary.bundle}: scored {summary.scored} of {summary.frames} frames at {summary.fps:.1f} fps{timing}; "
        f"{summary.alarms} alarms, {summary.updates} memory updates; ended by {summary.ended_by}{where}"
    )


if __name__ == "__main__":
    sys.exit(main())
