"""The networks. Each is an encoder and a decoder, cut where the memory sits between them."""

from __future__ import annotations

from train.config import TrainConfig
from train.models.mnad import Mnad

__all__ = ["Mnad", "build_model"]


def build_model(config: TrainConfig) -> Mnad:
    """The network that a configuration names, with random weights."""
    return Mnad(config.input, width=config.model.width, has_memory=config.memory.items > 0)
