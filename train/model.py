"""What training and export ask of a network. They know nothing else of it, so that a new one is a file in train/models and a TOML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from edge_runtime.preprocess import InputSpec
from train.memory import Reading

__all__ = ["Model", "Requirement", "Sections", "Step", "TrainedPool"]


@dataclass(frozen=True)
class TrainedPool:
    """A pool of memory items, and how they are learned.

    Attributes:
        name: also in checkpoints, metrics and manifests.
        query: the output of `encode` that addresses it, (B, D, *grid). Two pools may share a query.
        read: the name under which `decode` gets its read; None for a pool that is only scored.
        addressing: `softmax` or `hard_shrink`; see `edge_runtime.bundle.PoolSpec`.
        items: M.
        size: D.
        learned: `rule`: unit items that each step's queries rewrite (MNAD, eq. 5-7), constants for the gradient;
            `gradient`: parameters of the optimiser.
        update: how the pool learns at the edge unless the export says otherwise: `ema`, `mnad` or `none`.
        write_scale: of the rule, in training and at the edge: a query's weight is divided by the largest weight over the
            queries that claim the item (`claimed`, the paper) or over all queries of the call (`all`, the release).
    """

    name: str
    query: str
    read: str | None
    addressing: str
    items: int
    size: int
    learned: Literal["rule", "gradient"] = "rule"
    update: str = "ema"
    write_scale: str = "all"


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
