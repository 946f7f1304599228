"""Every name of TensorRT that the code touches exists in the releases it speaks to; no engine is built here.

The rule: a name that every release has may be used anywhere. One that only some have must be asked for with `hasattr` on that very
name, or `getattr` with a default, in the function that uses it. One that none has is a mistake.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.kit.tensorrt_bindings import RELEASES, Names, names_of
from tests.kit.tensorrt_names import Use, uses_in

pytestmark = pytest.mark.tensorrt_bindings

EXAMPLE = """
import importlib
from typing import Any

def build(model: Path) -> bytes:
    import tensorrt as trt
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flags = 0
    if hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    made = builder.create_builder_config()
    made.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    for number, layer in enumerate(network):
        print(number, layer.name)
    print([network.get_input(i).shape for i in range(network.num_inputs)])
    if hasattr(made, "progress_monitor"):
        made.progress_monitor = monitor_of(trt)
    return bytes(builder.build_serialized_network(network, made))

def monitor_of(trt: Any) -> Any:
    class Monitor(trt.IProgressMonitor if hasattr(trt, "IProgressMonitor") else object):
        def __init__(self) -> None:
            self._bars: dict[str, int] = {}

        def phase_start(self, name: str, parent: str, steps: int) -> None:
            self._bars[name] = steps
    return Monitor()

class Engine:
    def __init__(self, trt: Any, engine: Any, options: Options) -> None:
        self._trt = trt
        self._context = engine.create_execution_context()
        self.options = options

    def describe(self, inspector: Any) -> str:
        self._context.set_input_shape("clip", self.options.shape)
        return inspector.get_layer_information(0, getattr(self._trt, "LayerInformationFormat").JSON)
"""


def test_what_the_code_touches_is_there() -> None:
    assert _mistakes(_sources()) == []


def test_no_misspelling_in_the_code_goes_unnoticed() -> None:
    sources = _sources()
    unnoticed = [use for use in _uses(sources) if not any(f"{use.name}x" in mistake for mistake in _mistakes(_misspelt(sources, use)))]
    assert unnoticed == []


def test_the_example_is_read_and_fine() -> None:
    assert _mistakes({"example": EXAMPLE}) == []
    assert {(use.owner, use.name) for use in _uses({"example": EXAMPLE})} >= {
        ("trt", "Builder"),
        ("Logger", "WARNING"),
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("IBuilderConfig", "set_memory_pool_limit"),
        ("IBuilderConfig", "progress_monitor"),
        ("ILayer", "name"),
        ("ITensor", "shape"),
        ("IProgressMonitor", "phase_start"),
        ("IExecutionContext", "set_input_shape"),
        ("LayerInformationFormat", "JSON"),
    }


@pytest.mark.parametrize(
    ("right", "wrong", "mistake"),
    [
        ("trt.Builder(", "trt.Bilder(", "trt.Bilder: no release has it"),
        ("Logger.WARNING", "Logger.WARN", "Logger.WARN: no release has it"),
        ("(network, made)", "(network, made).data", "IHostMemory.data: no release has it"),
        ("made.set_memory_pool_limit", "made.set_pool_limit", "IBuilderConfig.set_pool_limit: no release has it"),
        ("MemoryPoolType.WORKSPACE", "MemoryPoolType.WORKPLACE", "MemoryPoolType.WORKPLACE: no release has it"),
        ("layer.name", "layer.title", "ILayer.title: no release has it"),
        (".get_input(i).shape", ".get_input(i).size", "ITensor.size: no release has it"),
        ("made.progress_monitor =", "made.progres_monitor =", "IBuilderConfig.progres_monitor: no release has it"),
        ('hasattr(made, "progress_monitor")', 'hasattr(made, "progres_monitor")', "IBuilderConfig.progres_monitor: no release has it"),
        ('hasattr(made, "progress_monitor")', "flags", "IBuilderConfig.progress_monitor: not in 8.6.1; ask hasattr first"),
        (
            'hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")',
            "model",
            "NetworkDefinitionCreationFlag.STRONGLY_TYPED: not in 8.6.1; ask hasattr first",
        ),
        ("phase_start", "phase_begin", "IProgressMonitor.phase_begin: no release has it"),
        ("self._context.set_input_shape", "self._context.set_shape", "IExecutionContext.set_shape: no release has it"),
        ("inspector.get_layer_information", "inspector.get_information", "EngineInspector.get_information: no release has it"),
        ('"LayerInformationFormat"', '"LayerFormat"', "trt.LayerFormat: no release has it"),
        ("import tensorrt as trt", "trt = importlib.import_module('tensorrt').TRT", "trt.TRT: no release has it"),
        (
            "builder.create_builder_config()",
            "builder.create_builder_config()\n    made.flag = trt.BuilderFlag.FP16",
            "BuilderFlag.FP16: not in 11.4",
        ),
        ("inspector", "it", "?.get_layer_information: cannot tell what it is read from"),
        ('getattr(self._trt, "LayerInformationFormat")', "getattr(self._trt, options)", "trt.?: cannot tell which name it is"),
    ],
)
def test_a_mistake_planted_in_the_example_is_found(right: str, wrong: str, mistake: str) -> None:
    assert right in EXAMPLE
    found = _mistakes({"example": EXAMPLE.replace(right, wrong)})
    assert any(f": {mistake}" in line for line in found), found


def _mistakes(sources: Mapping[str, str]) -> list[str]:
    uses = _uses(sources)
    asked = {(use.owner, use.name, use.function) for use in uses if use.is_question}
    return [f"{use.where}: {use.owner}.{use.name}: {reason}" for use in uses if (reason := _mistake(use, asked))]


def _mistake(use: Use, asked: set[tuple[str, str, str]]) -> str | None:
    if use.owner == "?":
        return "cannot tell what it is read from"
    if use.name == "?":
        return "cannot tell which name it is"
    lacking = [release for release in RELEASES if use.owner in names_of(release) and use.name not in names_of(release)[use.owner]]
    if use.name not in _all_names()[use.owner]:
        return "no release has it"
    if not lacking or (use.owner, use.name, use.function) in asked:
        return None
    return f"not in {', '.join(lacking)}; ask hasattr first"


def _uses(sources: Mapping[str, str]) -> list[Use]:
    return uses_in(sources, _all_names())


@functools.cache
def _all_names() -> Names:
    """Of all releases together; what something is follows the newest that tells."""
    together: dict[str, dict[str, str]] = {}
    for release in RELEASES:
        for owner, members in names_of(release).items():
            known = together.setdefault(owner, {})
            known.update({name: kind for name, kind in members.items() if name not in known or kind not in {"", "?"}})
    return together


def _sources() -> dict[str, str]:
    packages = ("export", "edge_runtime", "calibration")
    return {str(path): path.read_text(encoding="utf-8") for package in packages for path in sorted(Path(package).rglob("*.py"))}


def _misspelt(sources: Mapping[str, str], use: Use) -> dict[str, str]:
    """The sources with an x at the end of a name, in its line."""
    path, _, number = use.where.rpartition(":")
    lines = sources[path].splitlines()
    lines[int(number) - 1] = re.sub(rf"\b{use.name}\b", f"{use.name}x", lines[int(number) - 1])
    return {**sources, path: "\n".join(lines)}
