"""The memory of Park et al., CVPR 2020, equation by equation in float64: what every device is held against.

Nothing is rearranged for speed: the softmax over the queries is taken and then divided by its largest value, item by item.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ReferenceMemory", "regular_score"]


class ReferenceMemory:
    """One pool of one stream.

    Args:
        items: (M, D), unit rows.
        rule: `mnad`, or `ema`: the same direction, a step of length `rate`.
        write_scale: `claimed` (paper) or `all` (release): the queries over which the largest weight is taken.
        limit: γ; a frame whose regular score is below it is learned.
    """

    def __init__(self, items: Tensor, *, rule: str, rate: float, write_scale: str, limit: float) -> None:
        self.items = items.double()
        self._rule = rule
        self._rate = rate
        self._write_scale = write_scale
        self._limit = limit

    def read(self, query: Tensor) -> Tensor:
        """w_{k,m} = softmax over m of q_k·p_m; read_k = Σ_m w_{k,m} p_m; shaped like the query (1, D, *grid)."""
        q = _rows(query)
        weights = torch.softmax(q @ self.items.T, dim=1)  # (K, M)
        return (weights @ self.items).T.reshape(query.shape)

    def distance(self, query: Tensor) -> float:
        """Mean over all K·D elements of the squared difference of the queries to their nearest items."""
        q = _rows(query)
        return float((q - self.items[self.nearest(query)]).square().mean())

    def nearest(self, query: Tensor) -> Tensor:
        """(K,) the item with the largest q_k·p_m."""
        return (_rows(query) @ self.items.T).argmax(dim=1)

    def update(self, query: Tensor, score: float) -> bool:
        """Learn a frame's queries if its regular score is below γ; the paper's (or the bounded) step for every claimed item."""
        if not score < self._limit:
            return False
        q = _rows(query)
        nearest = self.nearest(query)
        v = torch.softmax(q @ self.items.T, dim=0)  # (K, M), over the queries
        learned = self.items.clone()
        for m, item in enumerate(self.items):
            claimed = nearest == m
            if not claimed.any():
                continue
            largest = v[claimed, m].max() if self._write_scale == "claimed" else v[:, m].max()
            direction = (v[claimed, m] / largest) @ q[claimed]
            step = direction if self._rule == "mnad" else self._rate * functional.normalize(direction, dim=0)
            learned[m] = functional.normalize(item + step, dim=0)
        self.items = learned
        return True


def regular_score(prediction: Tensor, target: Tensor) -> float:
    """E = Σ W·e / Σ W with W = 1 − exp(−e); e is the squared error on [0, 1] images, both given on [−1, 1]."""
    e = ((prediction.double() - target.double()) / 2).square()
    weights = 1 - torch.exp(-e)
    total = weights.sum()
    return float((weights * e).sum() / total) if total > 0 else 0.0


def _rows(query: Tensor) -> Tensor:
    """(1, D, *grid) to (K, D)."""
    return query.double().flatten(2)[0].T
