"""A bundle from a training run: split, export, check, calibrate, and only then put in place."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.torch
import torch

from calibration.clips import NormalClip
from calibration.score import CalibrationSettings, calibrate
from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import (
    SCHEMA,
    FastGraphs,
    FileSpec,
    GateSpec,
    GraphSpec,
    Manifest,
    ModelSpec,
    PoolSpec,
    Precision,
    UpdateSpec,
)
from edge_runtime.bundle.manifest_file import encode_manifest
from edge_runtime.errors import ConfigError
from edge_runtime.graphs.onnxruntime_session import load_onnxruntime
from edge_runtime.score_scale import ScoreScale, Threshold
from export.bundle_folder import remove_killed_exports, work_folder
from export.fast_convolutions import speed_up
from export.onnx_graphs import OPSET, export_graph
from export.parity import check_parity, parity
from export.split import SplitModel, split
from train.checkpoint import load_checkpoint
from train.config import TrainConfig, config_values, parse_config
from train.data import Segment, Windows, load_segments
from train.memory import Memory
from train.model import Model
from train.models import build_model

__all__ = ["BundleSettings", "Run", "load_run", "make_bundle", "write_fast_graphs", "write_graphs"]

LEAST_SPARED = 0.15  # of all multiplications, for which a second pair of graphs is worth its place
PARITY_WINDOWS = 8
PARITY_FRAMES = 200  # of each held-out clip, to draw the windows from

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BundleSettings:
    """What the training run does not decide.

    Attributes:
        name: of the bundle; the run's configuration's where None.
        has_fast_graphs: whether graphs for x86-64 CPUs are added where the network has a fast form, at twice the weights on disk.
        update: the rule by which all pools learn at the edge, `ema`, `mnad` or `none`; each pool's own where None.
        update_rate, drift_limit: how far they go; see `UpdateSpec`.
    """

    name: str | None = None
    precisions: tuple[str, ...] = ("fp32", "fp16")
    has_fast_graphs: bool = True
    update: str | None = None
    update_rate: float = 0.01
    drift_limit: float = 0.25
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)

    def __post_init__(self) -> None:
        """Check what would be refused in the manifest, once all graphs are written.

        Raises:
            ConfigError: a value is out of its range.
        """
        for name, value, most in (("update_rate", self.update_rate, 1), ("drift_limit", self.drift_limit, 2)):
            if not 0 < value <= most:
                raise ConfigError(f"{name}: expected more than 0 and at most {most}, got {value}.")


@dataclass(frozen=True)
class Run:
    """A training run as `train` left it: the best model, and what was held out.

    Attributes:
        facts: `run.json`.
        epoch: of the best model.
    """

    path: Path
    config: TrainConfig
    model: Model
    memory: Memory
    facts: dict[str, Any]
    epoch: int

    @property
    def held_out(self) -> list[NormalClip]:
        """The clips that training did not see."""
        return [NormalClip(**segment) for segment in self.facts["held_out"]]


def load_run(path: Path) -> Run:
    """Read a run's best model.

    Raises:
        ConfigError: there is no run, or it is broken.
    """
    try:
        facts = json.loads((path / "run.json").read_text(encoding="utf-8"))
        configuration = facts["configuration"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: expected a training run (run.json), got '{error}'. Train first: make train CONFIG=… DATA=… OUT=…"
        ) from error
    config = parse_config(configuration, str(path / "run.json"))
    checkpoint = load_checkpoint(path / "best.safetensors")
    model = build_model(config)
    memory = Memory(model.pools, torch.Generator())
    memory.load(checkpoint.tensors, str(path))
    try:
        model.load_state_dict(checkpoint.part("model"))
    except RuntimeError as error:
        raise ConfigError(f"{path}: expected weights of the network that run.json describes, got others. Train again.") from error
    return Run(path, config, model.eval(), memory, facts, checkpoint.facts["epoch"])


def make_bundle(run: Run, out: Path, settings: BundleSettings) -> Bundle:
    """Write a bundle to `out`; what was there is replaced when the new one is complete.

    Raises:
        BundleError: the exported graphs are too far from the model.
        SourceError, ConfigError: the held-out clips are gone or too short.
        SinkError: the bundle's place cannot be written.
    """
    remove_killed_exports(out)
    if out.exists() and not (out / "manifest.json").exists():
        raise ConfigError(f"{out}: expected a bundle or nothing there, found something else. Say another OUT=.")
    with work_folder(out) as work:
        bundle = _write_draft(run, work.draft, settings)
        bundle = _with_parity(bundle, run)
        log.info("calibrating on %s", ", ".join(clip.name for clip in run.held_out))
        manifest = calibrate(bundle, run.held_out, settings.calibration)
        (work.draft / "manifest.json").write_bytes(encode_manifest(manifest))
        Bundle.load(work.draft)
        _keep_model_card(out, work.draft)
        work.put_in_place()
    return Bundle.load(out)


def write_graphs(model: Model, precision: str, folder: Path) -> tuple[GraphSpec, GraphSpec]:
    """Export encoder and decoder of one precision into a folder."""
    return _write_halves(split(model), precision, folder, suffix=precision)


def write_fast_graphs(model: Model, folder: Path) -> FastGraphs | None:
    """The same in float32 with fast convolutions; None where they would spare too little."""
    halves = split(model)
    encoder, decoder = speed_up(halves.encoder, [halves.window]), speed_up(halves.decoder, list(halves.given.values()))
    if encoder.spared + decoder.spared < LEAST_SPARED * (encoder.multiplications + decoder.multiplications):
        return None
    fast = replace(halves, encoder=encoder.module, decoder=decoder.module)
    return FastGraphs(*_write_halves(fast, "fp32", folder, suffix="fp32-fast"), parity={})


def _write_halves(halves: SplitModel, precision: str, folder: Path, suffix: str) -> tuple[GraphSpec, GraphSpec]:
    """Write the two modules as graphs."""
    halved = halves.halved if precision == "fp16" else None
    encoder, decoder = folder / f"encoder.{suffix}.onnx", folder / f"decoder.{suffix}.onnx"
    return (
        export_graph(halves.encoder, {"clip": halves.window}, halves.encoder.outputs, encoder, halved),
        export_graph(halves.decoder, halves.given, halves.decoder.outputs, decoder, halved),
    )


def _write_draft(run: Run, folder: Path, settings: BundleSettings) -> Bundle:
    """Graphs, memory and a manifest without parity or calibration; it does not leave the work folder."""
    uncalibrated = ScoreScale("local_error", 1, (0.0, 1.0), 1.0)
    threshold = Threshold(0.0, settings.calibration.false_alarms_per_hour, is_extrapolated=True, hold_s=settings.calibration.hold_s)
    precisions = {
        name: Precision(*write_graphs(run.model, name, folder), uncalibrated, threshold, parity={}, verdict="")
        for name in settings.precisions
    }
    if settings.has_fast_graphs and "fp32" in precisions:
        precisions["fp32"] = replace(precisions["fp32"], fast=write_fast_graphs(run.model, folder))
    content = safetensors.torch.save({name: items.contiguous() for name, items in run.memory.copy_items().items()})
    (folder / "memory.safetensors").write_bytes(content)
    manifest = Manifest(
        schema=SCHEMA,
        name=settings.name or run.config.name,
        model=ModelSpec(run.config.model, msgspec.to_builtins(config_values(run.config))),
        input=run.config.input,
        fps=run.facts["fps"],
        pools=tuple(
            PoolSpec(pool.name, pool.query, pool.read, pool.addressing, settings.update or pool.update) for pool in run.model.pools
        ),
        memory=FileSpec("memory.safetensors", hashlib.sha256(content).hexdigest()),
        gate=GateSpec(limit=0.0),
        update=UpdateSpec(settings.update_rate, _write_scale(run.model), settings.drift_limit),
        paper_weight=0.6,
        precisions=precisions,
        provenance=_provenance(run, settings),
    )
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return Bundle.load(folder)


def _write_scale(model: Model) -> str:
    """The one of all pools: a manifest has no more.

    Raises:
        ConfigError: they differ.
    """
    scales = {pool.write_scale for pool in model.pools} or {"all"}
    if len(scales) > 1:
        raise ConfigError(f"pools: expected one write_scale, got {', '.join(sorted(scales))}. Give all pools of the model the same.")
    return scales.pop()


def _with_parity(bundle: Bundle, run: Run) -> Bundle:
    """Hold every precision against the PyTorch model on windows of the held-out clips."""
    segments = [Segment(**segment) for segment in run.facts["held_out"]]
    windows = Windows(load_segments(segments, run.config.input, run.facts["fps"], most_frames=PARITY_FRAMES), run.config.input)
    chosen = [batch for _, batch in zip(range(PARITY_WINDOWS), windows.batches(1, np.random.default_rng(0)), strict=False)]
    precisions = {}
    for name, precision in bundle.manifest.precisions.items():
        differences = parity(bundle, precision, run.model, run.memory, chosen)
        check_parity(differences, name)
        precisions[name] = replace(precision, parity=differences)
        if precision.fast is not None:
            differences = parity(bundle, precision.fast, run.model, run.memory, chosen)
            check_parity(differences, name, is_fast=True)
            precisions[name] = replace(precisions[name], fast=replace(precision.fast, parity=differences))
    return replace(bundle, manifest=replace(bundle.manifest, precisions=precisions))


def _provenance(run: Run, settings: BundleSettings) -> dict[str, Any]:
    return {
        "training_clips": [segment["name"] for segment in run.facts["training"]],
        "held_out_clips": [segment["name"] for segment in run.facts["held_out"]],
        "started_from": _origin(run.facts.get("started_from")),
        "epoch": run.epoch,
        "seed": run.config.seed,
        "calibration": asdict(settings.calibration),
        "trained_with": run.facts["versions"],
        "exported_with": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "onnxruntime": load_onnxruntime("cpu").__version__,
            "opset": OPSET,
        },
    }


def _origin(start: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The run that weights come from, and the one that its own came from: names, because the paths of a machine are nobody's business."""
    if start is None:
        return None
    clips = [segment["name"] for segment in start["training"]]
    facts = {key: start[key] for key in ("sha256", "epoch", "configuration")}
    return {"run": Path(start["run"]).name, **facts, "training_clips": clips, "started_from": _origin(start["started_from"])}


def _keep_model_card(before: Path, draft: Path) -> None:
    card = before / "README.md"
    if card.exists():
        shutil.copy(card, draft)
