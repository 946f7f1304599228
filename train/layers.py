"""The layers that networks of MNAD's kind are built from. Every convolution is 3x3 with stride 1 and padding 1."""

from __future__ import annotations

from torch import nn

__all__ = ["block", "conv", "conv_norm_relu", "up"]


def block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions, each with its norm and ReLU."""
    return nn.Sequential(*conv_norm_relu(in_channels, out_channels), *conv_norm_relu(out_channels, out_channels))


def conv_norm_relu(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    """The three layers of a step, to be put into a Sequential."""
    return conv(in_channels, out_channels), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)


def conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A bare convolution."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


def up(in_channels: int, out_channels: int) -> nn.Sequential:
    """Twice the side: a transposed convolution with its norm and ReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
