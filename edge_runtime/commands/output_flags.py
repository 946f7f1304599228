"""The flags that say where results go, and the sinks they name."""

from __future__ import annotations

import argparse
import glob
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_runtime.sinks import Sink
    from edge_runtime.sources import Source

__all__ = ["add_output_flags", "check_output_flags", "locked_output", "open_sinks"]

LEFT_BY_A_RUN = ("annotated.mp4", "timeline.png", "summary.json", "scores.csv")


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--out` to `--webhook`."""
    group = parser.add_argument_group("results")
    group.add_argument("--out", type=Path, metavar="DIR", help="write scores.jsonl and summary.json here")
    group.add_argument("--csv", action="store_true", help="and scores.csv (needs --out)")
    group.add_argument("--save-video", action="store_true", help="and annotated.mp4 (needs --out)")
    group.add_argument("--timeline", action="store_true", help="and timeline.png (needs --out)")
    group.add_argument("--events", type=Path, metavar="DIR", help="a folder here for each alarm: its clip, its oddest frame, its facts")
    group.add_argument("--events-mb", type=float, default=2000.0, metavar="N", help="room for these; the oldest go (default: 2000)")
    group.add_argument("--mqtt", metavar="URL", help="publish alarms: mqtt://user:password@host/topic (default: $EDGE_MQTT)")
    group.add_argument("--webhook", metavar="URL", help="post alarms: https://host/path (default: $EDGE_WEBHOOK)")


def check_output_flags(arguments: argparse.Namespace) -> None:
    """Before anything is loaded or scored.

    Raises:
        ConfigError: a flag needs another one.
        BackendUnavailable: one needs matplotlib, which is not installed.
    """
    from edge_runtime.errors import ConfigError

    if (arguments.save_video or arguments.timeline or arguments.csv) and arguments.out is None:
        raise ConfigError("--save-video, --timeline and --csv: expected a folder to write to, got none. Say --out DIR.")
    if arguments.timeline:
        from edge_runtime.optional.plotting import figure_class

        figure_class()


@contextmanager
def locked_output(arguments: argparse.Namespace) -> Iterator[None]:
    """The folder of `--out`, if there is one, for this run alone.

    Raises:
        ConfigError: another run is writing there.
        SinkError: it cannot be made or written.
    """
    from edge_runtime.locks import locked_folder

    if arguments.out is None:
        yield
        return
    with locked_folder(arguments.out):
        yield


def open_sinks(arguments: argparse.Namespace, source: Source, stream: str) -> list[Sink]:
    """The sinks that the flags name, in the order in which they are to be called; the folder of `--out` is locked.

    Raises:
        EdgeError: one of them cannot be opened; none stays open then.
    """
    _refuse_folder_of_footage(arguments, source)
    opened: dict[str, Sink] = {}
    try:
        for name, begin in _wanted(arguments, source, stream):
            opened[name] = begin()
        if arguments.out is not None:
            _clear(arguments.out, source)
        for name, begin in _beginning_at_once(arguments):
            opened[name] = begin()
    except BaseException:
        for sink in opened.values():
            sink.close()
        raise
    # An alarm's clip is complete before any other sink tells that the alarm is over.
    return [opened[name] for name in ("events", "scores", "csv", "video", "mqtt", "webhook") if name in opened]


def _refuse_folder_of_footage(arguments: argparse.Namespace, source: Source) -> None:
    """Whoever reads that folder next, training for one, would take the pictures of this run for footage.

    Raises:
        ConfigError: a flag would put them there.
    """
    from edge_runtime.errors import ConfigError

    folders = _folders_of_footage(source)
    pictures = [
        ("--save-video", "--out", arguments.out if arguments.save_video else None),
        ("--timeline", "--out", arguments.out if arguments.timeline else None),
        ("--events", "--events", arguments.events),
    ]
    for flag, place, folder in pictures:
        if folder is not None and folder.resolve() in folders:
            raise ConfigError(
                f"{flag}: expected a folder without footage, got {folder}, where {source.uri} is: training would take what is written "
                f"there for footage, too. Say another {place}."
            )


def _folders_of_footage(source: Source) -> set[Path]:
    """Where the files of a source lie; nothing of a camera or the built-in scene."""
    if source.is_live:
        return set()
    paths = [Path(path) for path in ([source.uri] if os.path.exists(source.uri) else glob.glob(source.uri))]
    return {(path if path.is_dir() else path.parent).resolve() for path in paths}


def _wanted(arguments: argparse.Namespace, source: Source, stream: str) -> list[tuple[str, Callable[[], Sink]]]:
    """What to open first, because it may fail or take its time."""
    mqtt, webhook = arguments.mqtt or os.environ.get("EDGE_MQTT"), arguments.webhook or os.environ.get("EDGE_WEBHOOK")
    wanted: list[tuple[str, Callable[[], Sink]]] = []
    if arguments.events is not None:
        wanted.append(("events", lambda: _events(arguments, source)))
    if arguments.save_video:
        wanted.append(("video", lambda: _video(arguments.out, source)))
    if mqtt:
        wanted.append(("mqtt", lambda: _mqtt(mqtt, stream, arguments.state)))
    if webhook:
        wanted.append(("webhook", lambda: _webhook(webhook)))
    return wanted


def _beginning_at_once(arguments: argparse.Namespace) -> list[tuple[str, Callable[[], Sink]]]:
    """The files of scores, in the place of those of a run before."""
    wanted: list[tuple[str, Callable[[], Sink]]] = []
    if arguments.csv:
        wanted.append(("csv", lambda: _csv(arguments.out)))
    if arguments.out is not None:
        wanted.append(("scores", lambda: _scores(arguments.out)))
    return wanted


def _events(arguments: argparse.Namespace, source: Source) -> Sink:
    from edge_runtime.sinks.events.event_clips import EventClipsSink

    return EventClipsSink(arguments.events, source.fps or 10.0, capacity_mb=arguments.events_mb)


def _video(out: Path, source: Source) -> Sink:
    from edge_runtime.sinks.video.annotated_video import AnnotatedVideoSink

    return AnnotatedVideoSink(out / "annotated.mp4", source.fps or 10.0)


def _mqtt(url: str, stream: str, state: Path | None) -> Sink:
    from edge_runtime.sinks.alerts.mqtt import MqttSink

    return MqttSink(url, stream, spool_dir=state)


def _webhook(url: str) -> Sink:
    from edge_runtime.sinks.alerts.webhook import WebhookSink

    return WebhookSink(url)


def _csv(out: Path) -> Sink:
    from edge_runtime.sinks.tables.csv_table import CsvSink

    return CsvSink(out / "scores.csv")


def _scores(out: Path) -> Sink:
    from edge_runtime.sinks.tables.jsonl import JsonLinesSink

    return JsonLinesSink(out / "scores.jsonl")


def _clear(out: Path, source: Source) -> None:
    """Remove what a run before left, killed or not: it would not belong to the new scores.

    Raises:
        ConfigError: it is what is to be scored.
        SinkError: it cannot be removed.
    """
    from edge_runtime.errors import ConfigError
    from edge_runtime.files import remove_leftovers, unwritable

    scored = Path(source.uri).resolve()
    for picture in (out / "annotated.mp4", out / "timeline.png"):
        if picture.exists() and scored in (picture.resolve(), picture.parent.resolve()):
            raise ConfigError(f"--out {out}: expected a folder without footage, {picture.name} in it is to be scored. Say another --out.")
    for left in LEFT_BY_A_RUN:
        try:
            (out / left).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(out / left, error) from error
        remove_leftovers(out / left)
