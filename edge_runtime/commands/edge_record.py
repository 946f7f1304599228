"""`edge-record`: record normal footage for training, and say whether it is worth training on."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands import EXIT_INTERRUPTED, run_command, set_up_logging
from edge_runtime.commands.camera_flags import add_camera_flags
from edge_runtime.commands.signals import StopSignals

if TYPE_CHECKING:
    from edge_runtime.recording.folder import RecordingFolder
    from edge_runtime.recording.recorder import Wish
    from edge_runtime.recording.run import RecordingRun
    from edge_runtime.sources import Source

__all__ = ["main"]

EPILOG = """examples:
  edge-record --camera 0 --out footage/gate
  EDGE_SOURCE=rtsp://user:password@10.0.0.7/stream1 edge-record --out footage/gate --minutes 120 --fps 10 --wait
  edge-record --source long.mp4 --out footage/hall --clip-minutes 2

Run again with the same --out it goes on until --minutes are there. Record what is normal: people who come and go as
they do, at all times of the day that the model will see. Train on it: make train DATA=footage/gate …
Without --camera and --source, $EDGE_SOURCE is taken: a password there is not seen in the list of processes.
"""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _run(arguments), is_debug=arguments.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-record", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--camera", type=int, metavar="N", help="the N-th local camera")
    source.add_argument(
        "--source", metavar="URI", help="a camera's address; or a video, a folder or wildcard of images, to be cut into clips"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="write the clips and recording.json here")
    parser.add_argument("--minutes", type=float, default=30.0, metavar="M", help="of footage to have there in the end (default: 30)")
    parser.add_argument("--clip-minutes", type=float, default=5.0, metavar="M", help="of one clip; a gap ends it earlier (default: 5)")
    parser.add_argument(
        "--fps",
        type=float,
        metavar="X",
        help="of a camera: frames per second to record (default: those of the clips there, else its own); of images: their rate",
    )
    parser.add_argument("--max-mb", type=float, default=10_000.0, metavar="MB", help="end when all clips there reach it (default: 10000)")
    parser.add_argument(
        "--crf", type=int, metavar="N", help="x264's quality, smaller is better and larger (default: 23, tuned to keep grain)"
    )
    parser.add_argument("--stream", metavar="NAME", help="name of the camera in messages (default: from the source)")
    add_camera_flags(parser)
    parser.add_argument("--debug", action="store_true", help="more log lines, and tracebacks")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    signals = StopSignals()

    from edge_runtime.recording.folder import RecordingFolder
    from edge_runtime.recording.recorder import limit_reached

    wish = _wish(arguments)
    with ExitStack() as stack:
        folder = RecordingFolder(arguments.out)
        stack.callback(folder.close)
        if folder.rows:
            print(f"{arguments.out}: {folder.seconds / 60:.1f} of {wish.minutes:g} minutes are there already", file=sys.stderr)
        reached = limit_reached(folder, wish)
        if reached is not None:
            _judge(folder, None, None)
            print(f"{reached}: nothing to record -> {arguments.out}")
            return 0
        return _record(arguments, folder, wish, signals)


def _wish(arguments: argparse.Namespace) -> Wish:
    from edge_runtime.recording.clip_file import DEFAULT_CRF
    from edge_runtime.recording.recorder import Wish

    crf = DEFAULT_CRF if arguments.crf is None else arguments.crf
    return Wish(arguments.minutes, arguments.clip_minutes, arguments.max_mb, crf)


def _record(arguments: argparse.Namespace, folder: RecordingFolder, wish: Wish, signals: StopSignals) -> int:
    from edge_runtime.commands.camera_flags import camera_options, source_uri
    from edge_runtime.commands.recording_progress import RecordingLine
    from edge_runtime.recording.run import RecordingRun
    from edge_runtime.sources import open_source
    from edge_runtime.sources.address import is_live

    uri = source_uri(arguments)
    fps = folder.fps if arguments.fps is None and is_live(uri) else arguments.fps
    with signals.interrupting():
        source = open_source(uri, fps=fps, stream=arguments.stream, camera=camera_options(arguments))
    _refuse_other_rate(source, fps)
    with RecordingLine(60 * wish.minutes, folder.seconds) as line:
        run = RecordingRun(source, folder, wish, fps=fps, on_progress=line.show, on_event=line.tell)
        signals.guard(run)
        try:
            run.run()
        finally:
            line.close()
            _judge(folder, run, source)
    print(f"ended: {run.ended_by} -> {arguments.out}")
    return EXIT_INTERRUPTED if run.ended_by == "interrupted" else 0


def _refuse_other_rate(source: Source, fps: float | None) -> None:
    """A model trained on slow motion would take what is too fast for normal."""
    from edge_runtime.errors import ConfigError
    from edge_runtime.sources.footage import FootageSource, agree_on_rate

    if fps is None or not isinstance(source, FootageSource):
        return
    for rate in source.recorded_fps:
        if agree_on_rate((rate, fps)) is None:
            raise ConfigError(
                f"--fps {fps:g}: expected the rate of the footage, {source.uri} was recorded at {rate:g}. Leave it out, or write the "
                f"footage anew with that rate first: ffmpeg -i IN -vf fps={fps:g} OUT"
            )


def _judge(folder: RecordingFolder, run: RecordingRun | None, source: Source | None) -> None:
    """The verdict, printed and written to recording.json; also of a run that an error ended."""
    from edge_runtime.recording.verdict import described, warnings_about
    from edge_runtime.sources import LiveSource

    health = source.health() if isinstance(source, LiveSource) else None
    warnings = warnings_about(folder.rows, health=health, dropped=run.dropped if run else 0)
    folder.write(warnings)
    print(described(folder.rows))
    for warning in warnings:
        print(f"warning: {warning}")
    if any(row.glance for row in folder.rows) and not warnings:
        print("exposure and motion look good")


if __name__ == "__main__":
    sys.exit(main())
