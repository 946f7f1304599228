"""A training run as a TOML file, read into frozen dataclasses.

The sections that belong to a model are its own: it declares and checks them. Where a paper and its authors' release differ, the choice
is a key, never a hidden default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field, is_dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec
import tomllib

from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from train.model import Requirement
from train.models import find_model

__all__ = [
    "DataConfig",
    "OptimiserConfig",
    "PseudoAnomalyConfig",
    "TrainConfig",
    "check_config",
    "config_values",
    "load_config",
    "parse_config",
]

DEFAULT_MODEL = "mnad_prediction"
LARGEST_PX = 8192  # beyond what any machine trains; far below what NumPy, OpenCV and PyTorch refuse in words of their own


@dataclass(frozen=True)
class OptimiserConfig:
    """Attributes:
    epochs: passes over the training clips; the learning rate falls to zero over them along a cosine.
    precision: `bf16` runs the convolutions in bfloat16; losses, queries and memory stay float32. `auto` is bf16 where the machine
        computes in it, else fp32.
    """

    learning_rate: float = 2e-4
    batch_size: int = 4
    epochs: int = 60
    precision: Literal["auto", "fp32", "bf16"] = "fp32"


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
    """Training windows whose input is made too fast; see train/pseudo_anomalies.py. A target behind the input stays as it is.

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
    """One run.

    Attributes:
        model: the network's name.
        sections: the model's own (`train.model.Sections`), such as [model], [memory] and [loss].
        seed: fixes the initial weights, the first memory, the order of the clips and the pseudo-anomalies.
    """

    name: str
    input: InputSpec
    model: str
    sections: Any
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
    named = values.get("model", {})
    model = named.get("name", DEFAULT_MODEL) if isinstance(named, dict) else DEFAULT_MODEL
    sections = find_model(model, origin).sections
    own = get_type_hints(sections)
    _reject_unknown_keys(values, own, origin)
    general = {key: value for key, value in values.items() if key not in own} | {"model": model}
    try:
        config = msgspec.convert(general | {"sections": msgspec.convert(values, sections)}, TrainConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {error}. See configs/ for examples.") from error
    check_config(config, origin)
    return config


def config_values(config: TrainConfig) -> dict[str, Any]:
    """A configuration as plain values, as `parse_config` takes them."""
    values = dataclasses.asdict(config)
    sections = values.pop("sections")
    sections["model"] = {"name": config.model, **sections.get("model", {})}
    head, tail = ({key: values[key] for key in keys} for keys in (("name", "input"), ("optimiser", "data", "pseudo_anomalies", "seed")))
    return {**head, **sections, **tail}


def check_config(config: TrainConfig, origin: str) -> None:
    """Check every value's range, also of a configuration that was changed after it was read.

    Args:
        origin: where it comes from, for the error.

    Raises:
        ConfigError: a value is out of its range.
    """
    for requirement in (*_requirements(config), *config.sections.requirements(config.input)):
        if not requirement.is_met:
            raise ConfigError(f"{origin}: {requirement.key}: expected {requirement.expected}, got {requirement.got}.")


def _requirements(config: TrainConfig) -> tuple[Requirement, ...]:
    spec, optimiser, data, pseudo = config.input, config.optimiser, config.data, config.pseudo_anomalies
    return (
        Requirement(spec.channels in (1, 3), "input.channels", "1 or 3", spec.channels),
        Requirement(spec.frames >= 1, "input.frames", "1 or more", spec.frames),
        Requirement(spec.target >= 0, "input.target", "0 or more", spec.target),
        Requirement(0 < spec.height <= LARGEST_PX, "input.height", f"1 to {LARGEST_PX}", spec.height),
        Requirement(0 < spec.width <= LARGEST_PX, "input.width", f"1 to {LARGEST_PX}", spec.width),
        Requirement(optimiser.epochs >= 1, "optimiser.epochs", "1 or more", optimiser.epochs),
        Requirement(optimiser.batch_size >= 2, "optimiser.batch_size", "2 or more (batch norm)", optimiser.batch_size),
        Requirement(0 < optimiser.learning_rate < inf, "optimiser.learning_rate", "more than 0", optimiser.learning_rate),
        Requirement(0 < data.held_out_share < 1, "data.held_out_share", "between 0 and 1", data.held_out_share),
        Requirement(data.fps is None or 0 < data.fps < inf, "data.fps", "more than 0", data.fps),
        Requirement(0 <= pseudo.share <= 1, "pseudo_anomalies.share", "between 0 and 1", pseudo.share),
        Requirement(
            pseudo.share == 0 or spec.frames >= 2,
            "pseudo_anomalies.share",
            "0 where input.frames is 1: one frame has no speed",
            pseudo.share,
        ),
        Requirement(min(pseudo.speeds, default=0) >= 2, "pseudo_anomalies.speeds", "whole numbers from 2 on", list(pseudo.speeds)),
        Requirement(0 <= pseudo.box_share <= 1, "pseudo_anomalies.box_share", "between 0 and 1", pseudo.box_share),
        Requirement(0 <= config.seed < 2**63, "seed", "0 or more, below 2^63", config.seed),
    )


def _reject_unknown_keys(values: dict[str, Any], own: dict[str, type], origin: str) -> None:
    """Hold the keys against the general ones and the model's own.

    Args:
        own: the dataclass of each section of the model, by the section's name.
    """
    kinds = {key: kind for key, kind in get_type_hints(TrainConfig).items() if key != "sections"} | own
    known = {key: set(get_type_hints(kind)) if is_dataclass(kind) else set() for key, kind in kinds.items()}
    known["model"] |= {"name"}
    for key, value in values.items():
        _reject_unknown({key}, set(known), origin, "")
        if isinstance(value, dict) and known[key]:
            _reject_unknown(value, known[key], origin, f"{key}.")


def _reject_unknown(keys: Iterable[str], known: set[str], origin: str, prefix: str) -> None:
    for key in keys:
        if key not in known:
            raise ConfigError(f"{origin}: unknown key '{prefix}{key}'. Valid here: {', '.join(sorted(known))}.")
