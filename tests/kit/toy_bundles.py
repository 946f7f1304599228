"""Bundles with random weights, one per shape that the contracts must hold: they keep the runtime general.

| bundle | pools | input |
|---|---|---|
| `one_pool` | one pool with skips, `softmax` and `ema` (a small MNAD) | 4 frames → the 5th, grey, 32 x 32 |
| `two_banks` | two banks on one 3-D query, `hard_shrink`, one read, one only scored, no update | 4 frames → frame 2 of them, grey |
| `three_pools` | three pools on three grids, `softmax` and `mnad`, their reads instead of skips | 2 frames → the 3rd, colour |

`python -m tests.kit.toy_bundles DIR` makes them for a machine without PyTorch, which finds them at TOYS_DIR.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import SCHEMA, FileSpec, GateSpec, Manifest, ModelSpec, PoolSpec, Precision, UpdateSpec
from edge_runtime.preprocess import InputSpec
from edge_runtime.score_scale import ScoreScale, Threshold
from export.onnx_graphs import export_graph
from export.split import scores, split
from tests.kit.changed_bundles import rewrite_manifest
from train.mnad import MnadSections, NetworkConfig
from train.models.mnad_prediction import MnadPrediction

SCORES = ("prediction", "error_map", "score/psnr_db", "score/regular_score", "score/local_error")


def one_pool(folder: Path) -> Bundle:
    torch.manual_seed(1)
    spec = InputSpec(frames=4, target=4, channels=1, height=32, width=32)
    halves = split(MnadPrediction(spec, MnadSections(NetworkConfig(2))))
    pools = (PoolSpec("memory", "query", "read", "softmax", "ema"),)
    return write_bundle(
        folder, spec, halves.encoder, halves.decoder, halves.encoder.outputs, halves.decoder.inputs, pools, {"memory": (3, 16)}
    )


def two_banks(folder: Path) -> Bundle:
    torch.manual_seed(2)
    spec = InputSpec(frames=4, target=2, channels=1, height=16, width=16)
    pools = (
        PoolSpec("normal", "query", "read_normal", "hard_shrink", "none"),
        PoolSpec("anomalous", "query", None, "hard_shrink", "none"),
    )
    sizes = {"normal": (5, 8), "anomalous": (7, 8)}
    return write_bundle(folder, spec, VolumeEncoder(), VolumeDecoder(), ("query",), ("read_normal", "target"), pools, sizes)


def three_pools(folder: Path) -> Bundle:
    torch.manual_seed(3)
    spec = InputSpec(frames=2, target=2, channels=3, height=16, width=16)
    pools = tuple(PoolSpec(f"level_{i}", f"query_{i}", f"read_{i}", "softmax", "mnad") for i in (1, 2, 3))
    sizes = {"level_1": (4, 4), "level_2": (4, 8), "level_3": (4, 16)}
    queries = ("query_1", "query_2", "query_3")
    return write_bundle(folder, spec, PyramidEncoder(), PyramidDecoder(), queries, ("read_1", "read_2", "read_3", "target"), pools, sizes)


TOYS: dict[str, Callable[[Path], Bundle]] = {"one_pool": one_pool, "two_banks": two_banks, "three_pools": three_pools}


class VolumeEncoder(nn.Module):
    """(B, 4, 1, 16, 16) to one 3-D query (B, 8, 2, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 8, 3, stride=2, padding=1)

    def forward(self, window: Tensor) -> tuple[Tensor]:
        return (self.conv(window.transpose(1, 2)),)


class VolumeDecoder(nn.Module):
    """The read replaces the feature; frame 2 of the window is reconstructed."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(8, 1, 3, stride=2, padding=1, output_padding=1)

    def forward(self, read_normal: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        prediction = self.up(read_normal)[:, :, 2]
        return (prediction, *scores(prediction, target))


class PyramidEncoder(nn.Module):
    """(B, 2, 3, 16, 16) to unit queries of 4, 8 and 16 channels at 16, 8 and 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList([nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)])

    def forward(self, window: Tensor) -> tuple[Tensor, ...]:
        features = window.reshape(-1, 6, 16, 16)
        queries = []
        for level in self.levels:
            features = level(features).relu()
            queries.append((features + 1e-3) / torch.linalg.vector_norm(features + 1e-3, dim=1, keepdim=True))
        return tuple(queries)


class PyramidDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(28, 3, 3, padding=1)

    def forward(self, read_1: Tensor, read_2: Tensor, read_3: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        raised = [functional.interpolate(read, size=(16, 16)) for read in (read_2, read_3)]
        prediction = self.conv(torch.cat([read_1, *raised], dim=1)).tanh()
        return (prediction, *scores(prediction, target))


def write_bundle(
    folder: Path,
    spec: InputSpec,
    encoder: nn.Module,
    decoder: nn.Module,
    encoded: tuple[str, ...],
    decoder_inputs: tuple[str, ...],
    pools: tuple[PoolSpec, ...],
    sizes: dict[str, tuple[int, int]],
) -> Bundle:
    """Export two modules and write a bundle around them, with random items and an arbitrary score scale."""
    folder.mkdir(parents=True)
    window = torch.rand(1, spec.frames, spec.channels, spec.height, spec.width)
    with torch.no_grad():
        given = dict(zip(encoded, encoder(window), strict=True))
    given |= {pool.read: given[pool.query] for pool in pools if pool.read} | {"target": window[:, 0]}
    graphs = (
        export_graph(encoder.eval(), {"clip": window}, encoded, folder / "encoder.fp32.onnx"),
        export_graph(decoder.eval(), {name: given[name] for name in decoder_inputs}, SCORES, folder / "decoder.fp32.onnx"),
    )
    items = {name: functional.normalize(torch.randn(size), dim=1) for name, size in sizes.items()}
    memory = safetensors.torch.save(items)
    (folder / "memory.safetensors").write_bytes(memory)
    scale = ScoreScale("local_error", 2, (0.0, 0.01, 0.2), 0.1)
    manifest = Manifest(
        schema=SCHEMA,
        name=folder.name,
        model=ModelSpec("toy", {}),
        input=spec,
        fps=10.0,
        pools=pools,
        memory=FileSpec("memory.safetensors", hashlib.sha256(memory).hexdigest()),
        gate=GateSpec(1.0),
        update=UpdateSpec(rate=0.1, write_scale="all", drift_limit=2.0),
        paper_weight=0.6,
        precisions={"fp32": Precision(*graphs, scale, Threshold(1.5, 1.0, True, 1.0), {}, "A toy.")},
        provenance={"weights": "random"},
    )
    return rewrite_manifest(folder, manifest)


if __name__ == "__main__":
    for toy_name, make in TOYS.items():
        print(make(Path(sys.argv[1]) / toy_name).path)
