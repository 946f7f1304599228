"""Weights that the MNAD authors' code has trained, read without running anything of theirs.

Their checkpoint is a whole pickled module, the items are a tensor in a file of its own. PyTorch's restricted unpickler builds what the
file names only where a list allows it; here every name on that list stands for one inert class that keeps what it is given.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_runtime.errors import ConfigError

__all__ = ["Release", "load_release"]

MODULES = (
    "model.final_future_prediction_with_memory_spatial_sumonly_weight_ranking_top1",
    "model.memory_final_spatial_sumonly_weight_ranking_top1",
    "model.Reconstruction",
    "model.Memory",
)
CLASSES = ("convAE", "Encoder", "Decoder", "Memory")
LAYERS = (
    "activation.ReLU",
    "activation.Tanh",
    "batchnorm.BatchNorm2d",
    "container.Sequential",
    "conv.Conv2d",
    "conv.ConvTranspose2d",
    "pooling.MaxPool2d",
)
ALLOWED = (
    *(f"{module}.{name}" for module in MODULES for name in CLASSES),
    *(f"torch.nn.modules.{name}" for name in LAYERS),
    "torch.nn.parallel.data_parallel.DataParallel",
)

ENCODER = {"moduleConv1": "level1", "moduleConv2": "level2", "moduleConv3": "level3", "moduleConv4": "level4"}
PREDICTION = {
    "moduleConv": "level4",
    "moduleUpsample4": "up3",
    "moduleDeconv3": "level3",
    "moduleUpsample3": "up2",
    "moduleDeconv2": "level2",
    "moduleUpsample2": "up1",
    "moduleDeconv1": "level1",
}
RECONSTRUCTION = dict(zip(PREDICTION, (0, 6, 9, 15, 18, 24, 27), strict=True))  # where each begins in the one Sequential there is here
NEVER_USED = re.compile(r"encoder\.moduleBatchNorm\.|.*\.num_batches_tracked$|memory\.")


@dataclass(frozen=True, eq=False)
class Release:
    """What a checkpoint holds, under the names that it has here.

    Attributes:
        model: `mnad_prediction` or `mnad_reconstruction`.
        weights: state dict of that model; without the counters of batch norms.
        items: (M, D), unit rows.
        frames, channels, width: of the network: frames of its input, channels of a frame, channels of the first level.
    """

    model: str
    weights: dict[str, Tensor]
    items: Tensor
    frames: int
    channels: int
    width: int


class Inert:
    """Stands for every class that a checkpoint may name: keeps its state and does nothing."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)


def load_release(checkpoint: Path, items: Path) -> Release:
    """Read a checkpoint of the public MNAD code, a state dict or a whole module, and its items.

    Raises:
        ConfigError: a file is missing or no such checkpoint, names a class that is not on the list, or has tensors that do not belong to
            MNAD; they are named.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in _state(_load(checkpoint), checkpoint).items()}
    kept = {name: tensor for name, tensor in state.items() if not NEVER_USED.match(name)}
    first, last = (_weight(kept, name, checkpoint) for name in ("encoder.moduleConv1.0.weight", "decoder.moduleDeconv1.6.weight"))
    channels, width = int(last.shape[0]), int(first.shape[0])
    # A step up of the reconstruction keeps its width, because nothing is concatenated.
    up = _weight(kept, "decoder.moduleUpsample4.0.weight", checkpoint)
    is_reconstruction = up.shape[0] == up.shape[1]
    weights, unexpected = {}, []
    for name, tensor in kept.items():
        ours = _renamed(name, is_reconstruction)
        if ours is None:
            unexpected.append(name)
        else:
            weights[ours] = tensor
    if unexpected:
        raise ConfigError(f"{checkpoint}: expected the tensors of MNAD's network alone, got besides: {', '.join(sorted(unexpected))}.")
    model = "mnad_reconstruction" if is_reconstruction else "mnad_prediction"
    return Release(model, weights, _items(items, 8 * width), int(first.shape[1]) // channels, channels, width)


def _load(path: Path) -> Any:
    allowed = [(Inert, name) for name in ALLOWED]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"{path}: expected a checkpoint of the MNAD code, got '{error.strerror or error}'.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{path}: expected a PyTorch file with nothing in it but MNAD's layers and tensors, got: {_cause(error)}. Nothing of it was "
            "run. Save the model's state_dict() with the code that it was trained with, and give that."
        ) from error


def _cause(error: Exception) -> str:
    """The name that is not allowed, where that is the reason; else the first line."""
    named = re.search(r"(?:GLOBAL|Unsupported (?:global|class|operand)[: ]+)\s*(\S+)", str(error))
    return named[0] if named else str(error).strip().split("\n", 1)[0][:200]


def _state(content: Any, path: Path) -> dict[str, Tensor]:
    """A state dict as it is, or the one of a whole module."""
    if isinstance(content, Inert):
        return dict(_tensors(content, ""))
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if isinstance(content, Mapping) and content and all(isinstance(value, Tensor) for value in content.values()):
        return dict(content)
    raise ConfigError(f"{path}: expected a state dict or a module of the MNAD code, got {type(content).__name__}.")


def _tensors(module: Inert, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for part in ("_parameters", "_buffers"):
        for name, tensor in _entries(module, part):
            if isinstance(tensor, Tensor):
                yield f"{prefix}{name}", tensor.detach()
    for name, child in _entries(module, "_modules"):
        if isinstance(child, Inert):
            yield from _tensors(child, f"{prefix}{name}.")


def _entries(module: Inert, part: str) -> list[tuple[str, Any]]:
    entries = getattr(module, part, {})
    return list(entries.items()) if isinstance(entries, dict | OrderedDict) else []


def _weight(state: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in state or state[name].ndim != 4:
        raise ConfigError(
            f"{path}: expected the MNAD network, whose tensor '{name}' tells its size, found {len(state)} tensors without it."
        )
    return state[name]


def _renamed(name: str, is_reconstruction: bool) -> str | None:
    """A tensor's name here; None for one that MNAD does not have."""
    half, _, rest = name.partition(".")
    block, _, rest = rest.partition(".")
    index, _, leaf = rest.partition(".")
    if half == "encoder" and block in ENCODER and index.isdigit():
        return f"encoder.{ENCODER[block]}.{index}.{leaf}"
    if half == "decoder" and block in PREDICTION and index.isdigit():
        return (
            f"decoder.{RECONSTRUCTION[block] + int(index)}.{leaf}" if is_reconstruction else f"decoder.{PREDICTION[block]}.{index}.{leaf}"
        )
    return None


def _items(path: Path, size: int) -> Tensor:
    items = _load(path)
    if not isinstance(items, Tensor) or items.ndim != 2 or items.shape[1] != size or len(items) < 2:
        got = tuple(items.shape) if isinstance(items, Tensor) else type(items).__name__
        raise ConfigError(f"{path}: expected the memory items, a tensor (M, {size}) with M of 2 or more, got {got}.")
    return torch.nn.functional.normalize(items.detach().float(), dim=1)
