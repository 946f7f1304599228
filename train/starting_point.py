"""Weights and memory of another run to begin with, in place of random ones: fine-tuning, on other footage or with another configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError
from train.checkpoint import Checkpoint, load_checkpoint
from train.data import Segment, is_same_place
from train.memory import Memory
from train.model import Model

__all__ = ["StartingPoint", "load_starting_point"]


@dataclass(frozen=True)
class StartingPoint:
    """The best model of a run.

    Attributes:
        sha256: of its file.
        facts: the run's `run.json`.
    """

    path: Path
    checkpoint: Checkpoint
    sha256: str
    facts: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """What the new run's `run.json` says of it, and of what it began with itself."""
        return {
            "run": str(self.path),
            "sha256": self.sha256,
            "epoch": self.checkpoint.facts["epoch"],
            "configuration": self.facts["configuration"],
            "training": self.facts["training"],
            "started_from": self.facts.get("started_from"),
        }

    def begin(self, model: Model, memory: Memory) -> None:
        """Put the weights into the model and the items into the memory.

        Raises:
            ConfigError: it is another network, or another memory.
        """
        memory.load(self.checkpoint.tensors, str(self.path))
        try:
            model.load_state_dict(self.checkpoint.part("model"))
        except RuntimeError as error:
            raise ConfigError(
                f"{self.path}: expected weights of the network that the configuration describes, got others. "
                "Start from a run with the same [model], input.frames and input.channels."
            ) from error

    def check_held_out(self, held_out: Iterable[Segment]) -> None:
        """Raises:
        ConfigError: it was trained on frames that are held out now: whatever is calibrated on them would look too good.
        """
        seen = _trained_on(self.facts)
        known = [segment.name for segment in held_out if any(_overlap(segment, other) for other in seen)]
        if known:
            raise ConfigError(
                f"{self.path}: expected a run that has not seen the held-out clips, it was trained on {', '.join(known)}. "
                "Start from a run with the same data.held_out_share and DATA, or train on other footage."
            )


def load_starting_point(run: Path) -> StartingPoint:
    """Read the best model of a run.

    Raises:
        ConfigError: there is no run, or it is broken.
    """
    best = run / "best.safetensors"
    checkpoint = load_checkpoint(best)
    try:
        facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
        _trained_on(facts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{run}: expected a training run (run.json), got '{error}'. Say another FROM=.") from error
    return StartingPoint(run, checkpoint, hashlib.sha256(best.read_bytes()).hexdigest(), facts)


def _trained_on(facts: dict[str, Any]) -> list[Segment]:
    """The clips of a run, and of what it started from, and so on."""
    before = facts.get("started_from")
    return [Segment(**segment) for segment in facts["training"]] + (_trained_on(before) if before else [])


def _overlap(one: Segment, other: Segment) -> bool:
    return is_same_place(one.uri, other.uri) and one.start < other.stop and other.start < one.stop
