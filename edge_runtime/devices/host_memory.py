"""The memory step in NumPy: address, read, distance, gate, update.

Equations of Park et al., CVPR 2020 (`softmax`, `mnad`); hard shrinkage of Gong et al., ICCV 2019 (`hard_shrink`). The heavy
parts are matrix products over (M, K), M items and K queries, so that a frame of the full-size model takes about a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edge_runtime.bundle import check_items
from edge_runtime.bundle.manifest import Manifest, PoolSpec, UpdateSpec
from edge_runtime.stream import Arrays

__all__ = ["HostBank", "largest_drift"]

SHRINK_EPSILON = np.float32(1e-12)


@dataclass(frozen=True)
class Addressed:
    """One pool's view of one frame.

    Attributes:
        query: the array that was addressed, (1, D, *grid).
        flat: the same as (D, K).
        logits: (M, K), items times queries.
        claims: (M, K), 1 where the item is the query's nearest, else 0.
    """

    query: np.ndarray
    flat: np.ndarray
    logits: np.ndarray
    claims: np.ndarray


class HostBank:
    """All pools of one stream in host memory.

    Args:
        manifest: pools, gate and update parameters.
        shipped: pool to items (M, D) float32, as the bundle has them.
    """

    def __init__(self, manifest: Manifest, shipped: Mapping[str, np.ndarray]) -> None:
        self._manifest = manifest
        self._shipped = {name: items.copy() for name, items in shipped.items()}
        self._items = {name: items.copy() for name, items in shipped.items()}
        self._addressed: dict[str, Addressed] = {}
        self._drift = 0.0
        self._is_frozen = False

    def read(self, queries: Arrays) -> Arrays:
        """Reads by decoder input, shaped like their queries; `distance/<pool>` (1,)."""
        results: dict[str, np.ndarray] = {}
        with _quiet():
            for pool in self._manifest.pools:
                items, query = self._items[pool.name], queries[pool.query]
                addressed = _address(items, query)
                self._addressed[pool.name] = addressed
                if pool.read is not None:
                    weights = _ADDRESSINGS[pool.addressing](addressed.logits)
                    results[pool.read] = (items.T @ weights).reshape(query.shape)
                results[f"distance/{pool.name}"] = _distance(items, addressed)
        return results

    def update(self, queries: Arrays, scores: Arrays) -> Arrays:
        """Learn the frame that was read last, if its regular score is below the gate's limit."""
        is_accepted = not self._is_frozen and bool(scores["score/regular_score"][0] < self._manifest.gate.limit)
        with _quiet():
            is_updated = is_accepted and self._learn(queries)
        return {"is_updated": np.array([is_updated]), "is_frozen": np.array([self._is_frozen]), "drift": np.array([self._drift])}

    @property
    def is_frozen(self) -> bool:
        """Nothing is learned until `unfreeze`."""
        return self._is_frozen

    def freeze(self) -> None:
        """Stop learning."""
        self._is_frozen = True

    def unfreeze(self) -> None:
        """Go on learning."""
        self._is_frozen = False

    def reset(self) -> None:
        """Back to the shipped items; frozen or not stays as it is."""
        self.restore(self._shipped)

    def snapshot(self) -> dict[str, np.ndarray]:
        """A copy of the items, pool to (M, D) float32."""
        return {name: items.copy() for name, items in self._items.items()}

    def restore(self, items: Mapping[str, np.ndarray]) -> None:
        """Take over a snapshot's items.

        Raises:
            BundleError: they do not fit the pools.
        """
        check_items(items, self._manifest, "memory to restore")
        self._items = {name: array.copy() for name, array in items.items()}
        self._drift = largest_drift(self._items, self._shipped)
        self._addressed.clear()

    def _learn(self, queries: Arrays) -> bool:
        """Compute the next items; past the drift limit they are discarded and the bank freezes. True if they were taken."""
        learned = dict(self._items)
        for pool in self._manifest.pools:
            if pool.update == "none":
                continue
            addressed = self._addressed.get(pool.name)
            if addressed is None or addressed.query is not queries[pool.query]:
                addressed = _address(self._items[pool.name], queries[pool.query])
            learned[pool.name] = _step(pool, self._items[pool.name], addressed, self._manifest.update)
        if all(pool.update == "none" for pool in self._manifest.pools):
            return False
        drift = largest_drift(learned, self._shipped)
        if not drift <= self._manifest.update.drift_limit:
            self._is_frozen = True
            return False
        self._items, self._drift = learned, drift
        return True


def largest_drift(items: Mapping[str, np.ndarray], shipped: Mapping[str, np.ndarray]) -> float:
    """1 − the smallest cosine of an item to its shipped self, over all pools; 0 without a pool."""
    return float(np.max([_drift(items[name], original) for name, original in shipped.items()], initial=0.0))  # a NaN stays one


def _quiet() -> np.errstate:
    """Numbers past float32's end become infinite without a warning: the detector refuses such distances, the bank such items."""
    return np.errstate(over="ignore", invalid="ignore")


def _address(items: np.ndarray, query: np.ndarray) -> Addressed:
    flat = query.reshape(query.shape[1], -1)  # (D, K)
    logits = items @ flat
    nearest = logits.argmax(axis=0)
    claims = np.zeros_like(logits)
    claims[nearest, np.arange(len(nearest))] = 1
    return Addressed(query, flat, logits, claims)


def _distance(items: np.ndarray, addressed: Addressed) -> np.ndarray:
    """(1,) mean over all K·D elements of the squared difference of the queries to their nearest items."""
    difference = items.T @ addressed.claims  # (D, K), the nearest items
    difference -= addressed.flat
    flat = difference.reshape(-1)
    return np.array([np.dot(flat, flat) / flat.size], np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Weights (M, K) that sum to one over the items (MNAD, eq. 4)."""
    weights: np.ndarray = np.exp(logits - logits.max(axis=0))
    weights /= weights.sum(axis=0)
    return weights


def _hard_shrink(logits: np.ndarray) -> np.ndarray:
    """Softmax, cut at 1/M and rescaled to sum to one; a query whose weights are all cut reads zero (MemAE, eq. 6-7)."""
    weights = _softmax(logits)
    excess = weights - np.float32(1 / len(weights))
    weights *= np.maximum(excess, 0) / (np.abs(excess) + SHRINK_EPSILON)
    weights /= np.maximum(weights.sum(axis=0), SHRINK_EPSILON)
    return weights


def _step(pool: PoolSpec, items: np.ndarray, addressed: Addressed, update: UpdateSpec) -> np.ndarray:
    """The items (M, D) after one frame; one that no query claims stays as it is."""
    considered = np.where(addressed.claims > 0, addressed.logits, -np.inf) if update.write_scale == "claimed" else addressed.logits
    largest = considered.max(axis=1, keepdims=True)  # (M, 1)
    is_claimed = addressed.claims.any(axis=1)
    # exp(logit − largest) is softmax over the queries divided by its largest weight: the denominators cancel (eq. 5).
    weights = np.exp(np.where(addressed.claims > 0, addressed.logits - largest, -np.inf))
    direction = weights @ addressed.flat.T  # (M, D)
    moved = items.copy()
    moved[is_claimed] = _RULES[pool.update](items[is_claimed], direction[is_claimed], update.rate)
    return moved


def _mnad_rule(items: np.ndarray, direction: np.ndarray, rate: float) -> np.ndarray:
    """The paper's step, of any length (eq. 7); `rate` plays no part."""
    moved = items + direction
    vanished = np.einsum("md,md->m", moved, moved) < 1e-12  # a direction exactly opposite leaves nothing to turn to
    return np.where(vanished[:, None], items, _unit_rows(moved))


def _ema_rule(items: np.ndarray, direction: np.ndarray, rate: float) -> np.ndarray:
    """The same direction, but never more than asin(rate) of a turn: one frame cannot replace an item."""
    return _unit_rows(items + np.float32(rate) * _unit_rows(direction))


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("md,md->m", rows, rows, dtype=np.float64))[:, None]
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


def _drift(items: np.ndarray, shipped: np.ndarray) -> float:
    dots = np.einsum("md,md->m", items, shipped, dtype=np.float64)
    lengths = np.sqrt(np.einsum("md,md->m", items, items, dtype=np.float64) * np.einsum("md,md->m", shipped, shipped, dtype=np.float64))
    return max(1.0 - float((dots / np.maximum(lengths, 1e-12)).min()), 0.0)


_ADDRESSINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"softmax": _softmax, "hard_shrink": _hard_shrink}
_RULES: Mapping[str, Callable[[np.ndarray, np.ndarray, float], np.ndarray]] = {"mnad": _mnad_rule, "ema": _ema_rule}
