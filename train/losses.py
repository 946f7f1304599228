"""The three losses of MNAD (Park et al., CVPR 2020, eq. 8-10). Items are constants in all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from train.config import LossConfig
from train.memory import flatten

__all__ = ["Losses", "mnad_losses"]


@dataclass(frozen=True)
class Losses:
    """Scalars; `total` is what is minimised."""

    total: Tensor
    prediction: Tensor
    compactness: Tensor
    separateness: Tensor


def mnad_losses(prediction: Tensor, target: Tensor, query: Tensor, items: Tensor | None, config: LossConfig) -> Losses:
    """Prediction error, plus how queries lie around the items.

    Args:
        prediction, target: (B, C, h, w) in [−1, 1].
        query: (B, D, *grid), unit length along D.
        items: (M, D), unit rows; None for the model without memory: then only the prediction counts.
    """
    prediction_loss = functional.mse_loss(prediction, target)
    if items is None:
        zero = prediction_loss.new_zeros(())
        return Losses(prediction_loss, prediction_loss, zero, zero)

    rows = flatten(query)  # (K, D)
    with torch.no_grad():
        nearest, second = (rows @ items.T).topk(2, dim=1).indices.T
    distance = functional.pairwise_distance(rows, items[nearest])
    distance_to_second = functional.pairwise_distance(rows, items[second])
    squared = functional.mse_loss(rows, items[nearest])
    compactness = distance.mean() if config.compactness == "distance" else squared
    separateness = functional.relu(distance - distance_to_second + config.margin).mean()
    total = prediction_loss + config.compactness_weight * compactness + config.separateness_weight * separateness
    return Losses(total, prediction_loss, compactness, separateness)
