"""Batch norms in the convolutions before them: fewer layers, the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from export.split import fold_norms

FLAT, DEEP = (2, 4, 9, 8), (2, 4, 5, 6, 8)

FOLDED = {
    "Conv2d": (nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU()), FLAT),
    "Conv2d in groups, without bias": (nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6)), FLAT),
    "Conv3d": (nn.Sequential(nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6), nn.ReLU()), DEEP),
    "ConvTranspose2d": (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1), nn.BatchNorm2d(6)), FLAT),
    "ConvTranspose3d": (nn.Sequential(nn.ConvTranspose3d(4, 6, 3, 2, 1, 1), nn.BatchNorm3d(6)), DEEP),
    "a norm without weights of its own": (nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False)), FLAT),
    "two norms": (nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.BatchNorm2d(6)), FLAT),
    "nested": (
        nn.Sequential(
            nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)),
            nn.Sequential(nn.ReLU(), nn.Sequential(nn.Conv2d(6, 3, 1), nn.BatchNorm2d(3))),
        ),
        FLAT,
    ),
}


class Scaled(nn.Sequential):
    """A Sequential that does something of its own."""

    def forward(self, features: Tensor) -> Tensor:
        return 2 * super().forward(features)


class Flipped(nn.Conv2d):
    """A convolution with other weights than its own."""

    def forward(self, features: Tensor) -> Tensor:
        return self._conv_forward(features, self.weight.flip(-1), None)


STAYING = {
    "a Sequential that begins with a norm": (nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3)), FLAT),
    "convolution, ReLU, norm": (nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.BatchNorm2d(6)), FLAT),
    "a transposed convolution in groups": (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, groups=2), nn.BatchNorm2d(6)), FLAT),
    "a norm without statistics": (nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)), FLAT),
    "a norm behind a Sequential": (nn.Sequential(nn.Sequential(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)), FLAT),
    "a Sequential of another kind": (Scaled(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)), FLAT),
    "a convolution of another kind": (nn.Sequential(Flipped(4, 6, 3), nn.BatchNorm2d(6)), FLAT),
    "nothing but a norm": (nn.BatchNorm2d(4), FLAT),
}


@pytest.mark.parametrize(("module", "shape"), FOLDED.values(), ids=FOLDED)
def test_a_norm_behind_a_convolution_goes_into_it(module: nn.Module, shape: tuple[int, ...]) -> None:
    assert _norms(_assert_same(module, shape)) == 0


@pytest.mark.parametrize(("module", "shape"), STAYING.values(), ids=STAYING)
def test_another_norm_stays(module: nn.Module, shape: tuple[int, ...]) -> None:
    assert _norms(_assert_same(module, shape)) == 1


def test_in_one_network_each_norm_is_judged_by_itself() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.BatchNorm3d(4), nn.Conv3d(4, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.BatchNorm3d(6))
            self.others = nn.ModuleList([nn.Sequential(nn.ConvTranspose3d(6, 2, 3), nn.BatchNorm3d(2)), nn.Conv3d(2, 2, 1)])

        def forward(self, features: Tensor) -> Tensor:
            for part in (self.first, *self.others):
                features = part(features)
            return features

    folded = _assert_same(Network(), DEEP)
    assert [type(layer).__name__ for layer in folded.first] == ["BatchNorm3d", "Conv3d", "ReLU", "BatchNorm3d"]
    assert [type(layer).__name__ for layer in folded.others[0]] == ["ConvTranspose3d"]


def _assert_same(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The folded module, which says of a picture what the module says."""
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            layer.momentum = 0.5  # statistics that are not all 0 and 1
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias)
    with torch.no_grad():
        module(torch.randn(shape) + 1)
        features = torch.randn(shape)
        wanted = module.eval()(features)
        folded = fold_norms(copy.deepcopy(module))
        assert (folded(features) - wanted).abs().max() <= 1e-5 < wanted.std()
    return folded


def _norms(module: nn.Module) -> int:
    return sum(isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)) for layer in module.modules())
