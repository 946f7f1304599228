"""The memory in PyTorch, as training needs it: any number of pools, read and written by name (Park et al., CVPR 2020, eq. 3-7).

The runtime has its own in edge_runtime/devices; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from edge_runtime.errors import ConfigError

__all__ = [
    "Memory",
    "PoolHealth",
    "Reading",
    "TrainedPool",
    "address",
    "claims",
    "flatten",
    "initial_items",
    "pool_health",
    "read",
    "write",
]

SHRINK_EPSILON = 1e-12


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
class Reading:
    """What the pools say to a batch of queries.

    Attributes:
        weights: by pool, (B, M, *grid), ≥ 0; they sum to one over the items, or are all zero.
        reads: by pool, shaped like its query.
        inputs: the reads that go to the decoder, by the names that it gives them.
    """

    weights: Mapping[str, Tensor]
    reads: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class PoolHealth:
    """Attributes:
    usage: (M,) share of the queries whose nearest item is m; sums to 1.
    largest_cosine: of any two different items, in [−1, 1].
    drift: 1 − the smallest cosine of an item to what it was at the start of the epoch.
    """

    usage: tuple[float, ...]
    largest_cosine: float
    drift: float


class Memory:
    """The items of all pools of a model.

    Args:
        pools: of the model.
        generator: draws the first items.
        device: where they live.

    Attributes:
        items: by pool, (M, D).
    """

    def __init__(self, pools: Sequence[TrainedPool], generator: torch.Generator, device: torch.device | str = "cpu") -> None:
        self._pools = tuple(pools)
        self.items = {
            pool.name: _first_items(pool, generator).to(device).requires_grad_(pool.learned == "gradient") for pool in self._pools
        }

    def parameters(self) -> list[Tensor]:
        """The items that the gradient learns."""
        return [self.items[pool.name] for pool in self._pools if pool.learned == "gradient"]

    def read(self, encoded: Mapping[str, Tensor]) -> Reading:
        """Mix the items for every query; the items of rule-written pools, and their weights, carry no gradient."""
        weights, reads = {}, {}
        for pool in self._pools:
            with torch.set_grad_enabled(pool.learned == "gradient" and torch.is_grad_enabled()):
                weights[pool.name] = address(encoded[pool.query], self.items[pool.name], pool.addressing)
                reads[pool.name] = read(weights[pool.name], self.items[pool.name])
        inputs = {pool.read: reads[pool.name] for pool in self._pools if pool.read is not None}
        return Reading(weights, reads, inputs)

    def write(self, encoded: Mapping[str, Tensor]) -> None:
        """Move the items of rule-written pools towards the queries that claim them."""
        for pool in self._pools:
            if pool.learned == "rule":
                self.items[pool.name] = write(encoded[pool.query].detach(), self.items[pool.name], pool.write_scale)

    def claims(self, encoded: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By pool, (M,) how many queries have item m as their nearest."""
        return {pool.name: claims(encoded[pool.query].detach(), self.items[pool.name].detach()) for pool in self._pools}

    def copy_items(self) -> dict[str, Tensor]:
        """By pool, (M, D), as they are now."""
        return {name: items.detach().clone() for name, items in self.items.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The items under their names in a checkpoint, `<pool>.items`."""
        return {f"{name}.items": items.detach() for name, items in self.items.items()}

    def load(self, tensors: Mapping[str, Tensor], origin: str) -> None:
        """Take over the items of a checkpoint; `origin` names it in errors.

        Raises:
            ConfigError: it has no such pools, or of another size.
        """
        wanted = {f"{name}.items": tuple(items.shape) for name, items in self.items.items()}
        found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name.endswith(".items") and not name.startswith("model.")}
        if found != wanted:
            raise ConfigError(
                f"{origin}: expected a memory of {wanted or 'no pools'}, the run has {found or 'none'}. Take a run of the same [model] "
                "and [memory]."
            )
        with torch.no_grad():
            for name, items in self.items.items():
                items.copy_(tensors[f"{name}.items"])  # in place: an optimiser may hold them


def initial_items(count: int, size: int, generator: torch.Generator) -> Tensor:
    """(M, D) unit rows drawn from the positive orthant, as the release does."""
    return functional.normalize(torch.rand(count, size, generator=generator), dim=1)


def flatten(query: Tensor) -> Tensor:
    """(B, D, *grid) to (K, D), K = B times the grid's cells."""
    return query.flatten(2).transpose(1, 2).reshape(-1, query.shape[1])


def address(query: Tensor, items: Tensor, addressing: str = "softmax") -> Tensor:
    """How much every item counts for every query.

    Args:
        query: (B, D, *grid).
        items: (M, D).
        addressing: `softmax` over the items (MNAD, eq. 4), or `hard_shrink`: softmax, cut at 1/M and rescaled to sum to one; a query
            whose weights are all cut has none (MemAE, eq. 6-7).

    Returns:
        (B, M, *grid).
    """
    weights = torch.einsum("bd...,md->bm...", query, items).softmax(dim=1)
    if addressing == "softmax":
        return weights
    excess = weights - 1 / len(items)
    shrunk = weights * excess.clamp_min(0) / (excess.abs() + SHRINK_EPSILON)
    return shrunk / shrunk.sum(dim=1, keepdim=True).clamp_min(SHRINK_EPSILON)


def read(weights: Tensor, items: Tensor) -> Tensor:
    """(B, D, *grid): the items (M, D) mixed by weights (B, M, *grid) (eq. 3)."""
    return torch.einsum("bm...,md->bd...", weights, items)


@torch.no_grad()
def write(query: Tensor, items: Tensor, scale: str) -> Tensor:
    """Move each item towards the queries that claim it (eq. 5-7).

    Args:
        query: (B, D, *grid); the softmax over queries runs over the whole batch.
        items: (M, D), unit rows.
        scale: over which queries the largest weight is taken; see `TrainedPool.write_scale`.

    Returns:
        (M, D), unit rows. An item that no query claims stays as it is.
    """
    rows = flatten(query)  # (K, D)
    logits = rows @ items.T  # (K, M)
    weights = logits.softmax(dim=0)
    is_claimed_by = functional.one_hot(logits.argmax(dim=1), items.shape[0]).to(rows.dtype)  # (K, M)
    largest = (weights * is_claimed_by if scale == "claimed" else weights).amax(dim=0)  # (M,)
    weights = weights * is_claimed_by / largest.clamp_min(torch.finfo(rows.dtype).tiny)
    moved = functional.normalize(items + weights.T @ rows, dim=1)
    return torch.where(is_claimed_by.any(dim=0)[:, None], moved, items)


def claims(query: Tensor, items: Tensor) -> Tensor:
    """(M,) how many of the queries (B, D, *grid) have item m of (M, D) as their nearest."""
    return torch.bincount((flatten(query) @ items.T).argmax(dim=1), minlength=len(items)).float()


@torch.no_grad()
def pool_health(claims: Tensor, items: Tensor, items_before: Tensor) -> PoolHealth:
    """Summarise an epoch.

    Args:
        claims: (M,) how many queries had item m as their nearest.
        items, items_before: (M, D).
    """
    unit, unit_before = (functional.normalize(rows, dim=1) for rows in (items, items_before))
    cosines = unit @ unit.T
    cosines.fill_diagonal_(-1.0)
    return PoolHealth(
        usage=tuple((claims / claims.sum().clamp_min(1)).tolist()),
        largest_cosine=float(cosines.max()),
        drift=1.0 - float((unit * unit_before).sum(dim=1).min()),
    )


def _first_items(pool: TrainedPool, generator: torch.Generator) -> Tensor:
    """Those of a rule lie on the sphere; those of the gradient are uniform in ±1/√D, as a linear layer's weights are."""
    if pool.learned == "rule":
        return initial_items(pool.items, pool.size, generator)
    return (torch.rand(pool.items, pool.size, generator=generator) * 2 - 1) / pool.size**0.5
