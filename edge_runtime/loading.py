"""What runs a bundle's graphs, and on which device: the best that works, or what was named and nothing else."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.engines import FLAVOURS, PARTS, Engine, EngineMachine, engines_there, find_engine, make_command
from edge_runtime.bundle.manifest import FastGraphs, GraphSpec, Precision
from edge_runtime.devices.gpu import FoundGpu, find_gpu
from edge_runtime.errors import BackendError, BackendUnavailable, BundleError, EngineMismatch
from edge_runtime.stream import Device, Graph

if TYPE_CHECKING:
    from edge_runtime.devices.cuda.device import CudaDevice
    from edge_runtime.graphs.tensorrt import Plan

__all__ = ["BACKENDS", "DEVICES", "Loaded", "cpu_graphs", "load"]

BACKENDS = ("auto", "onnxruntime", *FLAVOURS)
DEVICES = ("auto", "cpu", "cuda")

WAYS = (("tensorrt", "cuda"), ("tensorrt-rtx", "cuda"), ("onnxruntime", "cuda"), ("onnxruntime", "cpu"))
"""Backend and device, the best first."""

ON_GPU, ON_CPU = ("fp16", "fp32"), ("fp32", "fp16")
"""Precisions that `auto` takes, the best first. int8 has to be named."""

X86_64 = ("x86_64", "amd64")
"""Names of the processors that take a bundle's fast graphs."""

log = logging.getLogger(__name__)


class _DeviceUnavailable(BackendUnavailable):
    """A GPU is there, and what runs graphs on it, but the device does not open."""


@dataclass(frozen=True)
class Loaded:
    """A bundle's graphs, ready to run.

    Attributes:
        precision, backend: none of them `auto`.
        largest_batch: streams that the graphs take in one call; None: any number.
        are_fast: they are the fast form of the precision's graphs.
    """

    precision: str
    backend: str
    encoder: Graph
    decoder: Graph
    device: Device
    largest_batch: int | None
    are_fast: bool = False


def load(bundle: Bundle, *, precision: str = "auto", backend: str = "auto", device: str = "auto", threads: int | None = None) -> Loaded:
    """Load both graphs of a bundle on a device.

    What `auto` passed over is logged: as a warning where something is there and does not work, such as an engine for another GPU, or a
    GPU for which the kernels do not compile.

    Args:
        precision: `auto`, or one that the bundle has.
        backend, device: of `BACKENDS` and `DEVICES`.
        threads: for each graph on the CPU; None: one a core.

    Raises:
        BundleError: the bundle lacks the precision or an engine, or a file of it is damaged.
        EngineMismatch: its engine was built for another machine or from other graphs.
        BackendUnavailable: a library or device is missing.
        BackendError: an engine does not start.
    """
    for kind, name, known in (("backend", backend, BACKENDS), ("device", device, DEVICES)):
        if name not in known:
            raise BackendUnavailable(f"{kind}: expected one of {', '.join(known)}, got '{name}'. This release has no other.")
    if precision != "auto":
        bundle.precision(precision)
    gpu = find_gpu() if device != "cpu" else None
    ways = _ways(bundle, backend, device, gpu)
    passed_over: list[BackendError | BundleError] = []
    if gpu is not None and backend == "auto" and not engines_there(bundle):
        passed_over.append(_no_engine(bundle, "tensorrt", precision))
    for way in ways:
        try:
            loaded = _load(bundle, *way, precision, gpu, threads)
        except (BackendError, BundleError) as error:
            passed_over.append(error)
        else:
            _tell(bundle, loaded, passed_over)
            return loaded
    if len(passed_over) == 1:
        raise passed_over[0]
    raise type(passed_over[-1])(" ".join(dict.fromkeys(map(str, passed_over)))) from passed_over[-1]


def cpu_graphs(precision: Precision) -> Precision | FastGraphs:
    """Those that run on this machine's CPU: the fast ones, where it is of a kind on which they were measured to be faster."""
    return precision.fast if precision.fast is not None and platform.machine().lower() in X86_64 else precision


def _ways(bundle: Bundle, backend: str, device: str, gpu: FoundGpu | None) -> list[tuple[str, str]]:
    """Backends and devices that may do, the best first; none of those where no engine is there, unless it was named."""
    wanted = [way for way in WAYS if backend in ("auto", way[0]) and device in ("auto", way[1])]
    if not wanted:
        raise BackendUnavailable(f"{FLAVOURS[backend]}: expected --device cuda or auto, got {device}: a GPU runs it. Leave one out.")
    ways = [way for way in wanted if gpu is not None or way[1] == "cpu"]
    if not ways:
        raise BackendUnavailable(
            f"--backend {backend} --device {device}: expected an NVIDIA GPU that answers, got none. Look at edge-doctor; "
            "without a GPU: --backend onnxruntime --device cpu"
        )
    return [way for way in ways if way[0] in (backend, "onnxruntime") or engines_there(bundle, way[0])]


def _load(bundle: Bundle, backend: str, device: str, precision: str, gpu: FoundGpu | None, threads: int | None) -> Loaded:
    if device == "cpu":
        return _load_on_cpu(bundle, precision, threads)
    if backend == "onnxruntime":
        return _load_on_gpu(bundle, precision)
    assert gpu is not None
    return _load_engine(bundle, backend, precision, gpu)


def _load_on_cpu(bundle: Bundle, precision: str, threads: int | None) -> Loaded:
    from edge_runtime.devices.host import HostDevice
    from edge_runtime.graphs.onnxruntime import OnnxRuntimeGraph

    precision = _chosen(bundle, precision, ON_CPU)
    plain = bundle.precision(precision)
    graphs = cpu_graphs(plain)

    def loaded(graphs: Precision | FastGraphs) -> Loaded:
        specs = (graphs.encoder, graphs.decoder)
        encoder, decoder = (OnnxRuntimeGraph(bundle, spec, threads=threads) for spec in specs)
        return Loaded(precision, "onnxruntime", encoder, decoder, HostDevice(), _largest_batch(specs), are_fast=graphs is not plain)

    if graphs is plain:
        return loaded(plain)
    try:
        return loaded(graphs)
    except BundleError as error:
        log.warning("%s Until then its plain graphs run: the same scores, more slowly.", error)
        return loaded(plain)


def _load_on_gpu(bundle: Bundle, precision: str) -> Loaded:
    from edge_runtime.graphs.onnxruntime_cuda import OnnxRuntimeCudaGraph, load_cuda_provider

    precision = _chosen(bundle, precision, ON_GPU)
    specs = _specs(bundle, precision)
    library = load_cuda_provider()  # before the device, which takes memory and time
    with _opening_cuda() as device:
        encoder, decoder = (OnnxRuntimeCudaGraph(library, bundle, spec, device) for spec in specs)
        return Loaded(precision, "onnxruntime", encoder, decoder, device, _largest_batch(specs))


def _load_engine(bundle: Bundle, flavour: str, precision: str, gpu: FoundGpu) -> Loaded:
    from edge_runtime.graphs.tensorrt import ALIGNMENT, TensorRtGraph
    from edge_runtime.graphs.tensorrt_library import load_flavour

    spec = bundle.manifest.input
    if 4 * spec.channels * spec.height * spec.width % ALIGNMENT:  # the window begins at any frame of the ring
        raise BackendUnavailable(
            f"{bundle.path}: expected frames of a multiple of {ALIGNMENT // 4} numbers, as TensorRT's addresses need, "
            f"got {spec.channels} x {spec.height} x {spec.width}. Use --backend onnxruntime, or train at another size."
        )
    library = load_flavour(flavour)
    engine = _fitting_engine(bundle, flavour, precision, EngineMachine(library.version, gpu.sm, gpu.name))
    plans = [_plan(bundle, engine, part) for part in PARTS]
    with _opening_cuda() as device:
        encoder, decoder = (TensorRtGraph(library, plan, device) for plan in plans)
        largest_batch = min(encoder.largest_batch, decoder.largest_batch)
        return Loaded(engine.sheet.precision, flavour, encoder, decoder, device, largest_batch)


def _fitting_engine(bundle: Bundle, flavour: str, precision: str, machine: EngineMachine) -> Engine:
    """Of the precision that was named; else of the best that has one."""
    wanted = [name for name in ON_GPU if name in bundle.manifest.precisions] if precision == "auto" else [precision]
    misfits = []
    for name in wanted:
        try:
            engine = find_engine(bundle, flavour, name, machine)
        except EngineMismatch as misfit:
            misfits.append(misfit)
            continue
        if engine is not None:
            for passed_over in misfits:
                log.warning("%s", passed_over)
            return engine
    raise misfits[0] if misfits else _no_engine(bundle, flavour, precision)


def _no_engine(bundle: Bundle, flavour: str, precision: str) -> BundleError:
    there = ", ".join(engines_there(bundle)) or "none"
    command = make_command(bundle, _chosen(bundle, precision, ON_GPU))
    return BundleError(
        f"{bundle.path}: expected an engine for --backend {flavour} --precision {precision}, the bundle has {there}. "
        f"Build one on the machine that runs it: {command}"
    )


def _plan(bundle: Bundle, engine: Engine, part: str) -> Plan:
    """A plan as it was verified, and the graph that it was built from, which may be of another precision."""
    from edge_runtime.graphs.tensorrt import Plan

    sheet = engine.sheet
    file = {"encoder": sheet.encoder, "decoder": sheet.decoder}[part].onnx.file
    [spec, *_] = (spec for name in bundle.manifest.precisions for spec in _plan_specs(bundle, name) if spec.file == file)
    path = engine.folder / f"{part}.plan"
    remedy = f"Rebuild it: {make_command(bundle, sheet.precision, rebuild=True)}"
    return Plan(path.read_bytes(), spec, str(path), remedy, sheet.is_version_compatible, sheet.settings.get("dla_core"))


@contextmanager
def _opening_cuda() -> Iterator[CudaDevice]:
    """The CUDA device, to load graphs on; it is closed where they do not load."""
    from edge_runtime.devices.cuda.device import CudaDevice

    try:
        device = CudaDevice()
    except BackendUnavailable as error:
        raise _DeviceUnavailable(str(error)) from error
    try:
        yield device
    except BaseException:
        device.close()
        raise


def _chosen(bundle: Bundle, precision: str, order: tuple[str, ...]) -> str:
    has = bundle.manifest.precisions
    return next((name for name in order if name in has), next(iter(has))) if precision == "auto" else precision


def _specs(bundle: Bundle, precision: str) -> tuple[GraphSpec, GraphSpec]:
    graphs = bundle.precision(precision)
    return graphs.encoder, graphs.decoder


def _plan_specs(bundle: Bundle, precision: str) -> tuple[GraphSpec, ...]:
    """What engines are built from."""
    typed = bundle.precision(precision).strongly_typed
    return (*_specs(bundle, precision), *((typed.encoder, typed.decoder) if typed else ()))


def _largest_batch(specs: tuple[GraphSpec, ...]) -> int | None:
    """What graphs whose batch axis is not open take in one call."""
    batches = [tensor.shape[0] for spec in specs for tensor in spec.inputs]
    return min((batch for batch in batches if isinstance(batch, int)), default=None)


def _tell(bundle: Bundle, loaded: Loaded, passed_over: list[BackendError | BundleError]) -> None:
    broken = [error for error in passed_over if isinstance(error, EngineMismatch | _DeviceUnavailable) or type(error) is BackendError]
    for reason in dict.fromkeys(map(str, broken)):
        log.warning("%s", reason)
    missing = dict.fromkeys(str(error) for error in passed_over if error not in broken)
    took = f"{bundle.manifest.name}: {loaded.precision} graphs in {loaded.backend} on {loaded.device.name}"
    log.log(logging.INFO if passed_over else logging.DEBUG, "%s", " ".join([f"{took}.", *missing]))
