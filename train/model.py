"""What training and export ask of a network. They know nothing else of it, so that a new one is a file in train/models and a TOML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from edge_runtime.preprocess import InputSpec
from train.memory import Reading, TrainedPool

__all__ = ["Model", "Requirement", "Sections", "Step"]


@dataclass(frozen=True, eq=False)
class Step:
    """A batch on its way through the model, as the losses see it.

    Attributes:
        window: (B, T, C, h, w) in [−1, 1], what `encode` took.
        target: (B, C, h, w) in [−1, 1], what `prediction` is held against.
        prediction: (B, C, h, w), what `decode` returned.
        encoded: what `encode` returned.
        reading: what the memory made of the queries.
        items: by pool, (M, D); constants where a rule writes them.
        is_pseudo: (B,) bool, windows that were made anomalous.
    """

    window: Tensor
    target: Tensor
    prediction: Tensor
    encoded: Mapping[str, Tensor]
    reading: Reading
    items: Mapping[str, Tensor]
    is_pseudo: Tensor


class Model(Protocol):
    """A network, cut where its memory sits: an `nn.Module` that registers itself with `train.models.register`.

    The memory is not a part of the module: training, export and the runtime each keep it, by the pools' names.
    """

    input_spec: InputSpec
    pools: tuple[TrainedPool, ...]

    def encode(self, window: Tensor) -> dict[str, Tensor]:
        """Queries, float32, and what else the decoder needs, by name, in the order in which graphs will have them.

        Args:
            window: (B, T, C, h, w) in [−1, 1].
        """

    def decode(self, given: Mapping[str, Tensor]) -> Tensor:
        """The target frame, (B, C, h, w) in [−1, 1].

        Args:
            given: what `encode` returned, and the reads. What is looked up here becomes the decoder graph's inputs.
        """

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Scalars by name: `loss` is minimised, all are logged."""


@dataclass(frozen=True)
class Requirement:
    """What a value of a configuration must be; `is_met` says whether it is."""

    is_met: bool
    key: str
    expected: str
    got: object


class Sections(Protocol):
    """The sections of a configuration that belong to a model: a frozen dataclass with a dataclass for each of them."""

    def requirements(self, spec: InputSpec) -> tuple[Requirement, ...]:
        """What the values must be for pictures like these."""
