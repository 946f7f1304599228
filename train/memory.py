"""The memory step of MNAD in PyTorch, as training needs it (Park et al., CVPR 2020, eq. 3-7).

The runtime has its own in edge_runtime/devices; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["MemoryHealth", "flatten", "initial_items", "memory_health", "read", "write"]


@dataclass(frozen=True)
class MemoryHealth:
    """Attributes:
    usage: (M,) share of the queries whose nearest item is m; sums to 1.
    largest_cosine: of any two different items, in [−1, 1].
    drift: 1 − the smallest cosine of an item to what it was at the start of the epoch.
    """

    usage: tuple[float, ...]
    largest_cosine: float
    drift: float


def initial_items(count: int, size: int, generator: torch.Generator) -> Tensor:
    """(M, D) unit rows drawn from the positive orthant, as the release does."""
    return functional.normalize(torch.rand(count, size, generator=generator), dim=1)


def flatten(query: Tensor) -> Tensor:
    """(B, D, *grid) to (K, D), K = B times the grid's cells."""
    return query.flatten(2).transpose(1, 2).reshape(-1, query.shape[1])


def read(query: Tensor, items: Tensor) -> Tensor:
    """Mix the items for every query by softmax over the items (eq. 3, 4).

    The weights carry no gradient, as in the release: the read trains the decoder, not the queries.

    Args:
        query: (B, D, *grid), unit length along D.
        items: (M, D), unit rows.

    Returns:
        (B, D, *grid).
    """
    with torch.no_grad():
        logits = torch.einsum("bd...,md->bm...", query, items)
        weights = logits.softmax(dim=1)
        return torch.einsum("bm...,md->bd...", weights, items)


@torch.no_grad()
def write(query: Tensor, items: Tensor, scale: Literal["claimed", "all"]) -> Tensor:
    """Move each item towards the queries that claim it (eq. 5-7).

    Args:
        query: (B, D, *grid); the softmax over queries runs over the whole batch.
        items: (M, D), unit rows.
        scale: over which queries the largest weight is taken; see `MemoryConfig.write_scale`.

    Returns:
        (M, D), unit rows. An item that no query claims stays as it is.
    """
    rows = flatten(query)  # (K, D)
    logits = rows @ items.T  # (K, M)
    weights = logits.softmax(dim=0)
    claims = functional.one_hot(logits.argmax(dim=1), items.shape[0]).to(rows.dtype)  # (K, M)
    largest = (weights * claims if scale == "claimed" else weights).amax(dim=0)  # (M,)
    weights = weights * claims / largest.clamp_min(torch.finfo(rows.dtype).tiny)
    moved = functional.normalize(items + weights.T @ rows, dim=1)
    return torch.where(claims.any(dim=0)[:, None], moved, items)


@torch.no_grad()
def memory_health(claims: Tensor, items: Tensor, items_before: Tensor) -> MemoryHealth:
    """Summarise an epoch.

    Args:
        claims: (M,) how many queries had item m as their nearest.
        items, items_before: (M, D), unit rows.
    """
    cosines = items @ items.T
    cosines.fill_diagonal_(-1.0)
    return MemoryHealth(
        usage=tuple((claims / claims.sum().clamp_min(1)).tolist()),
        largest_cosine=float(cosines.max()),
        drift=1.0 - float((items * items_before).sum(dim=1).min()),
    )
