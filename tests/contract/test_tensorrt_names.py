"""Every name of TensorRT that the code touches exists in the releases it speaks to, and the builder chooses by what is there.

The rule: a name that every release has may be used anywhere, one that none has nowhere. One that some lack may be used in a function that
asks `hasattr` (or `getattr` with a default) for a name by which it can tell: all releases that have the one have the other. After
`not hasattr`, those that lack the one count as well. Where `choose` asked beforehand, DECIDED names its question.

No engine is built here: the modules are real, TensorRT's libraries are empty.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.kit.tensorrt_bindings import RELEASES, Names, bindings_of, names_of
from tests.kit.tensorrt_names import Use, examined, uses_in

pytestmark = pytest.mark.tensorrt_bindings

# What is only reached where `choose` found another name: it decides between types and flags, and about calibrators.
DECIDED = {
    ("ILayer", "precision"): ("BuilderFlag", "FP16"),
    ("ILayer", "set_output_type"): ("BuilderFlag", "FP16"),
    ("IBuilderConfig", "int8_calibrator"): ("trt", "IInt8EntropyCalibrator2"),
    ("IBuilderConfig", "set_calibration_profile"): ("trt", "IInt8EntropyCalibrator2"),
    ("trt", "IInt8EntropyCalibrator2"): ("trt", "IInt8EntropyCalibrator2"),
    ("trt", "IInt8MinMaxCalibrator"): ("trt", "IInt8EntropyCalibrator2"),
}

# Graphs, flags of the network, flags of the builder.
CHOICES_8 = {
    "fp32": "fp32 EXPLICIT_BATCH",
    "fp16": "fp32 EXPLICIT_BATCH FP16 OBEY_PRECISION_CONSTRAINTS",
    "fp16 on a DLA": "fp32 EXPLICIT_BATCH FP16 OBEY_PRECISION_CONSTRAINTS",
    "int8": "int8 EXPLICIT_BATCH INT8 FP16 OBEY_PRECISION_CONSTRAINTS",
    "int8 calibrated": "fp32 EXPLICIT_BATCH INT8 FP16 OBEY_PRECISION_CONSTRAINTS calibrator",
    "fp32 on a DLA": "refused",
}
CHOICES_10 = {
    "fp32": "fp32 STRONGLY_TYPED",
    "fp16": "fp16 STRONGLY_TYPED",
    "fp16 on a DLA": "fp32 FP16 OBEY_PRECISION_CONSTRAINTS",
    "int8": "int8 INT8 FP16 OBEY_PRECISION_CONSTRAINTS",
    "int8 calibrated": "fp32 INT8 FP16 OBEY_PRECISION_CONSTRAINTS calibrator",
    "fp32 on a DLA": "refused",
}
CHOICES_11 = {
    "fp32": "fp32 STRONGLY_TYPED",
    "fp16": "fp16 STRONGLY_TYPED",
    "fp16 on a DLA": "fp16 STRONGLY_TYPED",
    "int8": "int8 STRONGLY_TYPED",
    "int8 calibrated": "refused",
    "fp32 on a DLA": "refused",
}
CHOICES = {"8.6.1": CHOICES_8, "10.3": CHOICES_10, "10.13": CHOICES_10, "10.16": CHOICES_10, "11.4": CHOICES_11, "RTX 1.7": CHOICES_11}

CHOOSE = """
import importlib, json, sys
from edge_runtime.errors import ConfigError
from export.engine.build_choice import EngineSettings, choose, network_flags

trt = importlib.import_module(sys.argv[1])

def chosen(precision, **settings):
    try:
        choice = choose(trt, precision, EngineSettings(**settings))
    except ConfigError:
        return "refused"
    mask = network_flags(trt, choice)
    of_network = [name for name, flag in trt.NetworkDefinitionCreationFlag.__members__.items() if mask & 1 << int(flag)]
    assert choice.is_strongly_typed == ("STRONGLY_TYPED" in of_network)
    return " ".join([choice.graphs, *of_network, *(flag.name for flag in choice.flags), *["calibrator"] * choice.needs_calibrator])

print(json.dumps({
    "fp32": chosen("fp32"),
    "fp16": chosen("fp16"),
    "fp16 on a DLA": chosen("fp16", dla_core=0),
    "int8": chosen("int8"),
    "int8 calibrated": chosen("int8", int8_mode="calibrator"),
    "fp32 on a DLA": chosen("fp32", dla_core=0),
}))
"""

SUBCLASS = """
import importlib, json, sys
from types import SimpleNamespace
from export.engine.build_progress import BuildProgress, attach_progress
from edge_runtime.graphs.tensorrt_library import open_log

trt = importlib.import_module(sys.argv[1])
config, progress = SimpleNamespace(), BuildProgress("build")
monitor = attach_progress(trt, config, progress)
if monitor is not None:
    monitor.phase_start("all", None, 2)
    monitor.step_complete("all", 0)
logger, heard = open_log(trt)
logger.log(trt.ILogger.ERROR, "no luck.")
logger.log(trt.ILogger.INFO, "by the way")
is_monitor = isinstance(monitor, getattr(trt, "IProgressMonitor", ()))
print(json.dumps([is_monitor, hasattr(config, "progress_monitor"), progress.share, heard.errors]))
"""

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
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    print(layers[0].type, layers[-1].num_outputs)
    print([network.get_input(i).shape for i in range(network.num_inputs)])
    watch(trt, made)
    return bytes(builder.build_serialized_network(network, made))

def watch(trt: Any, config: Any) -> None:
    made = config
    if hasattr(made, "progress_monitor"):
        made.progress_monitor = monitor_of(trt)

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
        context, options = self._context, self.options
        context.set_input_shape("clip", options.shape)
        return inspector.get_layer_information(0, getattr(self._trt, "LayerInformationFormat").JSON)
"""


def test_what_the_code_touches_is_there() -> None:
    assert _mistakes(_sources()) == []


def test_every_module_that_touches_it_is_read() -> None:
    assert set(_sources()) >= {
        "export/engine/build_choice.py",
        "export/engine/build_progress.py",
        "export/engine/tensorrt_build.py",
        "edge_runtime/graphs/tensorrt_library.py",
        "edge_runtime/graphs/tensorrt.py",
    }


def test_the_calls_of_every_frame_are_among_them() -> None:
    frames = {(use.owner, use.name) for use in _uses(_sources()) if use.where.startswith("edge_runtime/graphs/tensorrt.py")}
    calls = ("set_input_shape", "get_tensor_shape", "set_tensor_address", "execute_async_v3")
    assert frames >= {("IExecutionContext", call) for call in calls}


def test_what_was_decided_elsewhere_is_used() -> None:
    assert set(DECIDED) <= {(use.owner, use.name) for use in _uses(_sources())}


def test_no_misspelling_in_the_code_goes_unnoticed() -> None:
    sources = _sources()
    uses = {(use.where.partition(":")[0], use.owner, use.name): use for use in _uses(sources)}
    unnoticed = [use for use in uses.values() if not any(f"{use.name}x:" in mistake for mistake in _mistakes(_misspelt(sources, use)))]
    assert unnoticed == []


@pytest.mark.parametrize("release", RELEASES)
def test_the_builder_chooses_by_what_a_release_has(release: str) -> None:
    assert bindings_of(release).run(CHOOSE) == CHOICES[release]


@pytest.mark.parametrize("release", RELEASES)
def test_logger_and_monitor_are_what_a_release_calls(release: str) -> None:
    has_monitor = release != "8.6.1"
    assert bindings_of(release).run(SUBCLASS) == [has_monitor, has_monitor, 0.5 if has_monitor else 0.0, ["no luck."]]


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
        ("made.set_memory_pool_limit", '{"limits": made}["limits"].set_pool_limit', "IBuilderConfig.set_pool_limit: no release has it"),
        ("Logger.WARNING", "Logger.WARN", "Logger.WARN: no release has it"),
        ("(network, made)", "(network, made).data", "IHostMemory.data: no release has it"),
        ("made.set_memory_pool_limit", "made.set_pool_limit", "IBuilderConfig.set_pool_limit: no release has it"),
        ("MemoryPoolType.WORKSPACE", "MemoryPoolType.WORKPLACE", "MemoryPoolType.WORKPLACE: no release has it"),
        ("layer.name", "layer.title", "ILayer.title: no release has it"),
        (".get_input(i).shape", ".get_input(i).size", "ITensor.size: no release has it"),
        ("layers[0].type", "layers[0].kind", "ILayer.kind: no release has it"),
        ("made.progress_monitor =", "made.progres_monitor =", "IBuilderConfig.progres_monitor: no release has it"),
        ('hasattr(made, "progress_monitor")', 'hasattr(made, "progres_monitor")', "IBuilderConfig.progres_monitor: no release has it"),
        ('hasattr(made, "progress_monitor")', "trt", "IBuilderConfig.progress_monitor: not in 8.6.1; ask hasattr first"),
        (
            'hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")',
            "model",
            "NetworkDefinitionCreationFlag.STRONGLY_TYPED: not in 8.6.1; ask hasattr first",
        ),
        ("phase_start", "phase_begin", "IProgressMonitor.phase_begin: no release has it"),
        ("context.set_input_shape", "context.set_shape", "IExecutionContext.set_shape: no release has it"),
        ("inspector.get_layer_information", "inspector.get_information", "EngineInspector.get_information: no release has it"),
        ('"LayerInformationFormat"', '"LayerFormat"', "trt.LayerFormat: no release has it"),
        ("import tensorrt as trt", "trt = importlib.import_module('tensorrt').TRT", "trt.TRT: no release has it"),
        (
            "builder.create_builder_config()",
            "builder.create_builder_config()\n    made.flags = trt.BuilderFlag.FP16",
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


@pytest.mark.parametrize(
    "source",
    [
        "import tensorrt_rtx\n\ndef shape() -> Any:\n    return tensorrt_rtx.Dims9()",
        "def shape(trt: Any) -> Any:\n    return trt.Dims9()",
        "def shape(network: Any) -> Any:\n    return network.get_input(0).shapes",
        "def shape(_tensor: Any) -> Any:\n    return _tensor.shapes",
    ],
)
def test_a_module_that_is_handed_something_of_it_is_read(source: str) -> None:
    assert _mistakes(examined({"module": source})) != []


def test_a_module_that_has_nothing_of_it_is_not_read() -> None:
    assert examined({"module": "def shape(tensor: TensorSpec, config: dict[str, int]) -> Any:\n    return tensor.shapes"}) == {}


def _mistakes(sources: Mapping[str, str]) -> list[str]:
    uses = _uses(sources)
    questions = [use for use in uses if use.is_question]
    return [f"{use.where}: {use.owner}.{use.name}: {reason}" for use in uses if (reason := _mistake(use, questions))]


def _mistake(use: Use, questions: list[Use]) -> str | None:
    if use.owner == "?":
        return "cannot tell what it is read from"
    if use.name == "?":
        return "cannot tell which name it is"
    if use.name not in _all_names()[use.owner]:
        return "no release has it"
    lacking = {release for release in RELEASES if use.owner in names_of(release) and use.name not in names_of(release)[use.owner]}
    decided = DECIDED.get((use.owner, use.name))
    asked = [question for question in questions if question.function == use.function or (question.owner, question.name) == decided]
    if not lacking or use.is_question or any(_tells(question, lacking) for question in asked):
        return None
    return f"not in {', '.join(sorted(lacking))}; ask hasattr first"


def _tells(question: Use, lacking: set[str]) -> bool:
    """Whether an answer to a question leaves none of these releases."""
    yes = {release for release in RELEASES if question.name in names_of(release).get(question.owner, {})}
    no = set(RELEASES) - yes if question.is_negated else set()
    return any(answer and not answer & lacking for answer in (yes, no))


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
    paths = [path for package in packages for path in sorted(Path(package).rglob("*.py"))]
    return examined({str(path): path.read_text(encoding="utf-8") for path in paths})


def _misspelt(sources: Mapping[str, str], use: Use) -> dict[str, str]:
    """The sources with an x at the end of a name, in its line."""
    path, _, number = use.where.rpartition(":")
    lines = sources[path].splitlines()
    lines[int(number) - 1] = re.sub(rf"\b{use.name}\b", f"{use.name}x", lines[int(number) - 1])
    return {**sources, path: "\n".join(lines)}
