"""MNAD, reconstruction: a frame through a bottleneck and back, past no skip (Park, Noh, Ham, CVPR 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge_runtime.preprocess import InputSpec
from train.layers import block, conv, conv_norm_relu, up
from train.mnad import MnadEncoder, MnadSections, mnad_losses, single_pool, unit_channels
from train.model import Step
from train.models import register

__all__ = ["MnadReconstruction"]


@register("mnad_reconstruction", MnadSections)
class MnadReconstruction(nn.Module):
    """Encoder and decoder without skips, which would let the network copy its input."""

    def __init__(self, spec: InputSpec, sections: MnadSections) -> None:
        super().__init__()
        self.input_spec = spec
        self.pools = single_pool(sections)
        self._loss = sections.loss
        width = sections.model.width
        self.encoder = MnadEncoder(spec, width)
        # Nothing is concatenated on the way up, so that a step up keeps its width.
        self.decoder = nn.Sequential(
            *block((16 if self.pools else 8) * width, 8 * width),
            *up(8 * width, 8 * width),
            *block(8 * width, 4 * width),
            *up(4 * width, 4 * width),
            *block(4 * width, 2 * width),
            *up(2 * width, 2 * width),
            *conv_norm_relu(2 * width, width),
            *conv_norm_relu(width, width),
            conv(width, spec.channels),
            nn.Tanh(),
        )

    def encode(self, window: Tensor) -> dict[str, Tensor]:
        """Query (B, 512, h/8, w/8), unit length along its channels, for width 64."""
        return {"query": unit_channels(self.encoder(window)[-1])}

    def decode(self, given: Mapping[str, Tensor]) -> Tensor:
        """Reconstruct the frame, (B, C, h, w) in [−1, 1]."""
        query = given["query"]
        return self.decoder(torch.cat([query, given["read"]], dim=1) if self.pools else query)

    def losses(self, step: Step) -> dict[str, Tensor]:
        """The paper's three."""
        return mnad_losses(step, self.pools, self._loss)
