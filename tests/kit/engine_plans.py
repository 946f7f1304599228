"""Engines for the stand-in of TensorRT (tests/kit/tensorrt_standin): their plans, in folders that a bundle's engines lie in."""

from __future__ import annotations

import hashlib
import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.engines import BuiltGraph, EngineCheck, EngineSheet, encode_sheet, engine_folder
from edge_runtime.bundle.manifest import FileSpec, GraphSpec

__all__ = ["VERSION", "plan_of", "stand_in", "write_engine"]

STAND_IN = Path(__file__).with_name("tensorrt_standin") / "tensorrt.py"
VERSION = "10.3.0"


def stand_in() -> ModuleType:
    """The stand-in, afresh, and not under TensorRT's name."""
    spec = spec_from_file_location("tensorrt_stand_in", STAND_IN)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plan_of(
    model: bytes, *, largest_batch: int = 1, version: str = VERSION, is_version_compatible: bool = False, needs_dla: bool = False
) -> bytes:
    """What the stand-in loads as an engine of an ONNX file."""
    facts = {
        "version": version,
        "largest_batch": largest_batch,
        "is_version_compatible": is_version_compatible,
        "needs_dla": needs_dla,
    }
    return b"stand-in plan " + json.dumps(facts).encode() + b"\n" + model


def write_engine(
    bundle: Bundle, precision: str, *, sm: int = 87, gpu: str = "Orin (stand-in)", graphs: str | None = None, **facts: Any
) -> Path:
    """An engine in its folder, as if `make engine` had built it on such a GPU.

    Args:
        graphs: precision of the graphs it is built from, where it is another.
        facts: as of `plan_of`.
    """
    version = facts.get("version", VERSION)
    folder = engine_folder(bundle, "tensorrt", version, sm, precision)
    folder.mkdir(parents=True)
    built = bundle.precision(graphs or precision)
    sheet = EngineSheet(
        schema=1,
        flavour="tensorrt",
        version=version,
        sm=sm,
        gpu=gpu,
        precision=precision,
        is_portable=False,
        is_version_compatible=facts.get("is_version_compatible", False),
        settings={"dla_core": 0 if facts.get("needs_dla") else None},
        encoder=_write_plan(bundle, built.encoder, folder / "encoder.plan", facts),
        decoder=_write_plan(bundle, built.decoder, folder / "decoder.plan", facts),
        check=EngineCheck(was_run=False, why_not="a stand-in"),
        host={},
    )
    (folder / "engine.json").write_bytes(encode_sheet(sheet))
    return folder


def _write_plan(bundle: Bundle, spec: GraphSpec, path: Path, facts: dict[str, Any]) -> BuiltGraph:
    plan = plan_of(bundle.read(spec), **facts)
    path.write_bytes(plan)
    return BuiltGraph(FileSpec(spec.file, spec.sha256), hashlib.sha256(plan).hexdigest(), len(plan), "", (), 0, 0.0)
