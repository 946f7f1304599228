"""From a bundle and footage to a bundle with int8 graphs that the runtime runs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.clips import find_clips
from calibration.int8 import make, search
from calibration.int8.__main__ import main
from calibration.int8.graphs import tensor_specs
from calibration.int8.make import Int8Settings, Made, make_int8
from calibration.int8.measure import outliers
from calibration.int8.ranges import Magnitudes
from calibration.int8.windows import choose_windows, read_windows
from edge_runtime import Bundle, Detector
from edge_runtime.bundle.manifest import GraphSpec
from edge_runtime.bundle.manifest_file import encode_manifest
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation.scoring import open_evaluation_stream, score_frames
from edge_runtime.sources import open_source
from export.half_precision import halve
from tests.kit.wording import missing, raises

pytestmark = pytest.mark.slow

Toy = Callable[[str], Bundle]

NORMAL = "synthetic:?clips=2&seed=50&frames=60&anomalies=off&width=64&height=48&fps=10"
STILL = "synthetic:?seed=50&frames=1&anomalies=off&width=64&height=48&fps=10"


def made(bundle: Bundle, method: str = "entropy", windows: int = 24, **settings: bool) -> Made:
    return make_int8(bundle, find_clips(NORMAL), Int8Settings(method, windows, **settings), None)


def files_of(bundle: Bundle) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bundle.path.iterdir()}


@pytest.mark.parametrize("name", ["one_pool", "two_banks", "three_pools"])
def test_every_model_gets_graphs_that_the_runtime_runs(name: str, toy: Toy) -> None:
    bundle = toy(name)
    made(bundle)
    now = Bundle.load(bundle.path)
    assert list(now.manifest.precisions) == ["fp32", "int8"]
    assert now.manifest.precisions["fp32"] == bundle.manifest.precisions["fp32"]
    quantisation = now.precision("int8").quantisation
    assert quantisation is not None and quantisation.share > 0 and sum(map(len, quantisation.windows.values())) == 24
    scores = {}
    for precision in ("fp32", "int8"):
        with Detector.open(now, precision=precision, backend="onnxruntime", device="cpu") as detector:
            clip = open_source(next(iter(find_clips(NORMAL))).uri, default_fps=10)
            [scores[precision]] = score_frames(detector, open_evaluation_stream(detector, is_learning=True), clip)
    psnr = [np.array([score.psnr_db for score in of_precision]) for of_precision in scores.values()]
    assert 0 < np.abs(psnr[0] - psnr[1]).max() < 0.5


def test_the_same_clips_and_seed_give_the_same_files(toy: Toy) -> None:
    bundle = toy("one_pool")
    made(bundle)
    first = files_of(bundle)
    made(Bundle.load(bundle.path))
    assert files_of(bundle) == first
    assert not [name for name in first if name.startswith(".")]


def test_what_is_not_a_convolution_keeps_its_type(toy: Toy) -> None:
    bundle = toy("one_pool")
    made(bundle)
    encoder, decoder = (onnx.load(bundle.path / f"{part}.int8.onnx") for part in ("encoder", "decoder"))
    for graph in (encoder, decoder):
        assert graph.opset_import[0].version == 17 and graph.ir_version == 8
    spec = Bundle.load(bundle.path).precision("int8").decoder
    assert {tensor.dtype for tensor in spec.outputs} == {"float32"}
    assert {"score/psnr_db", "score/regular_score", "score/local_error"} <= {value.name for value in decoder.graph.output}


def test_a_second_form_comes_with_fp16_graphs(toy: Toy) -> None:
    bundle = toy("one_pool")
    graphs = bundle.precision("fp32")
    halves = {}
    for part, spec in (("encoder", graphs.encoder), ("decoder", graphs.decoder)):
        half = halve(onnx.load_from_string(bundle.read(spec)), ["skip_1", "skip_2", "skip_3"])
        content = half.SerializeToString()
        (bundle.path / f"{part}.fp16.onnx").write_bytes(content)
        sides = tensor_specs(half.graph.input), tensor_specs(half.graph.output)
        halves[part] = GraphSpec(f"{part}.fp16.onnx", hashlib.sha256(content).hexdigest(), *sides)
    both = replace(bundle.manifest, precisions={"fp32": graphs, "fp16": replace(graphs, **halves)})
    (bundle.path / "manifest.json").write_bytes(encode_manifest(both))
    made(Bundle.load(bundle.path))
    typed = Bundle.load(bundle.path).precision("int8").strongly_typed
    assert typed is not None and (bundle.path / typed.encoder.file).name == "encoder.int8-fp16.onnx"
    assert onnx.load(bundle.path / typed.decoder.file).opset_import[0].version == 19


def test_an_interruption_leaves_a_whole_bundle(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = toy("one_pool")
    made(bundle)
    before = Bundle.load(bundle.path)
    written: list[Path] = []

    def interrupted(path: Path, content: bytes) -> None:
        if path.name == "decoder.int8.onnx":
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(content)

    monkeypatch.setattr(make, "write_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(before, method="minmax")
    assert [path.name for path in written] == ["manifest.json", "encoder.int8.onnx"]
    after = Bundle.load(bundle.path)
    assert list(after.manifest.precisions) == ["fp32"]
    for spec in (after.precision("fp32").encoder, after.precision("fp32").decoder):
        after.read(spec)


def test_the_costliest_nodes_stay_in_float_where_the_budget_asks_for_it(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WITHOUT_LABELS", {"psnr_change_db": 1e-4})
    found = made(toy("one_pool")).found
    assert not found.all_nodes.is_within_budget and found.cost.is_within_budget
    left = {node.node for node in found.by_node} - {name for _, name in found.nodes}
    assert left and found.nodes
    assert found.by_node == sorted(found.by_node, key=lambda node: -node.cost.score)


def test_a_budget_that_nothing_meets_leaves_all_in_float(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "WITHOUT_LABELS", {"rank_correlation": 2.0})
    assert made(toy("one_pool")).found.nodes == []


# bad footage


def test_too_few_windows_are_refused(toy: Toy) -> None:
    with raises(ConfigError, "8 … 0"):
        make_int8(toy("one_pool"), find_clips(STILL), Int8Settings(), None)
    with raises(ConfigError, "8 … 3"):
        made(toy("two_banks"), windows=3)


def test_windows_that_repeat_each_other_count_once(toy: Toy, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    (tmp_path / "clips" / "still").mkdir(parents=True)
    for i in range(40):
        cv2.imwrite(str(tmp_path / "clips" / "still" / f"{i:03}.png"), np.full((32, 32, 3), 99, np.uint8))
    with raises(ConfigError, "8 … 1 … 35"):
        make_int8(toy("one_pool"), find_clips(str(tmp_path / "clips")), Int8Settings(), None)


def test_windows_are_spread_over_time_and_the_same_each_time(toy: Toy) -> None:
    bundle, clips = toy("one_pool"), find_clips(NORMAL)
    chosen = choose_windows(bundle, clips, 16, seed=3)
    assert len(chosen) == 16 and chosen == choose_windows(bundle, clips, 16, seed=3)
    assert chosen != choose_windows(bundle, clips, 16, seed=4)
    for frames in chosen.frames.values():
        assert len(frames) >= 4 and list(frames) == sorted(set(frames))
        assert frames[0] < 30 < frames[-1]
    clip = chosen.clips[0]
    assert [frame for frame, _ in read_windows(bundle, clip, chosen.frames[clip.name])] == list(chosen.frames[clip.name])


def test_footage_with_something_odd_in_it_is_named() -> None:
    assert outliers([("a", 1.0 + i / 100) for i in range(20)] + [("b", 9.0)]) == {"b": 1}
    assert outliers([("a", 1.0)] * 9) == {}


def test_a_tensor_that_is_always_zero_keeps_its_node_in_float(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = Magnitudes.range
    monkeypatch.setattr(Magnitudes, "range", lambda self, method: 0.0 if "level2" in self._name else original(self, method))
    bundle = toy("one_pool")
    with caplog.at_level(logging.WARNING, logger="calibration"):
        made(bundle)
    quantisation = Bundle.load(bundle.path).precision("int8").quantisation
    assert quantisation is not None and any("level2" in name for name in quantisation.float_nodes["encoder"])
    assert not missing(caplog.text, quantisation.float_nodes["encoder"][0])


# the command


def test_the_command_says_what_it_did(toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = toy("one_pool")
    arguments = [
        "--bundle",
        str(bundle.path),
        "--data",
        NORMAL,
        "--windows",
        "16",
        "--method",
        "minmax",
        "--sensitivity",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    assert (tmp_path / "out" / "int8.png").stat().st_size > 0
    assert json.loads((tmp_path / "out" / "int8.json").read_text())["by_node"]
    said = capsys.readouterr().out
    assert not missing(said, "minmax … 16", "edge-report precision", "rank correlation … 0.99")
    assert "ConvTranspose" in said  # nodes by name
    assert json.loads((bundle.path / "manifest.json").read_text())["precisions"]["int8"]["quantisation"]["method"] == "minmax"


def test_clips_can_be_named(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = toy("one_pool")
    assert main(["--bundle", str(bundle.path), "--data", NORMAL, "--only", "gate"]) == 1
    assert not missing(capsys.readouterr().err, "gate", "synthetic-00")
