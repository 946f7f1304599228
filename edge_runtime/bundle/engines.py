"""Engines: what a device builds from a bundle's graphs, and whether one still fits the bundle and the machine.

They lie in `engines/<flavour>-<version>-sm<NN>-<precision>/`: plain plans, which NVIDIA's own tools load too, and `engine.json`.
The format is specified in docs/bundle-format.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import FileSpec
from edge_runtime.errors import EngineMismatch

__all__ = [
    "ENGINES",
    "FLAVOURS",
    "PARTS",
    "SHEET",
    "SHEET_SCHEMA",
    "BuiltGraph",
    "Difference",
    "Engine",
    "EngineCheck",
    "EngineMachine",
    "EngineSheet",
    "encode_sheet",
    "engine_folder",
    "engines_there",
    "find_engine",
    "make_command",
]

ENGINES = "engines"
SHEET = "engine.json"
SHEET_SCHEMA = 1
PARTS = ("encoder", "decoder")
FLAVOURS = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
NAME = re.compile(r"(?P<flavour>tensorrt(?:-rtx)?)-(?P<version>\d[^-]*)-sm(?P<sm>\d+)-(?P<precision>[^-]+)")


@dataclass(frozen=True)
class EngineMachine:
    """What an engine must fit.

    Attributes:
        version: of the library, such as `10.3.0`.
        sm: compute capability of the GPU times ten, such as 87; None where there is no GPU.
        gpu: its name; None where there is no GPU.
    """

    version: str
    sm: int | None
    gpu: str | None


@dataclass(frozen=True)
class BuiltGraph:
    """One plan and what it was built from.

    Attributes:
        onnx: the graph, as the manifest names it. Inputs and outputs of the plan are this graph's.
        plan, layers: SHA-256 of `<part>.plan` and of the layer report `<part>.layers.json`, which lie beside the sheet.
        plan_bytes: length of the plan.
        flags: TensorRT's builder flags that were set.
        fp32_layers: layers that were held in float32 by hand; 0 where the graph's own types decide.
        seconds: that the build took.
    """

    onnx: FileSpec
    plan: str
    plan_bytes: int
    layers: str
    flags: tuple[str, ...]
    fp32_layers: int
    seconds: float


@dataclass(frozen=True)
class Difference:
    """Largest and mean absolute difference of a tensor."""

    largest: float
    mean: float


@dataclass(frozen=True)
class EngineCheck:
    """How an engine compares with the ONNX graphs, on clips; or why it was not run.

    Attributes:
        was_run: the engine was executed.
        why_not: where it was not.
        yardstick: precision of the ONNX graphs it was held against.
        clips: where the clips came from.
        windows: how many were compared.
        differences: by tensor, of the decoder's outputs.
        psnr_change_db: largest absolute change of `psnr_db`.
        rank_correlation: Spearman's, of `local_error` over the windows; None where it is the same in all of them.
        is_within_tolerance: all that is held is within the precision's tolerance.
    """

    was_run: bool
    why_not: str | None = None
    yardstick: str | None = None
    clips: str | None = None
    windows: int = 0
    differences: dict[str, Difference] = field(default_factory=dict)
    psnr_change_db: float | None = None
    rank_correlation: float | None = None
    is_within_tolerance: bool | None = None


@dataclass(frozen=True)
class EngineSheet:
    """`engine.json`, key by key.

    Attributes:
        flavour: a key of `FLAVOURS`.
        version: of the library that built it.
        sm: compute capability times ten that it was built for.
        gpu: name of the GPU it was built on; None where it was built without one.
        is_portable: it runs on GPUs of `sm` and newer, not on `sm` alone.
        is_version_compatible: later versions of the same major version load it, too.
        settings: what was asked of the builder.
        host: where it was built, for people.
    """

    schema: int
    flavour: str
    version: str
    sm: int
    gpu: str | None
    precision: str
    is_portable: bool
    is_version_compatible: bool
    settings: dict[str, Any]
    encoder: BuiltGraph
    decoder: BuiltGraph
    check: EngineCheck
    host: dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """An engine on disk that fits its bundle."""

    folder: Path
    sheet: EngineSheet


def engine_folder(bundle: Bundle, flavour: str, version: str, sm: int, precision: str) -> Path:
    """Where an engine belongs."""
    return bundle.path / ENGINES / f"{flavour}-{version}-sm{sm}-{precision}"


def make_command(bundle: Bundle, precision: str, *, rebuild: bool = False) -> str:
    """The command that builds an engine, as a shell takes it."""
    return f"make engine BUNDLE={shlex.quote(str(bundle.path))} PRECISION={precision}{' REBUILD=1' if rebuild else ''}"


def encode_sheet(sheet: EngineSheet) -> bytes:
    """The bytes of `engine.json`."""
    return msgspec.json.format(msgspec.json.encode(sheet), indent=2) + b"\n"


def engines_there(bundle: Bundle, flavour: str | None = None) -> list[str]:
    """Names of the engines in a bundle, of one flavour or of all, whether they fit or not."""
    try:
        names = sorted(path.name for path in (bundle.path / ENGINES).iterdir())
    except OSError:
        return []
    return [name for name in names if (match := NAME.fullmatch(name)) and flavour in (None, match["flavour"])]


def find_engine(bundle: Bundle, flavour: str, precision: str, machine: EngineMachine | None = None) -> Engine | None:
    """An engine of a bundle that fits it and the machine; None where nothing of that flavour and precision was built.

    Args:
        machine: None: any machine, only the files are held against the bundle.

    Raises:
        EngineMismatch: there is one, but it was built from another graph, by another version or for another GPU, or is damaged.
    """
    misfits = []
    for folder in _folders(bundle, flavour, precision, machine):
        try:
            engine = Engine(folder, _read_sheet(bundle, folder, precision))
            if machine is not None:
                _check_machine(bundle, engine, machine)
            _check_graphs(bundle, engine)
            return engine
        except EngineMismatch as misfit:
            misfits.append(misfit)
    if misfits:
        raise misfits[0]
    return None


def _folders(bundle: Bundle, flavour: str, precision: str, machine: EngineMachine | None) -> Iterator[Path]:
    """The one that is named for the machine first, then the others."""
    named = [match for name in engines_there(bundle, flavour) if (match := NAME.fullmatch(name)) and match["precision"] == precision]
    ours = (machine.version, str(machine.sm)) if machine else None
    return (bundle.path / ENGINES / match[0] for match in sorted(named, key=lambda match: match.group("version", "sm") != ours))


def _read_sheet(bundle: Bundle, folder: Path, precision: str) -> EngineSheet:
    path = folder / SHEET
    remedy = f"Rebuild it: {make_command(bundle, precision, rebuild=True)}"
    try:
        values = json.loads(path.read_bytes())
        schema = values["schema"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EngineMismatch(f"{path}: expected the sheet of an engine, got '{error}'. {remedy}") from error
    if schema != SHEET_SCHEMA:
        raise EngineMismatch(f"{path}: expected schema {SHEET_SCHEMA}, got {schema!r}. {remedy}")
    try:
        sheet = msgspec.convert(values, EngineSheet)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        raise EngineMismatch(f"{path}: expected every key with its type, got: {error}. {remedy}") from error
    named = f"{sheet.flavour}-{sheet.version}-sm{sheet.sm}-{sheet.precision}"
    if folder.name != named:
        raise EngineMismatch(f"{folder}: expected the engine of that name, its sheet is of {named}. {remedy}")
    return sheet


def _check_machine(bundle: Bundle, engine: Engine, machine: EngineMachine) -> None:
    sheet = engine.sheet
    built = f"engine was built by {FLAVOURS[sheet.flavour]} {sheet.version} for {_gpu(sheet.sm, sheet.gpu, sheet.is_portable)}"
    here = f"this is {machine.version} on {_gpu(machine.sm, machine.gpu, False)}"
    if not (_fits_version(sheet, machine.version) and _fits_gpu(sheet, machine)):
        raise EngineMismatch(
            f"{bundle.path}: {sheet.precision} {built}, {here}. Rebuild it: {make_command(bundle, sheet.precision, rebuild=True)}"
        )


def _fits_version(sheet: EngineSheet, version: str) -> bool:
    if not sheet.is_version_compatible:
        return sheet.version == version
    built, here = _numbers(sheet.version), _numbers(version)
    return built[:1] == here[:1] and built <= here


def _fits_gpu(sheet: EngineSheet, machine: EngineMachine) -> bool:
    if machine.sm is None:
        return sheet.gpu is None or sheet.is_portable
    if sheet.is_portable:
        return machine.sm >= sheet.sm
    return machine.sm == sheet.sm and sheet.gpu in (None, machine.gpu)


def _gpu(sm: int | None, name: str | None, is_portable: bool) -> str:
    if sm is None:
        return "a machine without GPU"
    return f"sm_{sm}{' and newer' if is_portable else ''}{f' ({name})' if name and not is_portable else ''}"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _check_graphs(bundle: Bundle, engine: Engine) -> None:
    """The graphs are those of the manifest, the plans those of the sheet."""
    remedy = f"Rebuild it: {make_command(bundle, engine.sheet.precision, rebuild=True)}"
    graphs = {
        graph.file: graph.sha256 for precision in bundle.manifest.precisions.values() for graph in (precision.encoder, precision.decoder)
    }
    for part, built in zip(PARTS, (engine.sheet.encoder, engine.sheet.decoder), strict=True):
        wanted = graphs.get(built.onnx.file)
        if wanted != built.onnx.sha256:
            has = "has no such graph" if wanted is None else f"now has {wanted[:12]}…"
            raise EngineMismatch(
                f"{engine.folder}: {part}.plan was built from {built.onnx.file} {built.onnx.sha256[:12]}…, the bundle {has}. {remedy}"
            )
        path = engine.folder / f"{part}.plan"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise EngineMismatch(f"{path}: expected a plan, got '{error.strerror}'. {remedy}") from error
        if len(content) != built.plan_bytes:
            raise EngineMismatch(f"{path}: expected {built.plan_bytes} bytes, got {len(content)}: it is truncated or another's. {remedy}")
        if hashlib.sha256(content).hexdigest() != built.plan:
            raise EngineMismatch(f"{path}: expected the plan that {SHEET} describes, its SHA-256 is another. {remedy}")
