"""The model as the runtime runs it: an encoder graph, and a decoder graph that ends in the scores."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from train.memory import TrainedPool
from train.model import Model

__all__ = ["DecoderGraph", "EncoderGraph", "SplitModel", "fold_norms", "scores", "split"]

FLOORED_MSE = 1e-10
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class SplitModel:
    """Two modules to export, with the names of what goes in and comes out, in order, and an example of what goes in.

    Attributes:
        halved: tensors between the two that have the graphs' own precision; all others are float32 in every precision.
    """

    encoder: EncoderGraph
    decoder: DecoderGraph
    window: Tensor
    given: Mapping[str, Tensor]
    halved: frozenset[str]


@torch.no_grad()
def split(model: Model) -> SplitModel:
    """Copy a trained model into two modules, batch norms folded into the convolutions before them."""
    folded = fold_norms(copy.deepcopy(model).eval())
    spec = model.input_spec
    window = torch.zeros(1, spec.frames, spec.channels, spec.height, spec.width)
    encoded = folded.encode(window)
    reads = {pool.read: encoded[pool.query] for pool in model.pools if pool.read is not None}
    given = _Recorded({**_with_reads(encoded, model.pools, reads)})
    folded.decode(given)
    inputs = tuple(name for name in given if name in given.asked_for)
    queries = {pool.query for pool in model.pools}
    example = {name: given[name] for name in inputs} | {"target": window[:, 0]}
    return SplitModel(
        EncoderGraph(folded, tuple(encoded)).eval(),
        DecoderGraph(folded, inputs, queries | set(reads)).eval(),
        window,
        example,
        frozenset(encoded) - queries,
    )


class EncoderGraph(nn.Module):
    """Window to what `encode` returns.

    Its casts to float32, and the decoder's, do nothing here. They mark where half precision begins; `halve` turns them over.
    """

    inputs = ("clip",)

    def __init__(self, model: Model, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self._model = model
        self.outputs = outputs

    def forward(self, window: Tensor) -> tuple[Tensor, ...]:
        """window: (B, T, C, h, w) float32 in [−1, 1]."""
        encoded = self._model.encode(window.to(torch.float32))
        return tuple(encoded[name] for name in self.outputs)


class DecoderGraph(nn.Module):
    """What `decode` looks up to the prediction; with the target frame, to the error map and the scores."""

    outputs = ("prediction", "error_map", "score/psnr_db", "score/regular_score", "score/local_error")

    def __init__(self, model: Model, inputs: tuple[str, ...], float32: Collection[str]) -> None:
        super().__init__()
        self._model = model
        self._float32 = frozenset(float32)
        self.inputs = (*inputs, "target")

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """tensors: in the order of `inputs`; target (B, C, h, w) float32 in [−1, 1]. Outputs are float32."""
        given = dict(zip(self.inputs, tensors, strict=True))
        target = given.pop("target")
        marked = {name: tensor.to(torch.float32) if name in self._float32 else tensor for name, tensor in given.items()}
        prediction = self._model.decode(marked).float()
        return (prediction, *scores(prediction, target))


class _Recorded(dict[str, Tensor]):
    """Remembers what was looked up."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__(values)
        self.asked_for: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.asked_for.add(name)
        return super().__getitem__(name)


def _with_reads(encoded: Mapping[str, Tensor], pools: Sequence[TrainedPool], reads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the decoder may take, each read behind its query."""
    given: dict[str, Tensor] = {}
    for name, tensor in encoded.items():
        given[name] = tensor
        given |= {pool.read: reads[pool.read] for pool in pools if pool.query == name and pool.read is not None}
    return given


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


def fold_norms(module: nn.Module) -> nn.Module:
    """Fold batch norms into the convolution right before them in a Sequential; what cannot be folded stays.

    Returns:
        The module itself, changed; of a Sequential a new one.
    """
    if type(module) is nn.Sequential:  # a class of its own may do something else with its layers
        return _fold_sequence(module)
    for name, child in module.named_children():
        setattr(module, name, fold_norms(child))
    return module


def _fold_sequence(sequence: nn.Sequential) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in sequence:
        before = layers[-1] if layers else None
        if type(layer) in NORMS and layer.running_mean is not None and _takes_a_norm(before):
            layers[-1] = fuse_conv_bn_eval(before, layer, transpose=type(before) in TRANSPOSED)
        else:
            layers.append(fold_norms(layer))
    return nn.Sequential(*layers)


def _takes_a_norm(layer: nn.Module | None) -> bool:
    """Whether a norm behind it can be folded in; of a transposed convolution in groups, PyTorch's function spoils the weights."""
    return type(layer) in CONVOLUTIONS or (type(layer) in TRANSPOSED and layer.groups == 1)
