"""A training run as a TOML file, read into frozen dataclasses.

Where the MNAD paper and its authors' release differ, the choice is a key here, never a hidden default.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec
import tomllib

from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec

__all__ = [
    "DataConfig",
    "LossConfig",
    "MemoryConfig",
    "ModelConfig",
    "OptimiserConfig",
    "PseudoAnomalyConfig",
    "TrainConfig",
    "check_config",
    "load_config",
    "parse_config",
]

# Beyond what any machine trains; far below what NumPy, OpenCV and PyTorch refuse in words of their own.
LARGEST_PX = 8192
WIDEST = 1024  # 16 times the paper's: some 4,000 million parameters
MOST_ITEMS = 65_536


@dataclass(frozen=True)
class ModelConfig:
    """Attributes:
    name: which network (`mnad_prediction`).
    width: channels of the first level; each of the three deeper levels has twice as many. Paper: 64.
    """

    name: Literal["mnad_prediction"] = "mnad_prediction"
    width: int = 64


@dataclass(frozen=True)
class MemoryConfig:
    """Attributes:
    items: M, memory items; 0 is the model without memory.
    write_scale: a query's weight in a write is divided by the largest weight over the queries that claim the item
        (`claimed`, the paper) or over all queries of the call (`all`, the release).
    """

    items: int = 10
    write_scale: Literal["claimed", "all"] = "all"


@dataclass(frozen=True)
class LossConfig:
    """Attributes:
    compactness: `distance` is the mean L2 distance of a query to its nearest item (paper), `squared` the mean squared
        difference over all elements (release).
    compactness_weight, separateness_weight: λ_c and λ_s.
    margin: of the separateness triplet, in L2 distance of unit vectors.
    """

    compactness: Literal["distance", "squared"] = "squared"
    compactness_weight: float = 0.1
    separateness_weight: float = 0.1
    margin: float = 1.0


@dataclass(frozen=True)
class OptimiserConfig:
    """Attributes:
    epochs: passes over the training clips; the learning rate falls to zero over them along a cosine.
    precision: `bf16` runs the convolutions in bfloat16; losses, queries and memory stay float32.
    """

    learning_rate: float = 2e-4
    batch_size: int = 4
    epochs: int = 60
    precision: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class DataConfig:
    """Attributes:
    held_out_share: share of the clips kept from training, for calibration and model selection; of a single clip, the
        share of its frames, from its end.
    fps: frame rate of footage that carries none (folders of images).
    """

    held_out_share: float = 0.2
    fps: float | None = None


@dataclass(frozen=True)
class PseudoAnomalyConfig:
    """Training windows that are made too fast, while their target stays the one at normal speed; see train/pseudo_anomalies.py.

    Attributes:
        share: of the training windows; 0 is the paper.
        speeds: how many times too fast; each is as likely as the others.
        box_share: of these windows, how many have only a box made fast, not the whole frame.
    """

    share: float = 0.0
    speeds: tuple[int, ...] = (2, 3, 4, 5)
    box_share: float = 0.5


@dataclass(frozen=True)
class TrainConfig:
    """One run. `seed` fixes the initial weights, the first memory, the order of the clips and the pseudo-anomalies."""

    name: str
    input: InputSpec
    model: ModelConfig = field(default_factory=ModelConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    data: DataConfig = field(default_factory=DataConfig)
    pseudo_anomalies: PseudoAnomalyConfig = field(default_factory=PseudoAnomalyConfig)
    seed: int = 0


def load_config(path: Path) -> TrainConfig:
    """Read and check a configuration file.

    Raises:
        ConfigError: missing or malformed file, unknown key (the valid ones are listed), wrong type or value.
    """
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: expected a configuration, got '{error.strerror}'. The shipped ones are in configs/.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML, got: {error}.") from error
    return parse_config(values, str(path))


def parse_config(values: dict[str, Any], origin: str) -> TrainConfig:
    """Turn plain values into a checked configuration; `origin` names them in errors."""
    _reject_unknown_keys(values, TrainConfig, origin, "")
    try:
        config = msgspec.convert(values, TrainConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {error}. See configs/ for examples.") from error
    check_config(config, origin)
    return config


def check_config(config: TrainConfig, origin: str) -> None:
    """Check every value's range, also of a configuration that was changed after it was read.

    Args:
        origin: where it comes from, for the error.

    Raises:
        ConfigError: a value is out of its range.
    """
    spec, loss, optimiser, pseudo, items = config.input, config.loss, config.optimiser, config.pseudo_anomalies, config.memory.items
    checks = [
        (spec.channels in (1, 3), "input.channels", "1 or 3", spec.channels),
        (spec.frames >= 1, "input.frames", "1 or more", spec.frames),
        (spec.target >= 0, "input.target", "0 or more", spec.target),
        (0 < spec.height <= LARGEST_PX and spec.height % 8 == 0, "input.height", f"a multiple of 8, {LARGEST_PX} at most", spec.height),
        (0 < spec.width <= LARGEST_PX and spec.width % 8 == 0, "input.width", f"a multiple of 8, {LARGEST_PX} at most", spec.width),
        (1 <= config.model.width <= WIDEST, "model.width", f"1 to {WIDEST}", config.model.width),
        (items == 0 or 2 <= items <= MOST_ITEMS, "memory.items", f"0, or 2 to {MOST_ITEMS}", items),
        (0 <= loss.compactness_weight < inf, "loss.compactness_weight", "0 or more", loss.compactness_weight),
        (0 <= loss.separateness_weight < inf, "loss.separateness_weight", "0 or more", loss.separateness_weight),
        (0 <= loss.margin < inf, "loss.margin", "0 or more", loss.margin),
        (optimiser.epochs >= 1, "optimiser.epochs", "1 or more", optimiser.epochs),
        (optimiser.batch_size >= 2, "optimiser.batch_size", "2 or more (batch norm)", optimiser.batch_size),
        (0 < optimiser.learning_rate < inf, "optimiser.learning_rate", "more than 0", optimiser.learning_rate),
        (0 < config.data.held_out_share < 1, "data.held_out_share", "between 0 and 1", config.data.held_out_share),
        (config.data.fps is None or 0 < config.data.fps < inf, "data.fps", "more than 0", config.data.fps),
        (0 <= pseudo.share <= 1, "pseudo_anomalies.share", "between 0 and 1", pseudo.share),
        (
            pseudo.share == 0 or spec.frames >= 2,
            "pseudo_anomalies.share",
            "0 where input.frames is 1: one frame has no speed",
            pseudo.share,
        ),
        (min(pseudo.speeds, default=0) >= 2, "pseudo_anomalies.speeds", "whole numbers from 2 on", list(pseudo.speeds)),
        (0 <= pseudo.box_share <= 1, "pseudo_anomalies.box_share", "between 0 and 1", pseudo.box_share),
        (0 <= config.seed < 2**63, "seed", "0 or more, below 2^63", config.seed),
    ]
    for is_valid, key, expected, got in checks:
        if not is_valid:
            raise ConfigError(f"{origin}: {key}: expected {expected}, got {got}.")


def _reject_unknown_keys(values: dict[str, Any], kind: type, origin: str, prefix: str) -> None:
    fields = get_type_hints(kind)
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(f"{origin}: unknown key '{prefix}{key}'. Valid here: {', '.join(sorted(fields))}.")
        if dataclasses.is_dataclass(fields[key]) and isinstance(value, dict):
            _reject_unknown_keys(value, fields[key], origin, f"{prefix}{key}.")
