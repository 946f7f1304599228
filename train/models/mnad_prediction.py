"""MNAD, prediction: four frames predict one that follows (Park, Noh, Ham, CVPR 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge_runtime.preprocess import InputSpec
from train.layers import block, conv, conv_norm_relu, up
from train.mnad import MnadEncoder, MnadSections, mnad_losses, single_pool, unit_channels
from train.model import Step
from train.models import register

__all__ = ["MnadPrediction"]


@register("mnad_prediction", MnadSections)
class MnadPrediction(nn.Module):
    """Encoder and decoder with a skip on each level; without memory the decoder sees the query alone."""

    def __init__(self, spec: InputSpec, sections: MnadSections) -> None:
        super().__init__()
        self.input_spec = spec
        self.pools = single_pool(sections)
        self._loss = sections.loss
        self.encoder = MnadEncoder(spec, sections.model.width)
        self.decoder = Decoder(spec.channels, sections.model.width, has_memory=bool(self.pools))

    def encode(self, window: Tensor) -> dict[str, Tensor]:
        """Query (B, 512, h/8, w/8), unit length along its channels, and skips; see `MnadEncoder`."""
        skip_1, skip_2, skip_3, features = self.encoder(window)
        return {"query": unit_channels(features), "skip_1": skip_1, "skip_2": skip_2, "skip_3": skip_3}

    def decode(self, given: Mapping[str, Tensor]) -> Tensor:
        """Predict the target frame, (B, C, h, w) in [−1, 1]."""
        query = given["query"]
        features = torch.cat([query, given["read"]], dim=1) if self.pools else query
        return self.decoder(features, given["skip_1"], given["skip_2"], given["skip_3"])

    def losses(self, step: Step) -> dict[str, Tensor]:
        """The paper's three."""
        return mnad_losses(step, self.pools, self._loss)


class Decoder(nn.Module):
    """Back to the frame; each level sees the encoder's skip of its size first, then what came up. Widths for `width=64`."""

    def __init__(self, out_channels: int, width: int, *, has_memory: bool) -> None:
        super().__init__()
        self.level4 = block((16 if has_memory else 8) * width, 8 * width)
        self.up3 = up(8 * width, 4 * width)
        self.level3 = block(8 * width, 4 * width)
        self.up2 = up(4 * width, 2 * width)
        self.level2 = block(4 * width, 2 * width)
        self.up1 = up(2 * width, width)
        self.level1 = nn.Sequential(*conv_norm_relu(2 * width, width), *conv_norm_relu(width, width), conv(width, out_channels), nn.Tanh())

    def forward(self, features: Tensor, skip_1: Tensor, skip_2: Tensor, skip_3: Tensor) -> Tensor:
        """features: (B, 1024, h/8, w/8), query and read. Returns (B, C, h, w) in [−1, 1]."""
        features = self.level4(features)
        features = self.level3(torch.cat([skip_3, self.up3(features)], dim=1))
        features = self.level2(torch.cat([skip_2, self.up2(features)], dim=1))
        return self.level1(torch.cat([skip_1, self.up1(features)], dim=1))
