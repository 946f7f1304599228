"""What a configuration's precision costs on this CPU."""

from __future__ import annotations

import logging

import torch

from train.config import TrainConfig

__all__ = ["has_bf16_arithmetic", "warn_of_slow_precision"]

log = logging.getLogger(__name__)

BF16_FEATURES = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")  # the last is ARM's


def has_bf16_arithmetic() -> bool:
    """Whether this CPU computes in bfloat16; where it does not, oneDNN or PyTorch imitates it, at a multiple of float32's time."""
    features = torch.cpu.get_capabilities()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and any(features.get(name, False) for name in BF16_FEATURES)


def warn_of_slow_precision(config: TrainConfig) -> None:
    """Say in the log that `bf16`, which is for speed, is slower than `fp32` here. The configuration stays as it is."""
    if config.optimiser.precision == "bf16" and not has_bf16_arithmetic():
        log.warning(
            'warning: this CPU has no bfloat16 arithmetic: training with precision = "bf16" takes two to eight times as long as with '
            'precision = "fp32". Say that under [optimiser] in a configuration of your own.'
        )
