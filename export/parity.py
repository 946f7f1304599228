"""Does the exported model say what the trained one says?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import FastGraphs, Precision
from edge_runtime.errors import BundleError
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from export.split import DecoderGraph, scores
from export.tolerances import PARITY
from train.data import Batch
from train.loop import forward
from train.memory import Memory
from train.model import Model

__all__ = ["check_parity", "parity"]


@torch.inference_mode()
def parity(bundle: Bundle, graphs: Precision | FastGraphs, model: Model, memory: Memory, batches: Iterable[Batch]) -> dict[str, float]:
    """Largest absolute difference between the exported graphs and the PyTorch model in float32, by tensor.

    Both take the same reads, those of the model's own queries, so that only the graphs are compared.

    Args:
        graphs: of the bundle.
        model: as trained, in eval mode.
        memory: its items.
        batches: of one window each.
    """
    encoder, decoder = OnnxRuntimeGraph(bundle, graphs.encoder), OnnxRuntimeGraph(bundle, graphs.decoder)
    largest: dict[str, float] = {}
    for batch in batches:
        step = forward(model, memory, batch)
        values = (step.prediction, *scores(step.prediction, batch.target))
        wanted = dict(step.encoded) | dict(zip(DecoderGraph.outputs, values, strict=True))
        got = dict(encoder.run({"clip": batch.window.numpy()}))
        reads = {name: read.numpy() for name, read in step.reading.inputs.items()}
        got |= decoder.run({**got, **reads, "target": batch.target.numpy()})
        for name in got:
            difference = float(np.abs(wanted[name].numpy() - got[name].astype(np.float32)).max())
            largest[name] = float(np.maximum(largest.get(name, 0.0), difference))  # a NaN stays one
    return largest


def check_parity(differences: dict[str, float], precision: str, *, is_fast: bool = False) -> None:
    """Raises:
    BundleError: a tensor is further off than the precision's tolerance.
    """
    allowed = PARITY[precision]
    graphs, flags = (f"fast {precision}", "--no-fast-graphs") if is_fast else (precision, "--precisions fp32")
    held = [name for name in differences if name == "prediction" or (precision == "fp32" and name.startswith("score/"))]
    for name in held:
        if not differences[name] <= allowed:
            raise BundleError(
                f"{graphs} graphs: expected '{name}' within {allowed} of the PyTorch model, got {differences[name]:.3g}. "
                f"Leave them out: make bundle BUNDLE_FLAGS='{flags}'"
            )
