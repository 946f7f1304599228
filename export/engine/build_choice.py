"""What a version of TensorRT is asked for each precision, decided by what its module has.

| version | fp32 | fp16 | int8, `qdq` | int8, `calibrator` |
|---|---|---|---|---|
| 8.6 | fp32 graphs | fp32 graphs, flag FP16 | int8 graphs, flags INT8 and FP16 | fp32 graphs, flags INT8 and FP16, a calibrator |
| 10 | fp32 graphs, strongly typed | fp16 graphs, strongly typed (with DLA as 8.6) | as 8.6 | as 8.6 |
| 11, RTX | as 10 | fp16 graphs, strongly typed | int8 graphs, with fp16 scales where there are such, strongly typed | not there |

Where flags decide, what leads from the last convolutions to the queries and to the decoder's outputs is held in float32 by hand, as it
is in the bundle's own fp16 graphs: a squared error of 1e-8 is nothing in float16. `OBEY_PRECISION_CONSTRAINTS` makes that binding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import GraphPair, Precision
from edge_runtime.errors import ConfigError

__all__ = ["CALIBRATORS", "BuildChoice", "EngineSettings", "choose", "hold_in_float32", "layers_behind", "network_flags"]

CALIBRATORS = {"calibrator": "entropy", "calibrator-minmax": "minmax"}
INT8_MODES = ("qdq", *CALIBRATORS)


@dataclass(frozen=True)
class EngineSettings:
    """What a person may ask of the builder.

    Attributes:
        streams: cameras that share one call; the largest batch of the engine.
        workspace_mb: memory that layers may use while they run.
        level: of optimisation, 0 (fast build) to 5 (fast engine).
        dla_core: of a Jetson's DLA to run on, the GPU where a layer cannot; None: the GPU alone.
        int8_mode: `qdq`: the bundle's Q/DQ graphs; `calibrator`, `calibrator-minmax`: TensorRT measures ranges itself (8.6 and 10).
        is_version_compatible: later versions of the same major version load the engine, which may be slower.
        is_hardware_compatible: it runs on every GPU from Ampere on, slower; not on a Jetson.
    """

    streams: int = 1
    workspace_mb: int = 1024
    level: int = 3
    dla_core: int | None = None
    int8_mode: str = "qdq"
    is_version_compatible: bool = False
    is_hardware_compatible: bool = False

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("--streams", self.streams, 1, 256),
            ("--workspace-mb", self.workspace_mb, 1, 2**20),
            ("--level", self.level, 0, 5),
            ("--dla", self.dla_core or 0, 0, 7),
        ):
            if not least <= value <= most:
                raise ConfigError(f"{name}: expected a whole number from {least} to {most}, got {value}.")
        if self.dla_core is not None and self.streams > 1:
            raise ConfigError(f"--dla: expected one stream, got {self.streams}: a DLA takes one batch size only. Leave --streams out.")
        if self.int8_mode not in INT8_MODES:
            raise ConfigError(f"--int8-mode: expected one of {', '.join(INT8_MODES)}, got '{self.int8_mode}'.")
        if self.int8_mode in CALIBRATORS and self.streams > 1:  # TensorRT would read as many from a buffer with one
            raise ConfigError(
                f"--int8-mode {self.int8_mode}: expected one stream, got {self.streams}: ranges are measured a stream at a time. "
                "Leave --streams out."
            )


@dataclass(frozen=True)
class BuildChoice:
    """How one precision is built.

    Attributes:
        graphs: precision of the bundle's graphs that are parsed.
        is_strongly_typed: their types decide, and nothing else does.
        flags: builder flags to set.
        needs_calibrator: ranges are measured during the build.
    """

    graphs: str
    is_strongly_typed: bool
    flags: tuple[Any, ...] = ()
    needs_calibrator: bool = False

    def graphs_of(self, bundle: Bundle) -> Precision | GraphPair:
        """The graphs to parse: of int8, strongly typed engines have a form of their own, where the bundle has it."""
        precision = bundle.precision(self.graphs)
        return (precision.strongly_typed if self.is_strongly_typed else None) or precision

    @property
    def holds_float32(self) -> bool:
        """Layers must be held in float32 by hand."""
        return bool(self.flags)


def choose(trt: Any, precision: str, settings: EngineSettings) -> BuildChoice:
    """Decide how to build a precision with this TensorRT.

    Raises:
        ConfigError: it cannot do what the settings ask for.
    """
    knows_types = hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    if settings.dla_core is not None and precision == "fp32":
        raise ConfigError("--dla: expected precision fp16 or int8, got fp32: a DLA has no other. Say PRECISION=fp16.")
    if precision == "int8" and settings.int8_mode in CALIBRATORS:
        if not hasattr(trt, "IInt8EntropyCalibrator2"):
            raise ConfigError(f"--int8-mode {settings.int8_mode}: expected TensorRT 8.6 or 10, this one has none. Say INT8_MODE=qdq.")
        flags = (trt.BuilderFlag.INT8, trt.BuilderFlag.FP16, trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        return BuildChoice("fp32", False, flags, needs_calibrator=True)
    if precision == "int8" and hasattr(trt.BuilderFlag, "INT8"):
        flags = (trt.BuilderFlag.INT8, trt.BuilderFlag.FP16, trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        return BuildChoice("int8", False, flags)
    if precision == "fp16" and hasattr(trt.BuilderFlag, "FP16") and (not knows_types or settings.dla_core is not None):
        return BuildChoice("fp32", False, (trt.BuilderFlag.FP16, trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS))
    return BuildChoice(precision, knows_types)


def network_flags(trt: Any, choice: BuildChoice) -> int:
    """The flags of `create_network`, as a bit mask."""
    if choice.is_strongly_typed:
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return 0


def hold_in_float32(trt: Any, network: Any, outputs: Iterable[str]) -> int:
    """Hold what computes some outputs from the last convolution on in float32; how many layers that are."""
    layers = layers_behind(trt, network, outputs)
    for layer in layers:
        layer.precision = trt.DataType.FLOAT
        for number in range(layer.num_outputs):
            layer.set_output_type(number, trt.DataType.FLOAT)
    return len(layers)


def layers_behind(trt: Any, network: Any, outputs: Iterable[str]) -> list[Any]:
    """The layers in float32 on the way back from some outputs of a network to its inputs or to the last convolutions."""
    heavy = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    makers = {layer.get_output(number).name: at for at, layer in enumerate(layers) for number in range(layer.num_outputs)}
    found: set[int] = set()
    ahead = [makers[name] for name in outputs if name in makers]
    while ahead:
        at = ahead.pop()
        layer = layers[at]
        if at in found or layer.type in heavy:
            continue
        found.add(at)
        tensors = [layer.get_input(number) for number in range(layer.num_inputs)]
        ahead += [makers[tensor.name] for tensor in tensors if tensor is not None and tensor.name in makers]
    return [layers[at] for at in sorted(found) if _is_float(trt, layers[at])]


def _is_float(trt: Any, layer: Any) -> bool:
    """Shapes and indices are whole numbers and stay so."""
    return all(layer.get_output(number).dtype == trt.DataType.FLOAT for number in range(layer.num_outputs))
