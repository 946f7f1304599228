"""The paper's network with random weights, as a bundle: speed does not depend on what was learned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import (
    SCHEMA,
    FastGraphs,
    FileSpec,
    GateSpec,
    GraphSpec,
    Manifest,
    ModelSpec,
    PoolSpec,
    Precision,
    TensorSpec,
    UpdateSpec,
)
from edge_runtime.bundle.manifest_file import encode_manifest
from edge_runtime.preprocess import InputSpec
from edge_runtime.score_scale import ScoreScale, Threshold

if TYPE_CHECKING:
    from train.models.mnad_prediction import MnadPrediction

__all__ = ["FULL_SIZE", "full_size_bundle", "full_size_manifest", "random_model"]

FULL_SIZE = InputSpec(frames=4, target=4, channels=3, height=256, width=256)


def random_model(seed: int = 0, *, side: int = FULL_SIZE.height, width: int = 64) -> MnadPrediction:
    """The full-size network, or a smaller one, with batch norms that have seen something, in eval mode."""
    import torch

    from train.mnad import MnadSections, NetworkConfig
    from train.models.mnad_prediction import MnadPrediction

    torch.manual_seed(seed)
    model = MnadPrediction(replace(FULL_SIZE, height=side, width=side), MnadSections(NetworkConfig(width)))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def full_size_bundle(
    model: MnadPrediction, folder: Path, precisions: Sequence[str] = ("fp32",), *, has_fast_graphs: bool = False
) -> Bundle:
    """Export the network into a bundle whose gate lets every frame pass; with fast graphs it is what `make bundle` would write."""
    import safetensors.torch
    import torch

    from export.bundle import write_fast_graphs, write_graphs
    from train.memory import Memory

    graphs = {precision: write_graphs(model, precision, folder) for precision in precisions}
    memory = safetensors.torch.save(Memory(model.pools, torch.Generator().manual_seed(0)).copy_items())
    (folder / "memory.safetensors").write_bytes(memory)
    fast = write_fast_graphs(model, folder) if has_fast_graphs else None
    manifest = _manifest(model.input_spec, graphs, hashlib.sha256(memory).hexdigest(), fast)
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return Bundle.load(folder)


def full_size_manifest() -> Manifest:
    """A manifest without files behind it, for the memory step alone."""
    query = TensorSpec("query", "float32", ("batch", 512, 32, 32))
    return _manifest(FULL_SIZE, {"fp32": (GraphSpec("-", "-", (), (query,)), GraphSpec("-", "-", (), ()))}, "-")


def _manifest(
    spec: InputSpec, graphs: Mapping[str, tuple[GraphSpec, GraphSpec]], memory_hash: str, fast: FastGraphs | None = None
) -> Manifest:
    scale, threshold = ScoreScale("local_error", 5, (0.0, 1.0), 1.0), Threshold(3.0, 1.0, True, 2.0)
    precisions = {precision: Precision(*halves, scale, threshold, {}, "Random weights.") for precision, halves in graphs.items()}
    if fast is not None:
        precisions["fp32"] = replace(precisions["fp32"], fast=fast)
    return Manifest(
        schema=SCHEMA,
        name="full-size",
        model=ModelSpec("mnad_prediction", {}),
        input=spec,
        fps=10.0,
        pools=(PoolSpec("memory", "query", "read", "softmax", "ema"),),
        memory=FileSpec("memory.safetensors", memory_hash),
        gate=GateSpec(2.0),
        update=UpdateSpec(rate=0.001, write_scale="all", drift_limit=2.0),
        paper_weight=0.6,
        precisions=precisions,
        provenance={},
    )
