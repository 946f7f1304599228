"""int8 graphs of a bundle: windows, ranges, which nodes, both forms, scale and threshold; and only then put in place."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calibration.clips import NormalClip, check_clips, read_frames
from calibration.int8.graphs import convolutions, float_weights, tensor_specs, with_fp16_scales
from calibration.int8.measure import Measured, measure_ranges
from calibration.int8.ranges import METHODS
from calibration.int8.search import Int8Model, Search, search
from calibration.int8.windows import ChosenWindows, choose_windows
from calibration.replays import score_clips
from calibration.score import CalibrationSettings, Choice, NormalRun, choose_threshold
from edge_runtime.bundle import Bundle
from edge_runtime.bundle.engines import PARTS
from edge_runtime.bundle.manifest import GraphPair, GraphSpec, Manifest, Precision, Quantisation
from edge_runtime.bundle.manifest_file import encode_manifest, parse_manifest
from edge_runtime.errors import ConfigError
from edge_runtime.files import remove_leftovers, write_atomically
from edge_runtime.score_scale import ScoreScale

__all__ = ["NOT_JUDGED", "Int8Settings", "Made", "make_int8"]

INT8 = "int8"
NOT_JUDGED = "Not judged yet: edge-report precision does it."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Int8Settings:
    """Attributes:
    method: of `METHODS`.
    windows: to measure ranges on.
    always_by_node: measure what each node costs also where all of them together are within the budget.
    """

    method: str = "entropy"
    windows: int = 256
    seed: int = 0
    always_by_node: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method: expected one of {', '.join(METHODS)}, got '{self.method}'.")


@dataclass(frozen=True)
class Made:
    """What was put in place.

    Attributes:
        bytes_of: graphs, by precision.
    """

    precision: Precision
    windows: ChosenWindows
    measured: Measured
    found: Search
    bytes_of: dict[str, int]


def make_int8(bundle: Bundle, clips: Sequence[NormalClip], settings: Int8Settings, bar: Any) -> Made:
    """Add int8 graphs to a bundle, or replace those it has. Everything else of it stays as it is.

    Args:
        clips: normal footage that training has not seen, of the bundle's frame rate.
        bar: tqdm, updated after each window; None where nobody looks.

    Raises:
        ConfigError: too few windows, or too few that differ; no convolution can be quantised.
        BackendError: a float32 graph gives values that are not finite.
        SinkError: the bundle cannot be written; it stays a whole one.
    """
    check_clips(clips)
    reference = bundle.precision("fp32")
    models = {part: onnx.load_from_string(bundle.read(spec)) for part, spec in _parts(reference)}
    windows = choose_windows(bundle, clips, settings.windows, settings.seed)
    if windows.repeated:
        log.warning("%d windows show exactly what another one shows, and were left out: does the camera stand still?", windows.repeated)
    measured = _measure(bundle, windows, models, bar)
    for clip, count in measured.outliers.items():
        log.warning("%s: %d windows have errors far above the others: is all of it normal? Ranges were widened by it.", clip, count)
    model = _as_model(models, measured, settings.method)
    if not model.nodes:
        raise ConfigError(f"{bundle.path}: expected convolutions with constant weights to quantise, its graphs have none.")
    found = search(bundle, windows, model, lambda: _tick(bar), always_by_node=settings.always_by_node)
    float_nodes = {part: _left_in_float(part, model, found) for part in PARTS}
    quantisation = Quantisation(
        settings.method, settings.seed, windows.frames, windows.sha256, float_nodes, round(model.share(found.nodes), 6)
    )
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder)
        plain = _write(draft, {part: model.quantised(part, found.nodes) for part in PARTS}, INT8)
        typed = _write_typed(bundle, draft, model, found)
        parity = {"score/psnr_db": found.cost.psnr_change_db}
        precision = replace(
            reference, encoder=plain.encoder, decoder=plain.decoder, parity=parity, verdict=NOT_JUDGED, fast=None,
            strongly_typed=typed, quantisation=quantisation,
        )  # fmt: skip
        precision = _with_scale(bundle, precision, clips, draft)
        _put_in_place(bundle, precision, draft)
    sizes = {name: _bytes(bundle.path, of_name) for name, of_name in (("fp32", reference), (INT8, precision))}
    return Made(precision, windows, measured, found, sizes)


def _parts(graphs: Precision | GraphPair) -> tuple[tuple[str, GraphSpec], ...]:
    return ("encoder", graphs.encoder), ("decoder", graphs.decoder)


def _measure(bundle: Bundle, windows: ChosenWindows, models: Mapping[str, onnx.ModelProto], bar: Any) -> Measured:
    tensors = {part: list(dict.fromkeys(conv.data for conv in convolutions(model))) for part, model in models.items()}
    for result in measure_ranges(bundle, windows, models, tensors):
        if result is not None:
            return result
        _tick(bar)
    raise AssertionError("the last one is the result")


def _tick(bar: Any) -> None:
    if bar is not None:
        bar.update()


def _as_model(models: Mapping[str, onnx.ModelProto], measured: Measured, method: str) -> Int8Model:
    found = {part: convolutions(model) for part, model in models.items()}
    return Int8Model(
        models=models,
        convolutions=found,
        ranges={part: {name: tensor.range(method) for name, tensor in of_part.items()} for part, of_part in measured.tensors.items()},
        multiply_adds={
            part: {conv.name: conv.multiply_adds(measured.tensors[part][conv.data].shape) for conv in of_part}
            for part, of_part in found.items()
        },
    )


def _left_in_float(part: str, model: Int8Model, found: Search) -> tuple[str, ...]:
    """Names of what has weights and is not int8; why, goes to the log."""
    others = [*float_weights(model.models[part]), *(conv.name for conv in model.convolutions[part] if model.ranges[part][conv.data] <= 0)]
    for name in others:
        log.warning("%s, node '%s': stays in float: no constant weights of a convolution, or its data is zero on all windows.", part, name)
    return (*others, *(name for where, name in model.nodes if where == part and (where, name) not in found.nodes))


def _write(folder: Path, models: Mapping[str, onnx.ModelProto], suffix: str) -> GraphPair:
    specs = {}
    for part, model in models.items():
        content = model.SerializeToString(deterministic=True)
        path = folder / f"{part}.{suffix}.onnx"
        path.write_bytes(content)
        sides = tensor_specs(model.graph.input), tensor_specs(model.graph.output)
        specs[part] = GraphSpec(path.name, hashlib.sha256(content).hexdigest(), *sides)
    return GraphPair(specs["encoder"], specs["decoder"])


def _write_typed(bundle: Bundle, folder: Path, model: Int8Model, found: Search) -> GraphPair | None:
    """The same nodes in int8 in the bundle's fp16 graphs."""
    if "fp16" not in bundle.manifest.precisions:
        log.warning("%s: no fp16 graphs, so no form with fp16 scales: strongly typed engines run the rest in fp32.", bundle.path)
        return None
    halves = {part: onnx.load_from_string(bundle.read(spec)) for part, spec in _parts(bundle.precision("fp16"))}
    typed = {
        part: with_fp16_scales(half, model.ranges[part], [name for where, name in found.nodes if where == part])
        for part, half in halves.items()
    }
    return _write(folder, typed, f"{INT8}-fp16")


def _with_scale(bundle: Bundle, precision: Precision, clips: Sequence[NormalClip], draft: Path) -> Precision:
    """The precision with a scale and a threshold of its own; quantity, smoothing and the gate are the bundle's."""
    manifest = replace(bundle.manifest, precisions=bundle.manifest.precisions | {INT8: precision})
    memory = draft / manifest.memory.file
    memory.parent.mkdir(parents=True, exist_ok=True)
    memory.write_bytes(bundle.read(manifest.memory))
    scale = precision.score_scale
    choice = Choice(scale.quantity, scale.mixture, scale.smoothing_frames)
    frames = (read_frames(clip, manifest.fps) for clip in clips)
    runs = list(chain.from_iterable(score_clips(replace(bundle, path=draft, manifest=manifest), INT8, frames, is_learning=True)))
    values = [choice.smoothed(run) for run in runs]
    own = ScoreScale.fit(np.concatenate(values), scale.quantity, scale.smoothing_frames, scale.mixture)
    normal = [
        NormalRun(np.array([own.score(value) for value in of_run]), np.array([score.time_s for score in run]))
        for run, of_run in zip(runs, values, strict=True)
    ]
    wished = CalibrationSettings(false_alarms_per_hour=precision.threshold.false_alarms_per_hour, hold_s=precision.threshold.hold_s)
    return replace(precision, score_scale=own, threshold=choose_threshold(normal, manifest.fps, wished))


def _put_in_place(bundle: Bundle, precision: Precision, draft: Path) -> None:
    """Graphs and manifest. At every moment the manifest names graphs that are there: the old int8 is struck out before its files change."""
    manifest = bundle.manifest
    others = {name: of_name for name, of_name in manifest.precisions.items() if name != INT8}
    wanted = replace(manifest, precisions=others | {INT8: precision})
    files = [spec.file for graphs in (precision, precision.strongly_typed) if graphs is not None for _, spec in _parts(graphs)]
    if INT8 in manifest.precisions and _hashes(manifest.precisions[INT8]) != _hashes(precision):
        _write_manifest(bundle, replace(manifest, precisions=others))
    for file in files:
        remove_leftovers(bundle.path / file)
        write_atomically(bundle.path / file, (draft / file).read_bytes())
    _write_manifest(bundle, wanted)


def _hashes(precision: Precision) -> list[tuple[str, str]]:
    pairs = [graphs for graphs in (precision, precision.strongly_typed) if graphs is not None]
    return [(spec.file, spec.sha256) for graphs in pairs for _, spec in _parts(graphs)]


def _write_manifest(bundle: Bundle, manifest: Manifest) -> None:
    path = bundle.path / "manifest.json"
    content = encode_manifest(manifest)
    parse_manifest(content, str(path))
    write_atomically(path, content)


def _bytes(folder: Path, precision: Precision) -> int:
    return sum((folder / spec.file).stat().st_size for _, spec in _parts(precision))
