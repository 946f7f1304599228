"""From a bundle's graphs to an engine in its folder: kept where it fits, built, checked on a GPU, written as a whole."""

from __future__ import annotations

import hashlib
import logging
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.engines import (
    ENGINES,
    PARTS,
    SHEET,
    SHEET_SCHEMA,
    BuiltGraph,
    Engine,
    EngineCheck,
    EngineMachine,
    EngineSheet,
    encode_sheet,
    engine_folder,
    find_engine,
    make_command,
)
from edge_runtime.bundle.manifest import FileSpec, GraphSpec, Verdict
from edge_runtime.devices.gpu import FoundGpu
from edge_runtime.devices.host import HostDevice
from edge_runtime.errors import BackendError, BackendUnavailable, EngineMismatch
from edge_runtime.files import remove_leftover_folders, replacing_folder
from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph
from edge_runtime.graphs.tensorrt import Plan, TensorRtGraph
from edge_runtime.graphs.tensorrt_library import Library
from edge_runtime.sources.address import redacted
from edge_runtime.stream import Arrays
from export.engine.build_choice import BuildChoice, EngineSettings, choose
from export.engine.check import SYNTHETIC_CLIPS, Halves, compare, decoder_inputs, describe, windows_of
from export.engine.device_memory import DeviceMemory
from export.engine.layer_report import layers_of_engine, write_report
from export.engine.runner import HostGraph
from export.engine.tensorrt_build import BuildInput, BuiltPlan, build_plan

__all__ = ["EngineBuild", "MadeEngine", "make_engine"]

AMPERE = 80

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineBuild:
    """What to build, with what.

    Attributes:
        gpu: of this machine; None: there is none, and the engine is not run.
        clips: normal footage for the check and for calibrating; None: the built-in scene.
        keeps_misfit: an engine whose check is past tolerance takes its place all the same.
    """

    bundle: Bundle
    precision: str
    library: Library
    gpu: FoundGpu | None
    settings: EngineSettings
    clips: str | None = None
    keeps_misfit: bool = False

    @property
    def machine(self) -> EngineMachine:
        return EngineMachine(self.library.version, self.gpu.sm if self.gpu else None, self.gpu.name if self.gpu else None)

    @property
    def is_portable(self) -> bool:
        """TensorRT-RTX compiles the last step on the GPU it finds; TensorRT does so where it is asked to."""
        return self.library.flavour == "tensorrt-rtx" or self.settings.is_hardware_compatible

    @property
    def sm(self) -> int:
        """The compute capability that the engine is built for.

        Raises:
            BackendUnavailable: there is no GPU to build for, or it is too old.
        """
        if self.is_portable and (self.gpu is None or self.gpu.sm >= AMPERE):
            return AMPERE
        if self.is_portable:
            raise BackendUnavailable(
                f"{self.library.title}: expected a GPU from sm_{AMPERE} on, got {self.gpu}. Leave out what asks for it."
            )
        if self.gpu is None:
            raise BackendUnavailable(
                f"{self.library.title}: expected an NVIDIA GPU that answers, got none. Look at edge-doctor; "
                "without a GPU TensorRT-RTX builds: --flavour tensorrt-rtx"
            )
        return self.gpu.sm


@dataclass(frozen=True)
class MadeEngine:
    """An engine that is in its place, and whether it was there before."""

    engine: Engine
    was_kept: bool


def make_engine(build: EngineBuild, *, rebuild: bool) -> MadeEngine:
    """Keep the engine that fits, or build one and put it in its place as a whole.

    Raises:
        EngineMismatch: there is one that does not fit, and `rebuild` is off.
        IntegrityError: a graph is not what the manifest says, also where its engine could be kept.
        BackendError: int8 without a good verdict; the graphs cannot be built, or the engine is past tolerance; what was there stays.
        SinkError: it cannot be written.
    """
    _check_verdict(build)
    folder = engine_folder(build.bundle, build.library.flavour, build.library.version, build.sm, build.precision)
    remove_leftover_folders(folder.parent)
    if not rebuild:
        found = find_engine(build.bundle, build.library.flavour, build.precision, build.machine)
        if found is not None:
            for graph in (found.sheet.encoder, found.sheet.decoder):
                build.bundle.read(graph.onnx)
            _check_settings(build, found)
            return MadeEngine(found, was_kept=True)
    choice = choose(build.library.trt, build.precision, build.settings)
    parts = _build_parts(build, choice)
    check = _check(build, choice, parts)
    with replacing_folder(folder) as draft:
        sheet = _write(build, choice, parts, check, draft)
    return MadeEngine(Engine(folder, sheet), was_kept=False)


def _check_verdict(build: EngineBuild) -> None:
    """Refuse int8 graphs that nobody has judged, or that were judged to be too far from float.

    Raises:
        BackendError: there is no verdict, or not a good one, and it is not forced.
    """
    if build.precision != "int8" or build.settings.int8_mode != "qdq" or build.keeps_misfit:
        return
    verdict = build.bundle.precision("int8").verdict
    if isinstance(verdict, Verdict) and verdict.passed:
        return
    why = "it failed" if isinstance(verdict, Verdict) else "there is none"
    raise BackendError(
        f"{build.bundle.path}: expected a verdict that int8 may be used, {why}. Judge it: "
        f"edge-report precision --bundle {build.bundle.path} --data … --store --out runs/precision. To build it all the same: FORCE=1"
    )


def _check_settings(build: EngineBuild, engine: Engine) -> None:
    wanted, built = asdict(build.settings), engine.sheet.settings
    others = [f"{name} {built.get(name)!r} instead of {value!r}" for name, value in wanted.items() if built.get(name) != value]
    if others:
        raise EngineMismatch(
            f"{engine.folder}: engine was built with {', '.join(others)}. "
            f"Rebuild it with the flags you gave: {make_command(build.bundle, build.precision, rebuild=True)}"
        )


def _build_parts(build: EngineBuild, choice: BuildChoice) -> list[BuiltPlan]:
    bundle, graphs = build.bundle, choice.graphs_of(build.bundle)
    timing_cache = None
    if build.library.flavour == "tensorrt":  # TensorRT-RTX has none
        timing_cache = bundle.path / ENGINES / f"tensorrt-{build.library.version}-sm{build.sm}.timing"
    float32_outputs = (
        tuple(dict.fromkeys(pool.query for pool in bundle.manifest.pools)),
        tuple(tensor.name for tensor in graphs.decoder.outputs),
    )
    calibration = _calibration_inputs(build) if choice.needs_calibrator else ((), ())
    plans = []
    for spec, outputs, batches in zip((graphs.encoder, graphs.decoder), float32_outputs, calibration, strict=True):
        graph = BuildInput(bundle.read(spec), str(bundle.path / spec.file), spec.inputs, outputs, batches)
        plans.append(build_plan(build.library, graph, choice, build.settings, timing_cache))
    return plans


def _calibration_inputs(build: EngineBuild) -> tuple[list[Arrays], list[Arrays]]:
    """What encoder and decoder are given on the clips, from the graphs in float32."""
    graphs = build.bundle.precision("fp32")
    encoder, decoder = OnnxRuntimeGraph(build.bundle, graphs.encoder), OnnxRuntimeGraph(build.bundle, graphs.decoder)
    bank = HostDevice().open_stream(build.bundle, "calibration", smoothing_frames=1).bank
    windows = windows_of(build.bundle, build.clips)
    given = []
    for window in windows:
        given.append(decoder_inputs(encoder, window, bank))
        bank.update(given[-1], decoder.run(given[-1]))  # as at the edge: the next one reads a memory that has moved
    return windows, given


def _check(build: EngineBuild, choice: BuildChoice, plans: list[BuiltPlan]) -> EngineCheck:
    """Hold the new engine against the ONNX graphs.

    Raises:
        BackendError: it is past tolerance.
    """
    if build.gpu is None:
        return EngineCheck(was_run=False, why_not="it was built on a machine without an NVIDIA GPU that answers")
    bundle = build.bundle
    # What int8 does to the scores is the verdict's business; the engine has to do what the int8 graphs do.
    yardstick = choice.graphs if choice.graphs == "int8" or "fp32" not in bundle.manifest.precisions else "fp32"
    reference, built = bundle.precision(yardstick), choice.graphs_of(bundle)
    in_onnx = Halves(OnnxRuntimeGraph(bundle, reference.encoder), OnnxRuntimeGraph(bundle, reference.decoder))
    with DeviceMemory() as memory:
        sources = [_as_plan(build, part, plan, spec) for part, plan, spec in zip(PARTS, plans, (built.encoder, built.decoder), strict=True)]
        halves = Halves(*(HostGraph(TensorRtGraph(build.library, plan, memory), plan.spec, memory) for plan in sources))
        check = compare(bundle, build.precision, in_onnx, halves, windows_of(bundle, build.clips))
        del halves  # engines go before the memory they run in
    check = replace(check, yardstick=yardstick, clips=redacted(build.clips or SYNTHETIC_CLIPS))
    if not check.is_within_tolerance and not build.keeps_misfit:
        raise BackendError(
            f"{bundle.path}: {build.precision} engine is past tolerance: {describe(check, build.precision)}. What was there stays. "
            f"Another precision may do: {make_command(bundle, 'fp32')}; to keep it all the same: FORCE=1"
        )
    return check


def _as_plan(build: EngineBuild, part: str, plan: BuiltPlan, spec: GraphSpec) -> Plan:
    settings = build.settings
    origin, remedy = f"{build.bundle.path}: {part}.plan, just built", "See all that TensorRT said: --debug"
    return Plan(plan.content, spec, origin, remedy, settings.is_version_compatible, settings.dla_core)


def _write(build: EngineBuild, choice: BuildChoice, plans: list[BuiltPlan], check: EngineCheck, draft: Path) -> EngineSheet:
    graphs = choice.graphs_of(build.bundle)
    built = []
    for part, spec, plan in zip(PARTS, (graphs.encoder, graphs.decoder), plans, strict=True):
        (draft / f"{part}.plan").write_bytes(plan.content)
        report = _layer_report(build, plan)
        (draft / f"{part}.layers.json").write_bytes(report)
        built.append(_built_graph(spec, plan, report))
    sheet = EngineSheet(
        schema=SHEET_SCHEMA,
        flavour=build.library.flavour,
        version=build.library.version,
        sm=build.sm,
        gpu=build.gpu.name if build.gpu else None,
        precision=build.precision,
        is_portable=build.is_portable,
        is_version_compatible=build.settings.is_version_compatible,
        settings=asdict(build.settings),
        encoder=built[0],
        decoder=built[1],
        check=check,
        host={"name": platform.node(), "machine": platform.machine(), "system": platform.platform(), "python": platform.python_version()},
    )
    (draft / SHEET).write_bytes(encode_sheet(sheet))
    return sheet


def _layer_report(build: EngineBuild, plan: BuiltPlan) -> bytes:
    fused = layers_of_engine(build.library, plan.content) if build.gpu else None
    return write_report("network", plan.layers) if fused is None else write_report("engine", fused)


def _built_graph(spec: GraphSpec, plan: BuiltPlan, report: bytes) -> BuiltGraph:
    return BuiltGraph(
        onnx=FileSpec(spec.file, spec.sha256),
        plan=hashlib.sha256(plan.content).hexdigest(),
        plan_bytes=len(plan.content),
        layers=hashlib.sha256(report).hexdigest(),
        flags=plan.flags,
        fp32_layers=plan.fp32_layers,
        seconds=round(plan.seconds, 3),
    )
