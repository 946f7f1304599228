"""The layers of an engine, for people who wonder what became of theirs."""

from __future__ import annotations

import json
from typing import Any

from edge_runtime.graphs.tensorrt_library import Library, open_log

__all__ = ["layers_of_engine", "layers_of_network", "write_report"]


def layers_of_network(network: Any) -> list[dict[str, Any]]:
    """Name, kind and outputs of every layer as it was parsed; the builder fuses them later."""
    layers = (network.get_layer(number) for number in range(network.num_layers))
    return [{"name": layer.name, "kind": layer.type.name, "outputs": _outputs(layer)} for layer in layers]


def layers_of_engine(library: Library, plan: bytes) -> list[Any] | None:
    """What TensorRT's inspector says of the built engine; None where the plan does not load here (no GPU)."""
    trt = library.trt
    logger, _ = open_log(trt)
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = True  # it was built a moment ago, by this process
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    report = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    layers: list[Any] = report["Layers"]
    return layers


def write_report(origin: str, layers: list[Any]) -> bytes:
    """`<part>.layers.json`, a line a layer; `from` is `engine` (fused, as it runs) or `network` (as it was parsed)."""
    lines = ",\n  ".join(map(json.dumps, layers))
    return f'{{\n "from": "{origin}",\n "layers": [\n  {lines}\n ]\n}}\n'.encode()


def _outputs(layer: Any) -> list[dict[str, Any]]:
    tensors = (layer.get_output(number) for number in range(layer.num_outputs))
    return [{"name": tensor.name, "dtype": tensor.dtype.name, "shape": list(tensor.shape)} for tensor in tensors]
