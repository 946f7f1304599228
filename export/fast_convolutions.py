"""Wide 3 × 3 convolutions with half the multiplications: Winograd's F(4, 3) (Lavin and Gray, arXiv 1509.09308) along one axis, the rows.

Four output rows come from six input rows. Instead of 4 · 3 products of rows with kernel rows there are six, of sums of input rows with
sums of kernel rows; sums of the products are the output. What is summed is cheap where many channels are mixed, and only there.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FastConvolution", "has_fast_form", "speed_up"]

Module = TypeVar("Module", bound=nn.Module)

ROWS = 4  # of the output, made at once
FEWEST_CHANNELS = 128  # in and out; with 64 the sums cost what the products save
WORTH_CHANNELS = 256  # a network of which no convolution has as many is as fast as it is

INPUT_SUMS = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
"""Bᵀ: each of the six products takes such a sum of six rows."""

KERNEL_SUMS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
"""G: and such a sum of the kernel's three rows."""


class FastConvolution(nn.Module):
    """A convolution's twin; where the rows are no multiple of four it computes as the convolution does.

    Written in what ONNX Runtime keeps in its blocked layout: convolutions, also for sums and factors, and additions.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self._plain = convolution
        self.register_buffer("_kernel_sums", torch.tensor(KERNEL_SUMS))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, h, w). Returns (B, C', h, w)."""
        if int(x.shape[2]) % ROWS:
            plain: Tensor = self._plain(x)
            return plain
        kernels = (self._kernel_sums @ self._plain.weight).split(1, dim=2)  # six of (C', C, 1, 3)
        biases = (None, self._plain.bias, None, None, None, None)  # the second product is in every output row, once
        sums = [_sum_of_rows(x, factors) for factors in INPUT_SUMS]
        p = [functional.conv2d(s, kernel, bias, padding=(0, 1)) for s, kernel, bias in zip(sums, kernels, biases, strict=True)]
        near, near_odd = p[1] + p[2], _scaled(p[2], -1) + p[1]
        far, far_odd = p[3] + p[4], _scaled(p[4], -1) + p[3]
        rows = (p[0] + (near + far), _scaled(far_odd, 2) + near_odd, _scaled(far, 4) + near, p[5] + (_scaled(far_odd, 8) + near_odd))
        # Side by side, four rows lie in memory as one after the other.
        return torch.cat(rows, dim=3).reshape(-1, self._plain.out_channels, int(x.shape[2]), int(x.shape[3]))


def _sum_of_rows(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """The rows 4i − 1 … 4i + 4 summed with factors: (B, C, h/4, w)."""
    kernel = torch.tensor(factors, dtype=x.dtype).reshape(1, 1, -1, 1).repeat(int(x.shape[1]), 1, 1, 1)
    return functional.conv2d(x, kernel, stride=(ROWS, 1), padding=(1, 0), groups=int(x.shape[1]))


def _scaled(x: Tensor, factor: int) -> Tensor:
    channels = int(x.shape[1])
    return functional.conv2d(x, torch.full((channels, 1, 1, 1), factor, dtype=x.dtype), groups=channels)


def has_fast_form(module: nn.Module) -> bool:
    """Whether it has convolutions so wide that it is faster with their twins."""
    return any(_channels(child) >= WORTH_CHANNELS for child in module.modules())


def speed_up(module: Module) -> Module:
    """A copy with every wide convolution replaced by its twin."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and _channels(child) >= FEWEST_CHANNELS:
                setattr(parent, name, FastConvolution(child))
    return module


def _channels(module: nn.Module) -> int:
    """The fewer of a convolution's channels in and out; 0 for what has no twin."""
    if not isinstance(module, nn.Conv2d) or module.groups != 1 or module.padding_mode != "zeros":
        return 0
    has_twin = (module.kernel_size, module.stride, module.padding, module.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    return min(module.in_channels, module.out_channels) if has_twin else 0
