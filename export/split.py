"""The model as the runtime runs it: an encoder graph, and a decoder graph that ends in the scores."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from train.models import Mnad

__all__ = ["DecoderGraph", "EncoderGraph", "SplitModel", "scores", "split"]

FLOORED_MSE = 1e-10


@dataclass(frozen=True)
class SplitModel:
    """Two modules to export, with the names of what goes in and comes out, in order."""

    encoder: EncoderGraph
    decoder: DecoderGraph


def split(model: Mnad) -> SplitModel:
    """Copy a trained model into two modules, batch norms folded into the convolutions before them."""
    fused = _fuse(copy.deepcopy(model).eval())
    return SplitModel(EncoderGraph(fused).eval(), DecoderGraph(fused, model.has_memory).eval())


class EncoderGraph(nn.Module):
    """Clip to query and skips.

    Its casts to float32, and the decoder's, do nothing here. They mark where half precision begins; `halve` turns them over.
    """

    inputs = ("clip",)
    outputs = ("query", "skip_1", "skip_2", "skip_3")

    def __init__(self, model: Mnad) -> None:
        super().__init__()
        self._encoder = model.encoder

    def forward(self, clip: Tensor) -> tuple[Tensor, ...]:
        """clip: (B, T, C, h, w) float32 in [−1, 1]. Outputs as `MnadEncoder.forward` names them."""
        encoded = self._encoder(clip.to(torch.float32))
        return tuple(encoded[name] for name in self.outputs)


class DecoderGraph(nn.Module):
    """Query, read and skips to the prediction; with the target frame, to the error map and the scores."""

    outputs = ("prediction", "error_map", "score/psnr_db", "score/regular_score", "score/local_error")

    def __init__(self, model: Mnad, has_memory: bool) -> None:
        super().__init__()
        self._decoder = model.decoder
        self._has_memory = has_memory
        self.inputs = (*(("query", "read") if has_memory else ("query",)), "skip_1", "skip_2", "skip_3", "target")

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """tensors: in the order of `inputs`; target (B, C, h, w) float32 in [−1, 1]. Outputs are float32."""
        given = dict(zip(self.inputs, tensors, strict=True))
        query, read = given["query"].to(torch.float32), given.get("read")
        read = None if read is None else read.to(torch.float32)
        prediction = self._decoder(query, read, given["skip_1"], given["skip_2"], given["skip_3"]).float()
        return (prediction, *scores(prediction, given["target"]))


def scores(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the frame says about itself, on [0, 1] images.

    Args:
        prediction, target: (B, C, h, w) float32 in [−1, 1].

    Returns:
        error_map (B, 1, h, w): squared error, mean over the channels.
        psnr_db (B,): 10·log10(1 / mean squared error), the error floored at 1e-10.
        regular_score (B,): Σ W·e / Σ W over all elements with W = 1 − exp(−e) (MNAD, eq. 10, in the release's form).
        local_error (B,): largest mean of the error map over any window of an eighth of the side, stride a quarter of it.
    """
    error = ((prediction - target) * 0.5).square()
    error_map = error.mean(dim=1, keepdim=True)
    psnr_db = -10.0 * error.mean(dim=(1, 2, 3)).clamp_min(FLOORED_MSE).log10()
    # 1 − exp(−e), written so that it keeps its digits where e is small, as it is on every normal frame.
    weight = torch.tanh(error * 0.5) * (1.0 + torch.exp(-error))
    regular_score = (weight * error).sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)).clamp_min(1e-20)
    window = (max(int(target.shape[2]) // 8, 1), max(int(target.shape[3]) // 8, 1))
    stride = (max(window[0] // 4, 1), max(window[1] // 4, 1))
    local_error = functional.avg_pool2d(error_map, window, stride).amax(dim=(1, 2, 3))
    return error_map, psnr_db, regular_score, local_error


def _fuse(module: nn.Module) -> nn.Module:
    """Fold every batch norm into the convolution before it, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential):
            setattr(module, name, _fuse_sequence(child))
        else:
            _fuse(child)
    return module


def _fuse_sequence(sequence: nn.Sequential) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in sequence:
        if isinstance(layer, nn.BatchNorm2d):
            before = layers.pop()
            layers.append(fuse_conv_bn_eval(before, layer, transpose=isinstance(before, nn.ConvTranspose2d)))
        else:
            layers.append(layer)
    return nn.Sequential(*layers)
