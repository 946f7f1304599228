"""MNAD's prediction network in few words, for tests of what takes any model."""

from __future__ import annotations

from edge_runtime.preprocess import InputSpec
from train.mnad import MemoryConfig, MnadSections, NetworkConfig
from train.models.mnad_prediction import MnadPrediction

__all__ = ["mnad"]


def mnad(spec: InputSpec, *, width: int, has_memory: bool = True) -> MnadPrediction:
    """Random weights; ten items, or none."""
    return MnadPrediction(spec, MnadSections(NetworkConfig(width), MemoryConfig(10 if has_memory else 0)))
