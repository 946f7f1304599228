"""What MNAD's two variants, and what follows them, have in common (Park, Noh, Ham, CVPR 2020): sections, encoder, losses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.preprocess import InputSpec
from train.layers import block, conv, conv_norm_relu
from train.memory import TrainedPool, flatten
from train.model import Requirement, Step

__all__ = ["LossConfig", "MemoryConfig", "MnadEncoder", "MnadSections", "NetworkConfig", "mnad_losses", "single_pool", "unit_channels"]

STRIDE = 8  # of the query map, in pixels
WIDEST = 1024  # 16 times the paper's: some 4,000 million parameters
MOST_ITEMS = 65_536


@dataclass(frozen=True)
class NetworkConfig:
    """Attributes:
    width: channels of the first level; each of the three deeper levels has twice as many. Paper: 64.
    """

    width: int = 64


@dataclass(frozen=True)
class MemoryConfig:
    """Attributes:
    items: M, memory items of a pool; 0 is the model without memory.
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
class MnadSections:
    """The sections [model], [memory] and [loss] of a configuration."""

    model: NetworkConfig = field(default_factory=NetworkConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def requirements(self, spec: InputSpec) -> tuple[Requirement, ...]:
        """Ranges of the values; sides that the encoder can halve three times."""
        loss, items, width = self.loss, self.memory.items, self.model.width
        return (
            Requirement(spec.height % STRIDE == 0, "input.height", f"a multiple of {STRIDE}", spec.height),
            Requirement(spec.width % STRIDE == 0, "input.width", f"a multiple of {STRIDE}", spec.width),
            Requirement(1 <= width <= WIDEST, "model.width", f"1 to {WIDEST}", width),
            Requirement(items == 0 or 2 <= items <= MOST_ITEMS, "memory.items", f"0, or 2 to {MOST_ITEMS}", items),
            Requirement(0 <= loss.compactness_weight < inf, "loss.compactness_weight", "0 or more", loss.compactness_weight),
            Requirement(0 <= loss.separateness_weight < inf, "loss.separateness_weight", "0 or more", loss.separateness_weight),
            Requirement(0 <= loss.margin < inf, "loss.margin", "0 or more", loss.margin),
        )


class MnadEncoder(nn.Module):
    """Four levels down to an eighth of the side. Widths are given for `width=64`, the paper's."""

    def __init__(self, spec: InputSpec, width: int) -> None:
        super().__init__()
        # Known sizes, not the tensor's own, so that the exported graph has one Reshape and no shape arithmetic.
        self._stacked = (-1, spec.frames * spec.channels, spec.height, spec.width)
        self.level1 = block(self._stacked[1], width)
        self.level2 = block(width, 2 * width)
        self.level3 = block(2 * width, 4 * width)
        # No norm and no ReLU at the end: a ReLU would clip the space in which queries and items live.
        self.level4 = nn.Sequential(*conv_norm_relu(4 * width, 8 * width), conv(8 * width, 8 * width))

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode a window.

        Args:
            window: (B, T, C, h, w) in [−1, 1].

        Returns:
            the features of each level: (B, 64, h, w), (B, 128, h/2, w/2), (B, 256, h/4, w/4), (B, 512, h/8, w/8).
        """
        level1 = self.level1(window.reshape(self._stacked))
        level2 = self.level2(functional.max_pool2d(level1, 2))
        level3 = self.level3(functional.max_pool2d(level2, 2))
        return level1, level2, level3, self.level4(functional.max_pool2d(level3, 2))


def unit_channels(features: Tensor) -> Tensor:
    """(B, D, *grid) float32, unit length along D; zero where there are no features."""
    features = features.float()
    return features / torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min(1e-12)


def single_pool(sections: MnadSections) -> tuple[TrainedPool, ...]:
    """MNAD's one pool on the deepest level; none for the model without memory."""
    memory = sections.memory
    if not memory.items:
        return ()
    return (TrainedPool("memory", "query", "read", "softmax", memory.items, 8 * sections.model.width, write_scale=memory.write_scale),)


def mnad_losses(step: Step, pools: Iterable[TrainedPool], config: LossConfig) -> dict[str, Tensor]:
    """Prediction error, plus how the queries lie around the items of their pools (eq. 8-10). Items are constants.

    Returns:
        scalars: `loss`, `prediction`, `compactness` and `separateness`, the last two summed over the pools.
    """
    prediction = functional.mse_loss(step.prediction, step.target)
    compactness = separateness = prediction.new_zeros(())
    for pool in pools:
        terms = _around_items(step.encoded[pool.query], step.items[pool.name], config)
        compactness, separateness = compactness + terms[0], separateness + terms[1]
    loss = prediction + config.compactness_weight * compactness + config.separateness_weight * separateness
    return {"loss": loss, "prediction": prediction, "compactness": compactness, "separateness": separateness}


def _around_items(query: Tensor, items: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Compactness and separateness of queries (B, D, *grid) and items (M, D), all of unit length."""
    rows = flatten(query)  # (K, D)
    with torch.no_grad():
        nearest, second = (rows @ items.T).topk(2, dim=1).indices.T
    distance = functional.pairwise_distance(rows, items[nearest])
    distance_to_second = functional.pairwise_distance(rows, items[second])
    compactness = distance.mean() if config.compactness == "distance" else functional.mse_loss(rows, items[nearest])
    separateness = functional.relu(distance - distance_to_second + config.margin).mean()
    return compactness, separateness
