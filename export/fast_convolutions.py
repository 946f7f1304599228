"""Wide 3 × 3 convolutions with half the multiplications: Winograd's F(4, 3) (Lavin and Gray, arXiv 1509.09308) along one axis, the rows.

Four output rows come from six input rows. Instead of 4 · 3 products of rows with kernel rows there are six, of sums of input rows with
sums of kernel rows; sums of the products are the output. What is summed is cheap where many channels are mixed, and only there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FastConvolution", "SpedUp", "speed_up"]

Module = TypeVar("Module", bound=nn.Module)

ROWS = 4  # of the output, made at once
# Below either, the sums cost what the products save (measured one layer at a time, docs/decisions.md).
FEWEST_CHANNELS = 128  # in and out
FEWEST_MULTIPLICATIONS = 300_000_000  # in a layer

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


@dataclass(frozen=True)
class SpedUp(Generic[Module]):
    """A module with the twins of its wide convolutions.

    Attributes:
        multiplications: in all convolutions of the original, for the inputs it was shown.
        spared: how many of them the twins do without.
    """

    module: Module
    multiplications: int
    spared: int


def speed_up(module: Module, inputs: Sequence[Tensor]) -> SpedUp[Module]:
    """A copy, in eval mode, with every convolution inside replaced by its twin where that pays at the size of its pictures.

    Args:
        inputs: of the module, of the sizes it is for.
    """
    module = copy.deepcopy(module).eval()
    counts = _multiplications(module, inputs)
    twins = {
        layer: FastConvolution(layer)
        for layer, count in counts.items()
        if isinstance(layer, nn.Conv2d) and _has_twin(layer) and count >= FEWEST_MULTIPLICATIONS
    }
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):  # a layer may stand in several places
            if isinstance(child, nn.Conv2d) and child in twins:
                setattr(parent, name, twins[child])
    return SpedUp(module, sum(counts.values()), sum(counts[layer] // 2 for layer in twins))


class FastConvolution(nn.Module):
    """A convolution's twin.

    Written in what ONNX Runtime keeps in its blocked layout: convolutions, also for sums and factors, and additions.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self._plain = convolution
        self.register_buffer("_kernel_sums", torch.tensor(KERNEL_SUMS))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, h, w). Returns (B, C', h, w)."""
        height, width = int(x.shape[2]), int(x.shape[3])
        spare = -height % ROWS  # rows below the picture, in the last four
        kernels = (self._kernel_sums @ self._plain.weight).split(1, dim=2)  # six of (C', C, 1, 3)
        biases = (None, self._plain.bias, None, None, None, None)  # the second product is in every output row, once
        sums = [_sum_of_rows(x, factors, spare) for factors in INPUT_SUMS]
        p = [functional.conv2d(s, kernel, bias, padding=(0, 1)) for s, kernel, bias in zip(sums, kernels, biases, strict=True)]
        near, near_odd = p[1] + p[2], _scaled(p[2], -1) + p[1]
        far, far_odd = p[3] + p[4], _scaled(p[4], -1) + p[3]
        rows = (p[0] + (near + far), _scaled(far_odd, 2) + near_odd, _scaled(far, 4) + near, p[5] + (_scaled(far_odd, 8) + near_odd))
        # Side by side, four rows lie in memory as one after the other.
        woven = torch.cat(rows, dim=3).reshape(-1, self._plain.out_channels, height + spare, width)
        return woven[:, :, :height] if spare else woven


def _sum_of_rows(x: Tensor, factors: tuple[int, ...], spare: int) -> Tensor:
    """The rows 4i − 1 … 4i + 4 summed with factors: (B, C, ⌈h/4⌉, w). The first zeros let the padding reach `spare` rows further down."""
    channels = int(x.shape[1])
    kernel = torch.tensor((0,) * spare + factors, dtype=x.dtype).reshape(1, 1, -1, 1).repeat(channels, 1, 1, 1)
    return functional.conv2d(x, kernel, stride=(ROWS, 1), padding=(1 + spare, 0), groups=channels)


def _scaled(x: Tensor, factor: int) -> Tensor:
    channels = int(x.shape[1])
    return functional.conv2d(x, torch.full((channels, 1, 1, 1), factor, dtype=x.dtype), groups=channels)


def _has_twin(layer: nn.Conv2d) -> bool:
    is_plain = (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    return (
        is_plain and layer.groups == 1 and layer.padding_mode == "zeros" and min(layer.in_channels, layer.out_channels) >= FEWEST_CHANNELS
    )


def _multiplications(module: nn.Module, inputs: Sequence[Tensor]) -> dict[nn.Module, int]:
    """By convolution, one picture."""
    counts: dict[nn.Module, int] = {}

    def count(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        # Every number of the smaller side meets each weight of its channel: in a transposed convolution that is the input.
        side = given[0] if isinstance(layer, nn.ConvTranspose2d) else output
        counts[layer] = counts.get(layer, 0) + int(side[0, 0].numel()) * layer.weight.numel()

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        module(*inputs)
    for hook in hooks:
        hook.remove()
    return counts
