"""Prediction with a memory on three levels, after MSN-net (Liu et al., ICASSP 2023), of which no code and no layer table are public.

The decoder sees what the memory says of a level in place of the level's features, so that what is not normal does not reach it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from edge_runtime.preprocess import InputSpec
from train.layers import block, conv, conv_norm_relu, up
from train.memory import TrainedPool
from train.mnad import MnadEncoder, MnadSections, NetworkConfig, mnad_losses, unit_channels
from train.model import Requirement, Step
from train.models import register

__all__ = ["MultiScale", "MultiScaleConfig", "MultiScaleSections"]

LEVELS = (1, 2, 3, 4)  # level n has 64 · 2^(n − 1) channels at 1/2^(n − 1) of the side
DEEPEST = 4


@dataclass(frozen=True)
class MultiScaleConfig(NetworkConfig):
    """Attributes:
    pools: levels with a pool of items, of 1 to 4, the deepest; the decoder takes their reads.
    skips: levels whose features the decoder takes as they are. A level above the deepest with neither is dropped.
    read: whether the reads above the deepest level `replace` their queries or `join` them.
    deepest: the same of the deepest level.
    """

    pools: tuple[int, ...] = (2, 3, 4)
    skips: tuple[int, ...] = ()
    read: Literal["replace", "join"] = "replace"
    deepest: Literal["replace", "join"] = "join"

    def inputs(self, level: int) -> list[str]:
        """What the decoder takes of a level, by name."""
        rule = self.deepest if level == DEEPEST else self.read
        has_pool = level in self.pools
        query = [f"query_{level}"] if (has_pool and rule == "join") or (level == DEEPEST and not has_pool) else []
        read = [f"read_{level}"] if has_pool else []
        return [*query, *read, *([f"skip_{level}"] if level in self.skips else [])]


@dataclass(frozen=True)
class MultiScaleSections(MnadSections):
    """MNAD's sections, with more to say on the network."""

    model: MultiScaleConfig = field(default_factory=MultiScaleConfig)

    def requirements(self, spec: InputSpec) -> tuple[Requirement, ...]:
        """MNAD's, and levels that there are."""
        levels = (*self.model.pools, *self.model.skips)
        return (
            *super().requirements(spec),
            Requirement(set(levels) <= set(LEVELS), "model.pools and model.skips", "levels of 1, 2, 3 and 4", list(levels)),
            Requirement(self.memory.items > 0 or not self.model.pools, "model.pools", "none where memory.items is 0", self.model.pools),
        )


@register("multi_scale", MultiScaleSections)
class MultiScale(nn.Module):
    """MNAD's encoder, a memory on several of its levels, and a decoder that takes their reads."""

    def __init__(self, spec: InputSpec, sections: MultiScaleSections) -> None:
        super().__init__()
        self.input_spec = spec
        self._config = sections.model
        self._loss = sections.loss
        self.pools = tuple(_pool(level, sections) for level in sorted(set(sections.model.pools)))
        self.encoder = MnadEncoder(spec, sections.model.width)
        self.decoder = Decoder(spec.channels, sections.model)

    def encode(self, window: Tensor) -> dict[str, Tensor]:
        """By level, `query_n`, unit length along its channels, and `skip_n`, its features as they are, where the decoder needs them."""
        encoded: dict[str, Tensor] = {}
        for level, features in zip(LEVELS, self.encoder(window), strict=True):
            if level in self._config.pools or level == DEEPEST:
                encoded[f"query_{level}"] = unit_channels(features)
            if level in self._config.skips:
                encoded[f"skip_{level}"] = features
        return encoded

    def decode(self, given: Mapping[str, Tensor]) -> Tensor:
        """Predict the target frame, (B, C, h, w) in [−1, 1]."""
        return self.decoder({level: [given[name] for name in self._config.inputs(level)] for level in LEVELS})

    def losses(self, step: Step) -> dict[str, Tensor]:
        """MNAD's three, the memory's two summed over the pools."""
        return mnad_losses(step, self.pools, self._loss)


class Decoder(nn.Module):
    """Back to the frame, level by level; each takes what there is of its level, then what came up."""

    def __init__(self, out_channels: int, config: MultiScaleConfig) -> None:
        super().__init__()
        width = config.width
        of_level = {level: len(config.inputs(level)) * width * 2 ** (level - 1) for level in LEVELS}
        self.level4 = block(of_level[4], 8 * width)
        self.up3 = up(8 * width, 4 * width)
        self.level3 = block(of_level[3] + 4 * width, 4 * width)
        self.up2 = up(4 * width, 2 * width)
        self.level2 = block(of_level[2] + 2 * width, 2 * width)
        self.up1 = up(2 * width, width)
        first = of_level[1] + width
        self.level1 = nn.Sequential(*conv_norm_relu(first, width), *conv_norm_relu(width, width), conv(width, out_channels), nn.Tanh())

    def forward(self, given: Mapping[int, list[Tensor]]) -> Tensor:
        """given: by level, what the decoder takes of it, each (B, 64 · 2^(n − 1), …) for width 64. Returns (B, C, h, w) in [−1, 1]."""
        features = self.level4(_joined(given[4]))
        features = self.level3(_joined([*given[3], self.up3(features)]))
        features = self.level2(_joined([*given[2], self.up2(features)]))
        return self.level1(_joined([*given[1], self.up1(features)]))


def _pool(level: int, sections: MultiScaleSections) -> TrainedPool:
    memory, size = sections.memory, sections.model.width * 2 ** (level - 1)
    names = (f"level_{level}", f"query_{level}", f"read_{level}")
    return TrainedPool(*names, "softmax", memory.items, size, write_scale=memory.write_scale)


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)
