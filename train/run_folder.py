"""The folder of a run: of one training at a time, and gone on with only as it was begun."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.files import remove_leftovers
from edge_runtime.locks import locked_folder
from train.config import TrainConfig, config_values, parse_config
from train.data import Segment, is_same_place

__all__ = ["check_begun_as", "check_clips", "claimed"]

REPLACED = ("run.json", "checkpoint.safetensors", "best.safetensors")


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Make the folder and keep every other training out of it, until the end or until this process dies.

    What a killed training left half-written there goes away. On a file system without locks nobody is kept out, which the log says.

    Raises:
        ConfigError: another training writes there.
        SinkError: the folder cannot be made or written.
    """
    with locked_folder(out):
        for name in REPLACED:
            remove_leftovers(out / name)
        yield


def check_begun_as(config: TrainConfig, data: str, out: Path, *, resume: bool) -> None:
    """Raises:
    ConfigError: the folder holds a run and resume is off, or holds a run of another configuration or other footage.
    """
    run = out / "run.json"
    if not run.exists():
        return
    if not resume:
        raise ConfigError(f"{out}: expected an empty folder, found a run. Go on with RESUME=1, or say another OUT=.")
    before = _read(run)
    changed = [] if is_same_place(before["data"], data) else ["the data"]
    begun, now = config_values(parse_config(before["configuration"], str(run))), config_values(config)
    changed += [key for key in now if now[key] != begun.get(key)]
    if changed:
        raise ConfigError(
            f"{out}: expected what the run began with, got another in: {', '.join(changed)}. Resume with the same CONFIG, DATA and EPOCHS, "
            "or say another OUT=."
        )


def check_clips(description: dict[str, Any], out: Path) -> None:
    """A run goes on with the clips and the weights it began with: another split would train on what was held out.

    Args:
        description: what `run.json` will say.

    Raises:
        ConfigError: the folder holds a run that began with others.
    """
    run = out / "run.json"
    if not run.exists():
        return
    before, now = _read(run), json.loads(json.dumps(description))
    if before.get("started_from") != now["started_from"]:
        raise ConfigError(f"{out}: expected the FROM= that the run began with, got another. Resume with the same, or say another OUT=.")
    for part in ("training", "held_out"):
        begun, found = ([Segment(**segment) for segment in facts[part]] for facts in (before, now))
        if len(begun) != len(found) or not all(map(_are_same, begun, found)):
            raise ConfigError(
                f"{out}: expected the {part} clips the run began with ({_named(begun)}), got {_named(found)}. Say another OUT=."
            )


def _read(run: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(run.read_text(encoding="utf-8"))
        _ = [facts[key] for key in ("configuration", "data", "training", "held_out")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{run}: expected the description of a run, got '{error}'. Say another OUT=.") from error
    return facts


def _are_same(one: Segment, other: Segment) -> bool:
    return (one.name, one.start, one.stop) == (other.name, other.start, other.stop) and is_same_place(one.uri, other.uri)


def _named(segments: list[Segment]) -> str:
    return ", ".join(f"{segment.name} with {segment.stop - segment.start} frames" for segment in segments)
