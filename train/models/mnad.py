"""The network of MNAD, prediction variant (Park, Noh, Ham, CVPR 2020).

Every convolution is 3x3 with stride 1 and padding 1. Widths are given for `width=64`, the paper's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.preprocess import InputSpec

__all__ = ["Mnad", "MnadDecoder", "MnadEncoder"]


class Mnad(nn.Module):
    """Encoder and decoder; what lies between them, the memory, is not a part of the module.

    Attributes:
        input_spec: what the network looks at.
        query_size: D, length of a query.
        has_memory: the decoder takes the read beside the query.
    """

    def __init__(self, spec: InputSpec, *, width: int = 64, has_memory: bool = True) -> None:
        super().__init__()
        self.input_spec = spec
        self.query_size = 8 * width
        self.has_memory = has_memory
        self.encoder = MnadEncoder(spec, width)
        self.decoder = MnadDecoder(spec.channels, width, has_memory)


class MnadEncoder(nn.Module):
    """Four levels down to an eighth of the side."""

    def __init__(self, spec: InputSpec, width: int) -> None:
        super().__init__()
        # Known sizes, not the tensor's own, so that the exported graph has one Reshape and no shape arithmetic.
        self._stacked = (-1, spec.frames * spec.channels, spec.height, spec.width)
        self.level1 = _block(self._stacked[1], width)
        self.level2 = _block(width, 2 * width)
        self.level3 = _block(2 * width, 4 * width)
        # No norm and no ReLU at the end: a ReLU would clip the space in which queries and items live.
        self.level4 = nn.Sequential(*_conv_norm_relu(4 * width, 8 * width), _conv(8 * width, 8 * width))

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        """Encode a clip.

        Args:
            clip: (B, T, C, h, w) in [−1, 1].

        Returns:
            query: (B, 512, h/8, w/8) float32, unit length along its channels.
            skip_1, skip_2, skip_3: (B, 64, h, w), (B, 128, h/2, w/2), (B, 256, h/4, w/4).
        """
        skip_1 = self.level1(clip.reshape(self._stacked))
        skip_2 = self.level2(functional.max_pool2d(skip_1, 2))
        skip_3 = self.level3(functional.max_pool2d(skip_2, 2))
        features = self.level4(functional.max_pool2d(skip_3, 2))
        features = features.float()
        query = features / torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min(1e-12)
        return {"query": query, "skip_1": skip_1, "skip_2": skip_2, "skip_3": skip_3}


class MnadDecoder(nn.Module):
    """Back to the frame; each level sees the encoder's skip of its size first, then what came up."""

    def __init__(self, out_channels: int, width: int, has_memory: bool) -> None:
        super().__init__()
        self.level4 = _block((16 if has_memory else 8) * width, 8 * width)
        self.up3 = _up(8 * width, 4 * width)
        self.level3 = _block(8 * width, 4 * width)
        self.up2 = _up(4 * width, 2 * width)
        self.level2 = _block(4 * width, 2 * width)
        self.up1 = _up(2 * width, width)
        self.level1 = nn.Sequential(
            *_conv_norm_relu(2 * width, width), *_conv_norm_relu(width, width), _conv(width, out_channels), nn.Tanh()
        )

    def forward(self, query: Tensor, read: Tensor | None, skip_1: Tensor, skip_2: Tensor, skip_3: Tensor) -> Tensor:
        """Predict the target frame.

        Args:
            query, read: (B, 512, h/8, w/8); no read for the model without memory.
            skip_1, skip_2, skip_3: as the encoder gives them.

        Returns:
            (B, C, h, w) in [−1, 1].
        """
        features = self.level4(query if read is None else torch.cat([query, read], dim=1))
        features = self.level3(torch.cat([skip_3, self.up3(features)], dim=1))
        features = self.level2(torch.cat([skip_2, self.up2(features)], dim=1))
        return self.level1(torch.cat([skip_1, self.up1(features)], dim=1))


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(*_conv_norm_relu(in_channels, out_channels), *_conv_norm_relu(out_channels, out_channels))


def _conv_norm_relu(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    return _conv(in_channels, out_channels), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def _up(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
