"""Checkpoints: tensors in safetensors, everything else in JSON beside them; nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from edge_runtime.errors import ConfigError
from edge_runtime.files import write_atomically

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """Attributes:
    tensors: by name: `model.*`, `<pool>.items`, and in a checkpoint to resume from `optimiser.*`.
    facts: what is not a tensor (epoch, losses); plain JSON values.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix.`, without it."""
        return {name.removeprefix(f"{prefix}."): tensor for name, tensor in self.tensors.items() if name.startswith(f"{prefix}.")}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `path` (safetensors, the facts in its header) in one step: a killed run leaves the one before."""
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    write_atomically(path, safetensors.torch.save(tensors, metadata={"facts": json.dumps(checkpoint.facts)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises:
        ConfigError: missing or broken file.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            facts = json.loads(file.metadata()["facts"])
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: expected a checkpoint, found none. Train first: make train CONFIG=… DATA=… OUT=…") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: expected a checkpoint, cannot read it ({error}). Train again without RESUME=1.") from error
    return Checkpoint(tensors, facts)
