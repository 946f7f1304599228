"""Engines really built, by TensorRT-RTX, which needs no GPU for it. Running them needs one; no test does."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest
import tensorrt_rtx as trt

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.engines import ENGINES, EngineMachine, encode_sheet, find_engine
from edge_runtime.devices.gpu import find_gpu
from edge_runtime.errors import BackendError, BackendUnavailable, BundleError, ConfigError, EngineMismatch, SinkError
from edge_runtime.graphs.tensorrt import Plan, TensorRtGraph
from edge_runtime.graphs.tensorrt_library import Library
from export.engine.build import EngineBuild, MadeEngine, make_engine
from export.engine.build_choice import EngineSettings, choose
from export.engine.tensorrt_build import BuildInput, BuiltPlan, build_plan
from export.engine.which_tensorrt import load_library
from export.half_precision import halve
from tests.kit.engine_bundles import changed_graph, full_size
from tests.kit.host_place import HostPlace
from tests.kit.wording import missing, raises

RTX = Library("tensorrt-rtx", trt)
PED2 = Path("bundles/ped2-lite")

Toy = Callable[[str], Bundle]


@pytest.fixture(scope="session")
def full_size_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_size(tmp_path_factory.mktemp("full-size")).path


@pytest.fixture
def ped2(tmp_path: Path) -> Bundle:
    """A copy of the shipped bundle, to do with as one likes."""
    return Bundle.load(shutil.copytree(PED2, tmp_path / "ped2-lite", ignore=shutil.ignore_patterns(ENGINES)))


@pytest.fixture
def toy_engine(toy: Toy) -> MadeEngine:
    return make(toy("one_pool"))


def build_of(bundle: Bundle, precision: str = "fp32", **settings: Any) -> EngineBuild:
    return EngineBuild(bundle, precision, RTX, None, EngineSettings(**settings))


def make(bundle: Bundle, precision: str = "fp32", *, rebuild: bool = False, **settings: Any) -> MadeEngine:
    return make_engine(build_of(bundle, precision, **settings), rebuild=rebuild)


def bundle_of(made: MadeEngine) -> Bundle:
    return Bundle.load(made.engine.folder.parents[1])


def layers_of(made: MadeEngine, part: str) -> dict[str, dict[str, Any]]:
    report = json.loads((made.engine.folder / f"{part}.layers.json").read_text())
    assert report["from"] == "network"
    return {layer["name"]: layer for layer in report["layers"]}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)


def test_the_halved_graphs_are_those_of_the_export() -> None:
    """Those that ship were traced in float16, which takes minutes at full size."""
    for part in ("encoder", "decoder"):
        exported = onnx.load(PED2 / f"{part}.fp16.onnx").graph
        halved = halve(onnx.load(PED2 / f"{part}.fp32.onnx"), ("skip_1", "skip_2", "skip_3")).graph
        for node in halved.node:
            node.input[:] = [name.removesuffix(".half") for name in node.input]
        assert halved.node == exported.node
        assert halved.input == exported.input
        assert [tensor.raw_data for tensor in halved.initializer] == [tensor.raw_data for tensor in exported.initializer]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_shipped_bundle_becomes_engines(ped2: Bundle, precision: str) -> None:
    made = make(ped2, precision)
    assert_built(made, precision)
    convolution = layers_of(made, "decoder")["/_decoder/level4/level4.0/Conv"]["outputs"][0]
    assert convolution["dtype"] == {"fp32": "FLOAT", "fp16": "HALF"}[precision]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_full_size_model_becomes_engines(full_size_folder: Path, tmp_path: Path, precision: str) -> None:
    bundle = Bundle.load(shutil.copytree(full_size_folder, tmp_path / "full"))
    made = make(bundle, precision)
    assert_built(made, precision)
    megabytes = {"fp32": 40, "fp16": 20}[precision]  # 15.65 million weights at four or two bytes, and some
    assert megabytes * 1e6 < made.engine.sheet.encoder.plan_bytes + made.engine.sheet.decoder.plan_bytes


@pytest.mark.parametrize("name", ["one_pool", "two_banks", "three_pools"])
def test_a_toy_becomes_engines(toy: Toy, name: str) -> None:
    assert_built(make(toy(name), streams=4), "fp32")


def assert_built(made: MadeEngine, precision: str) -> None:
    """Both plans are there, the sheet describes them, and they are found again."""
    bundle, sheet = bundle_of(made), made.engine.sheet
    assert not made.was_kept
    assert made.engine.folder.name == f"tensorrt-rtx-{trt.__version__}-sm80-{precision}"
    assert sorted(os.listdir(made.engine.folder)) == [
        "decoder.layers.json",
        "decoder.plan",
        "encoder.layers.json",
        "encoder.plan",
        "engine.json",
    ]
    assert os.listdir(bundle.path / ENGINES) == [made.engine.folder.name]
    assert find_engine(bundle, "tensorrt-rtx", precision, EngineMachine(trt.__version__, 89, "some GPU")) == made.engine
    assert sheet.check.was_run is False
    assert not missing(str(sheet.check.why_not), "NVIDIA GPU")
    assert ("TF32" in sheet.encoder.flags) == (precision == "fp16")  # fp32 keeps all its digits
    for part, graph in (("encoder", sheet.encoder), ("decoder", sheet.decoder)):
        assert graph.onnx.file == f"{part}.{precision}.onnx"
        assert (made.engine.folder / f"{part}.plan").stat().st_size == graph.plan_bytes > 1000
    sums = [layer for layer in layers_of(made, "decoder").values() if layer["kind"] == "REDUCE"]
    assert {layer["outputs"][0]["dtype"] for layer in sums} == {"FLOAT"}  # the scores, in every precision


def test_an_engine_that_fits_is_kept_untouched(toy_engine: MadeEngine) -> None:
    before = times(toy_engine.engine.folder)
    again = make(bundle_of(toy_engine))
    assert again.was_kept and again.engine == toy_engine.engine
    assert times(toy_engine.engine.folder) == before


def test_rebuild_builds_what_fits_anew(toy_engine: MadeEngine) -> None:
    before = times(toy_engine.engine.folder)
    assert not make(bundle_of(toy_engine), rebuild=True).was_kept
    assert times(toy_engine.engine.folder)["encoder.plan"] > before["encoder.plan"]
    assert os.listdir(toy_engine.engine.folder.parent) == [toy_engine.engine.folder.name]


def test_a_changed_graph_is_noticed_and_rebuilt_when_told(toy_engine: MadeEngine) -> None:
    def rename(model: onnx.ModelProto) -> None:
        model.graph.doc_string = "another training run"

    bundle = changed_graph(bundle_of(toy_engine), "fp32", "decoder", rename)
    before = times(toy_engine.engine.folder)
    with raises(EngineMismatch, f"decoder.plan … decoder.fp32.onnx … make engine BUNDLE={bundle.path} PRECISION=fp32 REBUILD=1"):
        make(bundle)
    assert times(toy_engine.engine.folder) == before
    make(bundle, rebuild=True)
    assert make(bundle).was_kept


@pytest.mark.parametrize("change", [cut, turn_a_bit, Path.unlink])
def test_a_graph_that_was_changed_behind_the_manifests_back_is_noticed(toy_engine: MadeEngine, change: Callable[[Path], object]) -> None:
    bundle = bundle_of(toy_engine)
    change(bundle.path / "decoder.fp32.onnx")
    with raises(BundleError, "decoder.fp32.onnx"):
        make(bundle)


def test_other_settings_are_noticed(toy_engine: MadeEngine) -> None:
    with raises(EngineMismatch, "streams 1 … 4"):
        make(bundle_of(toy_engine), streams=4)


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (EngineMachine("9.9", 89, "RTX"), f"TensorRT-RTX {trt.__version__} … sm_80 … 9.9 … sm_89"),
        (EngineMachine(trt.__version__, 75, "T4"), "sm_80 … sm_75 (T4)"),
    ],
)
def test_another_version_or_gpu_is_a_mismatch(toy_engine: MadeEngine, machine: EngineMachine, said: str) -> None:
    with raises(EngineMismatch, said, "REBUILD=1"):
        find_engine(bundle_of(toy_engine), "tensorrt-rtx", "fp32", machine)


ORIN = EngineMachine("10.3.0", 87, "Orin (nvgpu)")


@pytest.mark.parametrize(
    ("machine", "changes", "fits"),
    [
        (ORIN, {}, True),
        (replace(ORIN, version="10.16.1"), {}, False),
        (replace(ORIN, version="10.16.1"), {"is_version_compatible": True}, True),
        (replace(ORIN, version="10.2.9"), {"is_version_compatible": True}, False),
        (replace(ORIN, version="11.4.0"), {"is_version_compatible": True}, False),
        (replace(ORIN, sm=110, gpu="Thor"), {}, False),
        (replace(ORIN, gpu="another with as many features"), {}, False),
        (replace(ORIN, sm=110, gpu="Thor"), {"is_portable": True}, True),
        (replace(ORIN, sm=None, gpu=None), {}, False),
    ],
)
def test_which_machines_a_tensorrt_engine_fits(
    toy_engine: MadeEngine, machine: EngineMachine, changes: dict[str, bool], fits: bool
) -> None:
    """Its sheet is rewritten as JetPack's TensorRT would have left it."""
    sheet = replace(toy_engine.engine.sheet, flavour="tensorrt", version="10.3.0", sm=87, gpu="Orin (nvgpu)", is_portable=False)
    folder = toy_engine.engine.folder.rename(toy_engine.engine.folder.with_name("tensorrt-10.3.0-sm87-fp32"))
    (folder / "engine.json").write_bytes(encode_sheet(replace(sheet, **changes)))
    bundle = Bundle.load(folder.parents[1])
    assert find_engine(bundle, "tensorrt-rtx", "fp32", machine) is None
    if fits:
        assert find_engine(bundle, "tensorrt", "fp32", machine) is not None
    else:
        with raises(EngineMismatch, "fp32 … TensorRT 10.3.0 … sm_87"):
            find_engine(bundle, "tensorrt", "fp32", machine)


@pytest.mark.parametrize(
    ("file", "damage", "said"),
    [
        ("decoder.plan", cut, "bytes … truncated"),
        ("encoder.plan", turn_a_bit, "engine.json … SHA-256"),
        ("encoder.plan", Path.unlink, "'No such file or directory'"),
        ("engine.json", Path.unlink, "the sheet"),
        ("engine.json", lambda path: path.write_text('{"schema": 1'), "the sheet"),
        ("engine.json", lambda path: path.write_text('{"schema": 2}'), "schema 1 … 2"),
        ("engine.json", lambda path: path.write_text('{"schema": 1}'), "every key"),
    ],
)
def test_a_damaged_engine_is_named_and_mended_by_a_rebuild(
    toy_engine: MadeEngine, file: str, damage: Callable[[Path], object], said: str
) -> None:
    damage(toy_engine.engine.folder / file)
    bundle = bundle_of(toy_engine)
    with raises(EngineMismatch, f"{file} … {said} … make engine"):
        make(bundle)
    make(bundle, rebuild=True)
    assert make(bundle).was_kept


@pytest.mark.skipif(find_gpu() is not None, reason="a GPU is here")
def test_the_real_library_says_why_it_does_not_load_an_engine_here(toy_engine: MadeEngine) -> None:
    spec = bundle_of(toy_engine).precision("fp32").encoder
    plan = Plan((toy_engine.engine.folder / "encoder.plan").read_bytes(), spec, "encoder.plan", "Rebuild it.")
    with raises(EngineMismatch, f"encoder.plan … TensorRT-RTX {trt.__version__} … CUDA"):
        TensorRtGraph(RTX, plan, HostPlace())


def test_an_engine_under_another_name_is_not_taken(toy_engine: MadeEngine) -> None:
    folder = toy_engine.engine.folder
    folder.rename(folder.with_name("tensorrt-rtx-9.9-sm80-fp32"))
    with raises(EngineMismatch, "tensorrt-rtx-9.9-sm80-fp32"):
        make(bundle_of(toy_engine))


def test_an_unknown_operator_is_named(toy: Toy) -> None:
    def rename(model: onnx.ModelProto) -> None:
        [node] = [node for node in model.graph.node if node.op_type == "Tanh" and "level1" in node.name]
        node.op_type, node.domain = "Wavelet", "example.org"

    bundle = changed_graph(toy("one_pool"), "fp32", "decoder", rename)
    with raises(BackendError, "decoder.fp32.onnx … 'Wavelet' … '/decoder/level1/level1.5/Tanh' … --backend onnxruntime"):
        make(bundle)
    assert not (bundle.path / ENGINES).exists()


def fix_the_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def test_more_streams_than_a_graph_takes_are_refused(toy: Toy) -> None:
    bundle = changed_graph(toy("one_pool"), "fp32", "encoder", fix_the_batch)
    with raises(ConfigError, "input 'clip' … 4 … 1 … --streams 1"):
        make(bundle, streams=4)
    make(bundle)


def test_a_graph_that_its_manifest_does_not_describe_is_refused(toy: Toy) -> None:
    """The profile would be for other shapes than the runtime's."""
    bundle = changed_graph(toy("one_pool"), "fp32", "encoder", fix_the_batch)
    graphs = bundle.precision("fp32")
    [clip] = graphs.encoder.inputs
    wider = replace(clip, shape=("batch", *clip.shape[1:]))
    lying = replace(
        bundle, manifest=replace(bundle.manifest, precisions={"fp32": replace(graphs, encoder=replace(graphs.encoder, inputs=(wider,)))})
    )
    with raises(BackendError, "input 'clip' … ('batch', … (1,"):
        make(lying)


def test_the_builders_own_reason_is_passed_on(ped2: Bundle) -> None:
    with raises(BackendError, "no tactics … --workspace-mb 4"):
        make(ped2, "fp16", workspace_mb=1)
    assert not (ped2.path / ENGINES).exists()


def test_a_damaged_graph_is_not_built(toy: Toy) -> None:
    bundle = toy("one_pool")
    cut(bundle.path / "encoder.fp32.onnx")
    with raises(Exception, "encoder.fp32.onnx … SHA-256"):
        make(bundle)


def test_a_precision_the_bundle_lacks_is_refused(toy: Toy) -> None:
    with raises(Exception, "'int8' … fp32"):
        make(toy("one_pool"), "int8")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"streams": 0}, "--streams … 1"),
        ({"level": 6}, "--level … 0 to 5"),
        ({"workspace_mb": 0}, "--workspace-mb"),
        ({"int8_mode": "guess"}, "--int8-mode … qdq, calibrator"),
        ({"int8_mode": "calibrator", "streams": 2}, "ranges … a time"),
        ({"dla_core": 0, "streams": 2}, "DLA … batch size"),
        ({"dla_core": 0}, "--dla … fp16 or int8 … fp32"),
        ({"is_version_compatible": True}, "--version-compatible … --hardware-compatible"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(toy: Toy, settings: dict[str, Any], said: str) -> None:
    with raises(ConfigError, said):
        make(toy("one_pool"), **settings)


def test_a_dla_that_is_not_there_is_refused(ped2: Bundle) -> None:
    with raises(ConfigError, "--dla 0 … TensorRT-RTX"):
        make(ped2, "fp16", dla_core=0)


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="TensorRT is here")
def test_tensorrt_is_asked_for_in_vain() -> None:
    with raises(BackendUnavailable, "TensorRT … module tensorrt … JetPack"):
        load_library("tensorrt", None)


def test_without_a_gpu_auto_takes_what_builds_without_one() -> None:
    assert load_library("auto", None) == RTX


@contextmanager
def no_space_for_a_megabyte() -> Iterator[None]:
    """No file may grow past it: to a writer the disk is full there."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_no_space_leaves_nothing_half_written(ped2: Bundle) -> None:
    with no_space_for_a_megabyte(), raises(SinkError, "'File too large'"):
        make(ped2, "fp16")
    assert os.listdir(ped2.path / ENGINES) == []


def test_no_space_leaves_the_engine_that_was_there(ped2: Bundle) -> None:
    made = make(ped2, "fp16")
    before = times(made.engine.folder)
    with no_space_for_a_megabyte(), pytest.raises(SinkError):
        make(ped2, "fp16", rebuild=True)
    assert times(made.engine.folder) == before
    assert make(ped2, "fp16").was_kept


def build_encoder(bundle: Bundle, timing_cache: Path) -> BuiltPlan:
    """As for TensorRT, which has a timing cache; TensorRT-RTX keeps an empty one."""
    encoder, settings = bundle.precision("fp32").encoder, EngineSettings()
    graph = BuildInput(bundle.read(encoder), encoder.file, encoder.inputs, ())
    return build_plan(RTX, graph, choose(trt, "fp32", settings), settings, timing_cache)


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
def test_a_timing_cache_is_kept_and_one_of_another_machine_begun_anew(toy: Toy) -> None:
    bundle = toy("one_pool")
    cache = bundle.path / ENGINES / "tensorrt-10.3.0-sm87.timing"
    build_encoder(bundle, cache)
    kept = cache.read_bytes()
    assert kept
    build_encoder(bundle, cache)
    assert cache.read_bytes() == kept
    cache.write_bytes(b"another machine's")
    build_encoder(bundle, cache)
    assert cache.read_bytes() == kept


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
def test_a_timing_cache_that_cannot_be_written_is_said_in_a_line(toy: Toy) -> None:
    bundle = toy("one_pool")
    (bundle.path / ENGINES).write_text("in the way")
    with raises(SinkError, "sm87.timing"):
        build_encoder(bundle, bundle.path / ENGINES / "tensorrt-10.3.0-sm87.timing")


FILL_AND_WAIT = """
import sys, time
from pathlib import Path
from edge_runtime.files import replacing_folder
with replacing_folder(Path(sys.argv[1])) as draft:
    (draft / "encoder.plan").write_bytes(bytes(1000))
    print("half", flush=True)
    time.sleep(60)
"""


def test_a_killed_build_leaves_no_half_plan_and_its_rest_is_removed(toy: Toy) -> None:
    bundle = toy("one_pool")
    folder = bundle.path / ENGINES / f"tensorrt-rtx-{trt.__version__}-sm80-fp32"
    with subprocess.Popen([sys.executable, "-c", FILL_AND_WAIT, folder], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        make(bundle)  # a living writer's folder stays
        assert len(os.listdir(folder.parent)) == 2
        writer.send_signal(signal.SIGKILL)
    assert len(os.listdir(folder.parent)) == 2
    assert make(bundle).was_kept
    assert os.listdir(folder.parent) == [folder.name]
