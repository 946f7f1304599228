"""The networks, one file each, found by their names.

A file here registers its class under the file's name. A class that is registered elsewhere, in a package of one's own or in a test, is
found as well once it is imported.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeVar

from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from train.model import Model

__all__ = ["ModelEntry", "build_model", "find_model", "register"]

Kind = TypeVar("Kind", bound=type)


@dataclass(frozen=True)
class ModelEntry:
    """A network that a configuration can name.

    Attributes:
        build: called with the input spec and the model's sections.
        sections: the dataclass of its sections; see `train.model.Sections`.
    """

    build: Callable[..., Model]
    sections: Any


class Configuration(Protocol):
    """What is needed of a training's configuration to build its network."""

    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def input(self) -> InputSpec: ...
    @property
    def sections(self) -> Any: ...


_ENTRIES: dict[str, ModelEntry] = {}


def register(name: str, sections: type) -> Callable[[Kind], Kind]:
    """Let configurations find a model's class under a name."""

    def remember(kind: Kind) -> Kind:
        _ENTRIES[name] = ModelEntry(kind, sections)
        return kind

    return remember


def find_model(name: object, origin: str) -> ModelEntry:
    """The model of a name; `origin` names the configuration in errors.

    Raises:
        ConfigError: there is none of that name.
    """
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    if name in files:
        import_module(f"{__name__}.{name}")
    if not isinstance(name, str) or name not in _ENTRIES:
        raise ConfigError(f"{origin}: model.name: expected one of {', '.join(sorted({*files, *_ENTRIES}))}, got {name!r}.")
    return _ENTRIES[name]


def build_model(config: Configuration) -> Model:
    """The network that a configuration names, with random weights."""
    return find_model(config.model, config.name).build(config.input, config.sections)
