"""Where a training runs, and in which number format."""

from __future__ import annotations

import logging

import torch

from edge_runtime.errors import ConfigError

__all__ = ["DEVICES", "autocast", "choose_device", "choose_precision", "has_bf16_arithmetic"]

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")
BF16_FEATURES = ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16")  # the last is ARM's


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one.

    Raises:
        ConfigError: an unknown name, or `cuda` where PyTorch sees no GPU.
    """
    if name not in DEVICES:
        raise ConfigError(f"device: expected one of {', '.join(DEVICES)}, got '{name}'.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device: expected a GPU for cuda, PyTorch {torch.__version__} sees none. Use DEVICE=cpu, or a PyTorch built for CUDA."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def choose_precision(wanted: str, device: torch.device) -> str:
    """`auto` is bf16 where the device computes in it, else fp32. A named one stays, and where it is slow the log says so."""
    if wanted == "auto":
        return "bf16" if has_bf16_arithmetic(device) else "fp32"
    if wanted == "bf16" and not has_bf16_arithmetic(device):
        log.warning(
            'warning: this %s has no bfloat16 arithmetic: training with precision = "bf16" takes two to eight times as long as with '
            'precision = "auto". Set that under [optimiser] in a configuration of your own.',
            "GPU" if device.type == "cuda" else "CPU",
        )
    return wanted


def has_bf16_arithmetic(device: torch.device) -> bool:
    """Whether it computes in bfloat16; where it does not, PyTorch or oneDNN imitates it, at a multiple of float32's time."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and any(features.get(name, False) for name in BF16_FEATURES)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Run convolutions in bfloat16 where the precision is `bf16`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
