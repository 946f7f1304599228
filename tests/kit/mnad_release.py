"""The MNAD authors' network as its description has it (methods, names and order of layers), independent of train/: what imports are held
against. Its classes live in modules of the release's names, so that a pickle of it names what theirs does.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PREDICTION", "RECONSTRUCTION", "ReleasedNetwork", "released", "updated"]

PREDICTION = "model.final_future_prediction_with_memory_spatial_sumonly_weight_ranking_top1"
RECONSTRUCTION = "model.Reconstruction"


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, 1, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=False)]
    return nn.Sequential(*layers)


def _upsample(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=False))


class Encoder(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.moduleConv1 = _block(channels, width)
        self.modulePool1 = nn.MaxPool2d(2, 2)
        self.moduleConv2 = _block(width, 2 * width)
        self.modulePool2 = nn.MaxPool2d(2, 2)
        self.moduleConv3 = _block(2 * width, 4 * width)
        self.modulePool3 = nn.MaxPool2d(2, 2)
        self.moduleConv4 = nn.Sequential(
            nn.Conv2d(4 * width, 8 * width, 3, 1, 1),
            nn.BatchNorm2d(8 * width),
            nn.ReLU(inplace=False),
            nn.Conv2d(8 * width, 8 * width, 3, 1, 1),
        )
        self.moduleBatchNorm = nn.BatchNorm2d(8 * width)  # there, and never used
        self.moduleReLU = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        one = self.moduleConv1(x)
        two = self.moduleConv2(self.modulePool1(one))
        three = self.moduleConv3(self.modulePool2(two))
        return one, two, three, self.moduleConv4(self.modulePool3(three))


class Decoder(nn.Module):
    def __init__(self, channels: int, width: int, has_skips: bool) -> None:
        super().__init__()
        self.has_skips = has_skips
        up = 1 if has_skips else 2
        self.moduleConv = _block(16 * width, 8 * width)
        self.moduleUpsample4 = _upsample(8 * width, up * 4 * width)
        self.moduleDeconv3 = _block(8 * width, 4 * width)
        self.moduleUpsample3 = _upsample(4 * width, up * 2 * width)
        self.moduleDeconv2 = _block(4 * width, 2 * width)
        self.moduleUpsample2 = _upsample(2 * width, up * width)
        self.moduleDeconv1 = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, 1, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=False),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=False),
            nn.Conv2d(width, channels, 3, 1, 1),
            nn.Tanh(),
        )

    def forward(self, x: Tensor, skips: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        one, two, three = skips
        x = self.moduleUpsample4(self.moduleConv(x))
        x = self.moduleUpsample3(self.moduleDeconv3(torch.cat((three, x), dim=1) if self.has_skips else x))
        x = self.moduleUpsample2(self.moduleDeconv2(torch.cat((two, x), dim=1) if self.has_skips else x))
        return self.moduleDeconv1(torch.cat((one, x), dim=1) if self.has_skips else x)


class ReleasedNetwork(nn.Module):
    def __init__(self, frames: int, channels: int, width: int, has_skips: bool) -> None:
        super().__init__()
        self.encoder = Encoder(frames * channels, width)
        self.decoder = Decoder(channels, width, has_skips)

    def forward(self, frames: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """frames: (1, T · C, h, w) in [−1, 1]. Returns the prediction (1, C, h, w) and the query (1, D, h/8, w/8)."""
        one, two, three, features = self.encoder(frames)
        query = functional.normalize(features, dim=1)
        rows = query[0].flatten(1).T  # (K, D)
        read = ((rows @ items.T).softmax(dim=1) @ items).T.reshape(query.shape)
        return self.decoder(torch.cat((query, read), dim=1), (one, two, three)), query


def updated(query: Tensor, items: Tensor) -> Tensor:
    """The items (M, D) after one frame's query (1, D, h, w), as the release writes at test time."""
    rows = query[0].flatten(1).T  # (K, D)
    similarity = rows @ items.T
    over_queries = similarity.softmax(dim=0)
    nearest = similarity.argmax(dim=1)
    moved = items.clone()
    for m in range(len(items)):
        mine = nearest == m
        if mine.any():
            weights = over_queries[mine, m] / over_queries[:, m].max()
            moved[m] = functional.normalize(items[m] + weights @ rows[mine], dim=0)
    return moved


def released(module: str, frames: int, channels: int, width: int) -> ReleasedNetwork:
    """A network with random weights and lived-in batch norms; its classes say that they come from the release's module."""
    model = ReleasedNetwork(frames, channels, width, has_skips=module == PREDICTION)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight)  # so that what goes in at the bottom is seen at the top
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    sys.modules.setdefault("model", ModuleType("model"))
    home = sys.modules.setdefault(module, ModuleType(module))
    for kind, name in ((Encoder, "Encoder"), (Decoder, "Decoder"), (ReleasedNetwork, "convAE")):
        twin = type(name, (kind,), {"__module__": module})
        setattr(home, name, twin)
        for part in model.modules():
            if type(part) is kind:
                part.__class__ = twin
    return model.eval()
