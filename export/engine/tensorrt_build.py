"""One ONNX graph to one plan, with whichever TensorRT there is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edge_runtime.bundle.manifest import TensorSpec
from edge_runtime.errors import BackendError, BackendUnavailable, ConfigError
from edge_runtime.files import remove_leftovers, unwritable, write_atomically
from edge_runtime.graphs.tensorrt_library import Library, TensorRtLog, open_log
from export.engine.build_choice import CALIBRATORS, BuildChoice, EngineSettings, hold_in_float32, network_flags
from export.engine.build_progress import BuildProgress, attach_progress
from export.engine.int8_calibrator import cache_name, calibrator
from export.engine.layer_report import layers_of_network

__all__ = ["BuildInput", "BuiltPlan", "build_plan"]

MIB = 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildInput:
    """A graph to build.

    Attributes:
        content: the ONNX file.
        origin: its path, for messages.
        inputs: as the manifest has them.
        float32_outputs: outputs that must be computed in float32 from the last convolution on.
        calibration: inputs by name, one mapping a batch; for a build that measures ranges.
    """

    content: bytes
    origin: str
    inputs: tuple[TensorSpec, ...]
    float32_outputs: tuple[str, ...]
    calibration: Sequence[Mapping[str, np.ndarray]] = ()


@dataclass(frozen=True)
class BuiltPlan:
    """A serialised engine.

    Attributes:
        layers: of the network as it was parsed, before the builder fused them.
        flags: names of the builder flags that were set.
        fp32_layers: how many layers were held in float32 by hand.
    """

    content: bytes
    layers: list[dict[str, Any]]
    flags: tuple[str, ...]
    fp32_layers: int
    seconds: float


def build_plan(library: Library, graph: BuildInput, choice: BuildChoice, settings: EngineSettings, timing_cache: Path | None) -> BuiltPlan:
    """Build an engine for one graph.

    Args:
        timing_cache: what earlier builds measured on this GPU; read, and written anew. None: none is kept.

    Raises:
        BackendUnavailable: TensorRT does not start, because there is no GPU.
        BackendError: it cannot parse or build the graph; the message has its reason.
        ConfigError: the settings do not fit the graph or the machine.
        SinkError: the timing cache cannot be written.
    """
    trt = library.trt
    started = perf_counter()
    logger, heard = open_log(trt)
    builder = _open_builder(library, logger, heard)
    network = builder.create_network(network_flags(trt, choice))
    _parse(library, network, logger, graph)
    config = builder.create_builder_config()
    _set_up(library, builder, config, choice, settings)
    profile = _add_profile(builder, network, config, graph, settings, heard)
    fp32_layers = hold_in_float32(trt, network, graph.float32_outputs) if choice.holds_float32 else 0
    with ExitStack() as stack:
        if choice.needs_calibrator:
            config.set_calibration_profile(profile)
            method = CALIBRATORS[settings.int8_mode]
            cached = (timing_cache or Path(graph.origin)).with_name(cache_name(graph.content, graph.calibration, method))
            config.int8_calibrator = stack.enter_context(calibrator(trt, graph.calibration, method, cached))
        cache = _open_timing_cache(config, timing_cache)
        progress = BuildProgress(Path(graph.origin).name)
        stack.callback(progress.close)
        monitor = attach_progress(trt, config, progress)
        plan = builder.build_serialized_network(network, config)
        del monitor
    if progress.is_interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise BackendError(f"{graph.origin}: {library.title} cannot build it: {heard.reason}. {_advice(heard.reason, settings)}")
    if cache is not None and timing_cache is not None:
        _keep_timings(config, timing_cache)
    flags = tuple(name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag))
    return BuiltPlan(bytes(plan), layers_of_network(network), flags, fp32_layers, perf_counter() - started)


def _open_builder(library: Library, logger: Any, heard: TensorRtLog) -> Any:
    try:
        return library.trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # the bindings' way to say that they were given no builder
        raise BackendUnavailable(
            f"{library.title}: expected a GPU that answers, got none ({heard.reason}). Look at edge-doctor; "
            "without a GPU TensorRT-RTX builds: --flavour tensorrt-rtx"
        ) from error


def _parse(library: Library, network: Any, logger: Any, graph: BuildInput) -> None:
    trt = library.trt
    parser = trt.OnnxParser(network, logger)
    if parser.parse(graph.content):
        return
    for number in range(parser.num_errors):
        error = parser.get_error(number)
        if error.node() >= 0:
            where = f"node {error.node()}"
            if hasattr(trt.ParserError, "node_operator"):
                where = f"operator '{error.node_operator()}' at node '{error.node_name()}'"
            raise BackendError(
                f"{graph.origin}: expected operators that {library.title} knows, got {where}: {error.desc().rstrip('.')}. "
                "Run the bundle with --backend onnxruntime, or export the model without that operator."
            )
    reason = parser.get_error(0).desc() if parser.num_errors else "no reason given"
    raise BackendError(
        f"{graph.origin}: expected an ONNX graph that {library.title} reads, got: {reason.rstrip('.')}. Make the bundle again."
    )


def _set_up(library: Library, builder: Any, config: Any, choice: BuildChoice, settings: EngineSettings) -> None:
    trt = library.trt
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mb * MIB)
    config.builder_optimization_level = settings.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for flag in choice.flags:
        config.set_flag(flag)
    if choice.graphs == "fp32" and not choice.flags:
        config.clear_flag(trt.BuilderFlag.TF32)  # it keeps ten bits: who wants fp32 wants its digits
    if settings.is_version_compatible or settings.is_hardware_compatible:
        _make_compatible(library, config, settings)
    if settings.dla_core is not None:
        _use_dla(library, builder, config, settings.dla_core)


def _make_compatible(library: Library, config: Any, settings: EngineSettings) -> None:
    trt = library.trt
    if library.flavour == "tensorrt-rtx":
        raise ConfigError(
            f"{library.title}: expected neither --version-compatible nor --hardware-compatible: its engines run on every GPU from "
            "Ampere on, and with no other version of it. Leave them out."
        )
    if settings.is_version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.is_hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _use_dla(library: Library, builder: Any, config: Any, core: int) -> None:
    trt = library.trt
    if not core < builder.num_DLA_cores:
        raise ConfigError(
            f"--dla {core}: expected a DLA that {library.title} can build for, it has {builder.num_DLA_cores} here. "
            "Orin and Xavier have one; Thor, and TensorRT 10.8 to 11.4.0, have none. Leave --dla out."
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _add_profile(builder: Any, network: Any, config: Any, graph: BuildInput, settings: EngineSettings, heard: TensorRtLog) -> Any:
    """Batches from 1 to the number of streams, fastest at that number."""
    largest = settings.streams
    profile = builder.create_optimization_profile()
    wanted = {tensor.name: tensor for tensor in graph.inputs}
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        spec = wanted.get(tensor.name)
        shape = tuple(tensor.shape)
        if spec is None or not _agree(shape, spec.shape):
            raise BackendError(
                f"{graph.origin}, input '{tensor.name}': expected {spec.shape if spec else 'no such input'} as the manifest says, "
                f"the graph has {shape}. Make the bundle again."
            )
        if shape[0] >= 0 and largest > shape[0]:
            raise ConfigError(
                f"{graph.origin}, input '{tensor.name}': expected a graph with an open batch axis for {largest} streams, "
                f"its batch is {shape[0]}. Say --streams {shape[0]}, or export with an open batch axis."
            )
        if shape[0] < 0:
            rest = shape[1:]
            profile.set_shape(tensor.name, (1, *rest), (largest, *rest), (largest, *rest))
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(f"{graph.origin}: batches from 1 to {largest} make no valid profile: {heard.reason}. Choose other --streams.")
    return profile


def _agree(found: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    """An open axis is −1 in TensorRT, a string in a manifest."""
    return tuple(-1 if isinstance(length, str) else length for length in wanted) == found


def _open_timing_cache(config: Any, path: Path | None) -> Any:
    """What was measured before; begun anew where it is another GPU's or version's."""
    if path is None:
        return None
    remove_leftovers(path)
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    if cache is None or not config.set_timing_cache(cache, False):  # None: what was there is no cache
        log.debug("%s: another GPU's or version's, begun anew", path)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _keep_timings(config: Any, path: Path) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    write_atomically(path, bytes(config.get_timing_cache().serialize()))


def _advice(reason: str, settings: EngineSettings) -> str:
    words = reason.lower()
    if "workspace" in words or "memory" in words:
        return f"Give it more: --workspace-mb {4 * settings.workspace_mb}"
    if "profile" in words or "dimension" in words or "shape" in words:
        return f"The graph may not take {settings.streams} streams in one call: try --streams 1"
    return "See all it said: --debug"
