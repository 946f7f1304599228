"""Does the exported model say what the trained one says?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import FastGraphs, Precision
from edge_runtime.errors import BundleError
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from export.split import scores
from train import memory
from train.models import Mnad

__all__ = ["TOLERANCES", "check_parity", "parity"]

TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2}
"""Largest allowed difference: in fp32 of the prediction and every score, in fp16 of the prediction, in [−1, 1]."""


@torch.inference_mode()
def parity(
    bundle: Bundle, graphs: Precision | FastGraphs, model: Mnad, items: Tensor | None, windows: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """Largest absolute difference between the exported graphs and the PyTorch model in float32, by tensor.

    Both take the same reads, those of the model's own queries, so that only the graphs are compared.

    Args:
        graphs: of the bundle.
        model: as trained, in eval mode.
        items: (M, D), or None for the model without memory.
        windows: clip (1, T, C, h, w) and target (1, C, h, w).
    """
    encoder, decoder = OnnxRuntimeGraph(bundle, graphs.encoder), OnnxRuntimeGraph(bundle, graphs.decoder)
    largest: dict[str, float] = {}
    for clip, target in windows:
        wanted = dict(model.encoder(clip))
        mixed = None if items is None else memory.read(wanted["query"], items)
        prediction = model.decoder(wanted["query"], mixed, *(wanted[f"skip_{i}"] for i in (1, 2, 3)))
        names = ("error_map", "score/psnr_db", "score/regular_score", "score/local_error")
        wanted |= {"prediction": prediction, **dict(zip(names, scores(prediction, target), strict=True))}
        got = dict(encoder.run({"clip": clip.numpy()}))
        reads = {} if mixed is None else {"read": mixed.numpy()}
        got |= decoder.run({**got, **reads, "target": target.numpy()})
        for name in got:
            difference = float(np.abs(wanted[name].numpy() - got[name].astype(np.float32)).max())
            largest[name] = float(np.maximum(largest.get(name, 0.0), difference))  # a NaN stays one
    return largest


def check_parity(differences: dict[str, float], precision: str, *, is_fast: bool = False) -> None:
    """Raises:
    BundleError: a tensor is further off than the precision's tolerance.
    """
    allowed = TOLERANCES[precision]
    graphs, flags = (f"fast {precision}", "--no-fast-graphs") if is_fast else (precision, "--precisions fp32")
    held = [name for name in differences if name == "prediction" or (precision == "fp32" and name.startswith("score/"))]
    for name in held:
        if not differences[name] <= allowed:
            raise BundleError(
                f"{graphs} graphs: expected '{name}' within {allowed} of the PyTorch model, got {differences[name]:.3g}. "
                f"Leave them out: make bundle BUNDLE_FLAGS='{flags}'"
            )
