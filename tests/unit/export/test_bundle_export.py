from __future__ import annotations

import copy
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.numpy
import torch

from calibration.box_anomalies import PAUSE_S
from edge_runtime import Bundle, Detector, open_source
from edge_runtime.errors import BundleError, ConfigError, SinkError
from edge_runtime.preprocess import InputSpec
from edge_runtime.score import Score
from export import __main__ as export_command
from export import fast_convolutions
from export.bundle import BundleSettings, Run, load_run, make_bundle
from export.bundle_folder import remove_killed_exports, work_folder
from export.parity import check_parity, parity
from export.tolerances import PARITY
from tests.kit.commands import command_line, environment, error_of, run_module
from tests.kit.one_thread import one_thread
from tests.kit.wording import missing, raises
from train.config import OptimiserConfig, TrainConfig, parse_config
from train.data import CALIBRATION_S, Batch
from train.loop import train
from train.memory import Memory
from train.mnad import MemoryConfig, MnadSections, NetworkConfig

pytestmark = pytest.mark.trains

__all__ = ["one_thread"]  # a fixture holds where its name stands

SCENE = "synthetic:?width=64&height=64&anomalies=off&"
CONFIG = TrainConfig(
    name="tiny",
    input=InputSpec(frames=4, target=4, channels=1, height=32, width=32),
    model="mnad_prediction",
    sections=MnadSections(NetworkConfig(width=2), MemoryConfig(items=4)),
    optimiser=OptimiserConfig(learning_rate=2e-3, batch_size=16, epochs=1),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tiny run on three clips of eight seconds."""
    return _trained(CONFIG, 120, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def too_short(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose held-out clip is too short to calibrate on: no bundle can be made from it."""
    return _trained(CONFIG, 30, tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="module")
def original(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of that run; not to be changed."""
    return make_bundle(run, tmp_path_factory.mktemp("export") / "bundle", BundleSettings())


@pytest.fixture(scope="module")
def without_memory(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of a model without memory; not to be changed."""
    folder = tmp_path_factory.mktemp("without-memory")
    run = _trained(replace(CONFIG, sections=replace(CONFIG.sections, memory=MemoryConfig(items=0))), 120, folder / "run")
    return make_bundle(run, folder / "bundle", BundleSettings(precisions=("fp32",)))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of half the paper's width: its widest convolutions have a fast form."""
    return _trained(replace(CONFIG, sections=replace(CONFIG.sections, model=NetworkConfig(width=32))), 120, tmp_path_factory.mktemp("wide"))


@pytest.fixture
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of any size are worth fast convolutions."""
    monkeypatch.setattr(fast_convolutions, "FEWEST_MULTIPLICATIONS", 0)


@pytest.fixture
def bundle(original: Bundle, tmp_path: Path) -> Bundle:
    """A copy, to do with as one likes."""
    return Bundle.load(shutil.copytree(original.path, tmp_path / "bundle"))


def test_a_bundle_has_its_six_files_and_all_are_what_the_manifest_says(original: Bundle) -> None:
    assert {path.name for path in original.path.iterdir()} == {
        "manifest.json",
        "memory.safetensors",
        *(f"{part}.{precision}.onnx" for part in ("encoder", "decoder") for precision in ("fp32", "fp16")),
    }
    for precision in original.manifest.precisions.values():
        assert original.read(precision.encoder) and original.read(precision.decoder)
    assert Bundle.load(original.path) == original


def test_the_memory_is_that_of_the_best_model(run: Run, original: Bundle) -> None:
    items = run.memory.items["memory"].numpy()
    assert np.array_equal(original.read_items()["memory"], items)
    assert np.linalg.norm(items, axis=1) == pytest.approx(np.ones(4), abs=1e-6)


def test_the_manifest_says_how_the_model_was_trained(original: Bundle) -> None:
    manifest = original.manifest
    assert (manifest.name, manifest.model.name, manifest.input, manifest.fps) == ("tiny", "mnad_prediction", CONFIG.input, 15.0)
    assert manifest.model.configuration["optimiser"]["epochs"] == 1
    assert parse_config(dict(manifest.model.configuration), "manifest.json") == CONFIG
    assert (manifest.update.write_scale, manifest.update.rate, manifest.update.drift_limit) == ("all", 0.01, 0.25)
    [pool] = manifest.pools
    assert (pool.name, pool.query, pool.read, pool.addressing, pool.update) == ("memory", "query", "read", "softmax", "ema")


def test_the_held_out_clips_are_named(original: Bundle) -> None:
    provenance = original.manifest.provenance
    assert provenance["held_out_clips"] == ["synthetic-01"]
    assert provenance["training_clips"] == ["synthetic-00", "synthetic-02"]
    assert provenance["exported_with"]["opset"] == 17
    assert provenance["trained_with"]["torch"] == str(torch.__version__)


def test_what_weights_come_from_is_named_without_the_paths_of_this_machine(run: Run, tmp_path: Path) -> None:
    segments = [{"name": "gate-1", "uri": "/home/somebody/gate-1.mp4", "start": 0, "stop": 9}]
    first = {"run": "/home/somebody/first", "sha256": "1", "epoch": 7, "configuration": {}, "training": segments, "started_from": None}
    second = first | {"run": "/home/somebody/second", "sha256": "2", "started_from": first}
    fine = replace(run, facts=run.facts | {"started_from": second})
    made = make_bundle(fine, tmp_path / "bundle", BundleSettings(precisions=("fp32",)))
    origin = made.manifest.provenance["started_from"]
    assert (origin["run"], origin["sha256"], origin["epoch"], origin["training_clips"]) == ("second", "2", 7, ["gate-1"])
    assert (origin["started_from"]["run"], origin["started_from"]["started_from"]) == ("first", None)
    assert "somebody" not in (made.path / "manifest.json").read_text()


def test_parity_is_recorded_and_small(original: Bundle) -> None:
    for name, precision in original.manifest.precisions.items():
        tensors = [tensor.name for graph in (precision.encoder, precision.decoder) for tensor in graph.outputs]
        assert set(precision.parity) == set(tensors)
        assert precision.parity["prediction"] <= PARITY[name]
    assert max(original.manifest.precisions["fp32"].parity.values()) <= 1e-4


def test_a_wide_network_gets_fast_graphs_that_say_what_the_model_says(wide: Run, of_any_size: None, tmp_path: Path) -> None:
    made = make_bundle(wide, tmp_path / "bundle", BundleSettings())
    fp32 = made.precision("fp32")
    assert fp32.fast is not None and made.precision("fp16").fast is None
    assert (fp32.fast.encoder.file, fp32.fast.decoder.file) == ("encoder.fp32-fast.onnx", "decoder.fp32-fast.onnx")
    assert made.read(fp32.fast.encoder) and made.read(fp32.fast.decoder)
    assert set(fp32.fast.parity) == set(fp32.parity) and fp32.fast.parity != fp32.parity
    assert 0 < fp32.fast.parity["prediction"] <= PARITY["fp32"]
    plain = replace(made, manifest=replace(made.manifest, precisions={"fp32": replace(fp32, fast=None)}))
    scored, wanted = (_score(Detector.open(form, device="cpu")) for form in (made, plain))
    assert [score.psnr_db for score in scored] == pytest.approx([score.psnr_db for score in wanted], abs=1e-3)
    assert [score.score for score in scored] == pytest.approx([score.score for score in wanted], abs=1e-2)


def test_fast_graphs_too_far_off_are_no_bundle(wide: Run, of_any_size: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tuple((*sums[:5], sums[5] + (i == 5)) for i, sums in enumerate(fast_convolutions.INPUT_SUMS))
    monkeypatch.setattr(fast_convolutions, "INPUT_SUMS", wrong)
    with raises(BundleError, "fast fp32 … 'prediction' … 0.0001 … --no-fast-graphs"):
        make_bundle(wide, tmp_path / "bundle", BundleSettings())
    assert not (tmp_path / "bundle").exists()


def test_fast_graphs_can_be_left_out(wide: Run, of_any_size: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["export", "--run", str(wide.path), "--out", str(tmp_path / "bundle"), "--no-fast-graphs", "--precisions", "fp32"]
    monkeypatch.setattr("sys.argv", command)
    assert export_command.main() == 0
    assert Bundle.load(tmp_path / "bundle").precision("fp32").fast is None
    assert len(list((tmp_path / "bundle").iterdir())) == 4


@pytest.mark.parametrize(
    ("name", "value"), [("update_rate", 5.0), ("update_rate", 0.0), ("drift_limit", float("nan")), ("drift_limit", 2.1)]
)
def test_what_the_manifest_would_not_take_is_refused_before_the_work(name: str, value: float) -> None:
    with raises(ConfigError, f"{name} … 0 … {1 if name == 'update_rate' else 2} … {value}"):
        BundleSettings(**{name: value})


def test_graphs_that_give_nan_do_not_pass_for_equal(run: Run, original: Bundle) -> None:
    spec = CONFIG.input
    window = torch.zeros(1, spec.frames, spec.channels, spec.height, spec.width)
    targets = (torch.full_like(window[:, 0], float("nan")), torch.zeros_like(window[:, 0]))
    batches = [Batch(window, target, torch.zeros(1, dtype=torch.bool)) for target in targets]
    differences = parity(original, original.precision("fp32"), run.model, run.memory, batches)
    assert np.isnan(differences["score/psnr_db"])
    with pytest.raises(BundleError, match="'score/"):
        check_parity(differences, "fp32")


@pytest.mark.parametrize("difference", [2e-4, float("nan")])
def test_a_prediction_too_far_off_is_refused(difference: float) -> None:
    with raises(BundleError, "fp32 … 'prediction' … 0.0001 … --precisions fp32"):
        check_parity({"prediction": difference}, "fp32")


def test_every_precision_is_calibrated(original: Bundle) -> None:
    assert 0 < original.manifest.gate.limit < 1
    for precision in original.manifest.precisions.values():
        assert precision.score_scale.quantity == "local_error"
        assert len(precision.score_scale.knots) == 65
        assert precision.threshold.score > 0
        assert precision.threshold.is_extrapolated  # eight seconds cannot show one alarm an hour
    assert original.manifest.precisions["fp32"].verdict == "The reference."


def test_fp16_scores_like_fp32(original: Bundle) -> None:
    exact, half = (_score(Detector.open(original, precision=name)) for name in ("fp32", "fp16"))
    assert len(exact) == len(half) == 26
    assert [score.psnr_db for score in half] == pytest.approx([score.psnr_db for score in exact], abs=0.1)
    assert [score.local_error for score in half] == pytest.approx([score.local_error for score in exact], rel=0.05)


def test_the_detector_learns_with_the_exported_memory(original: Bundle) -> None:
    scores = _score(Detector.open(original))
    assert any(score.memory_updated for score in scores)
    assert scores[-1].memory.drift > 0
    assert all(score.query_distance is not None and score.query_distance > 0 for score in scores)


def test_a_name_and_fp32_alone_can_be_asked_for(run: Run, tmp_path: Path) -> None:
    made = make_bundle(run, tmp_path / "bundle", BundleSettings(name="gate", precisions=("fp32",), update="none"))
    assert (made.manifest.name, list(made.manifest.precisions), made.manifest.pools[0].update) == ("gate", ["fp32"], "none")
    assert not any(score.memory_updated for score in _score(Detector.open(made)))


def test_a_bundle_there_is_replaced_and_its_model_card_kept(run: Run, bundle: Bundle) -> None:
    (bundle.path / "README.md").write_text("# Gate\n")
    (bundle.path / "left-over.onnx").write_bytes(b"old")
    made = make_bundle(run, bundle.path, BundleSettings(name="gate", precisions=("fp32",)))
    assert made.manifest.name == "gate"
    assert (bundle.path / "README.md").read_text() == "# Gate\n"
    assert not (bundle.path / "left-over.onnx").exists()
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_a_bundle_there_survives_a_failing_export(too_short: Run, bundle: Bundle) -> None:
    before = _content(bundle.path)
    with raises(ConfigError, "calibration … 6 s"):
        make_bundle(too_short, bundle.path, BundleSettings())
    assert _content(bundle.path) == before
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_a_bundle_there_survives_if_the_new_one_cannot_take_its_place(bundle: Bundle) -> None:
    before = _content(bundle.path)
    with work_folder(bundle.path) as work:
        work.draft.rmdir()
        with raises(SinkError, str(bundle.path)):
            work.put_in_place()
    assert _content(bundle.path) == before
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_a_bundle_there_survives_an_interruption_while_it_is_moved(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _content(bundle.path)
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "bundle" and target == bundle.path:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with work_folder(bundle.path) as work, pytest.raises(KeyboardInterrupt):
        work.put_in_place()
    assert _content(bundle.path) == before
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_a_bundle_that_a_killed_export_moved_aside_is_put_back(too_short: Run, bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    before = _content(bundle.path)
    left = bundle.path.with_name(".bundle.0123abcd")
    (left / "bundle").mkdir(parents=True)
    bundle.path.rename(left / "before")
    with raises(ConfigError, "calibration … 6 s"):
        make_bundle(too_short, bundle.path, BundleSettings())
    assert _content(bundle.path) == before
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]
    assert not missing(caplog.text, str(bundle.path))


def test_where_a_killed_export_had_put_the_new_bundle_the_old_one_goes(bundle: Bundle) -> None:
    before = _content(bundle.path)
    left = bundle.path.with_name(".bundle.0123abcd")
    (left / "before").mkdir(parents=True)
    remove_killed_exports(bundle.path)
    assert _content(bundle.path) == before
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_what_a_living_export_drafts_stays_and_so_does_what_belongs_to_others(tmp_path: Path) -> None:
    others = {tmp_path / name for name in (".gate.0123abcd", ".bundle", ".bundle.original", ".bundle.0123abcd.old")}
    for other in others:
        other.mkdir()
    (tmp_path / ".bundle.0123abcd").touch()  # a file
    with work_folder(tmp_path / "bundle") as work:
        remove_killed_exports(tmp_path / "bundle")
        assert work.draft.is_dir()
        assert set(tmp_path.iterdir()) == others | {work.draft.parent, tmp_path / ".bundle.0123abcd"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_export_that_is_ended_leaves_the_bundle_there_and_nothing_else_for_long(
    run: Run, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, number: signal.Signals
) -> None:
    before = _content(bundle.path)
    endless = _with_endless_held_out_clip(run, tmp_path_factory.mktemp("endless") / "run")
    command = command_line("export", "--run", endless, "--out", bundle.path, "--precisions", "fp32")
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("calibrating on" in line for line in process.stderr)
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert _content(bundle.path) == before
    if number == signal.SIGKILL:
        assert [path.name[:8] for path in bundle.path.parent.iterdir() if path != bundle.path] == [".bundle."]
        remove_killed_exports(bundle.path)
    else:
        assert process.returncode == 130, err
        assert err.splitlines()[-1] == "interrupted" and "Traceback" not in err
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_a_failing_export_leaves_nothing(too_short: Run, tmp_path: Path) -> None:
    with raises(ConfigError, "calibration … 6 s"):
        make_bundle(too_short, tmp_path / "bundle", BundleSettings())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_something_that_is_no_bundle_is_not_replaced(run: Run, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "photos")
    with raises(ConfigError, str(tmp_path / "photos"), "OUT="):
        make_bundle(run, tmp_path / "photos", BundleSettings())
    assert (tmp_path / "photos").exists()


@pytest.mark.parametrize("out", ["taken/bundle", "taken/a/bundle"])
def test_a_place_under_a_file_is_a_sink_error(run: Run, tmp_path: Path, out: str) -> None:
    (tmp_path / "taken").touch()
    with raises(SinkError, str(tmp_path / out), "Not a directory"):
        make_bundle(run, tmp_path / out, BundleSettings())


def test_held_out_footage_that_became_shorter_is_one_line(tmp_path: Path) -> None:
    video = tmp_path / "gate.avi"
    _write_video(video, frames=60)
    train(CONFIG, str(video), tmp_path / "run")
    _write_video(video, frames=40)
    finished = run_module("export", "--run", tmp_path / "run", "--out", tmp_path / "bundle")
    assert not missing(error_of(finished), str(video), "48 … 59 … 0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate.avi", "run"]


def test_training_asks_for_held_out_clips_in_which_a_pseudo_anomaly_begins_for_certain() -> None:
    assert PAUSE_S[1] < CALIBRATION_S


def test_a_model_without_memory_works_end_to_end(without_memory: Bundle) -> None:
    assert without_memory.manifest.pools == ()
    assert safetensors.numpy.load(without_memory.read(without_memory.manifest.memory)) == {}
    scores = _score(Detector.open(without_memory))
    assert len(scores) == 26
    assert all(score.query_distance is None and score.memory is None and not score.memory_updated for score in scores)
    assert all(score.psnr_db > 0 for score in scores)


def test_two_streams_without_memory_go_through_in_one_step(without_memory: Bundle) -> None:
    detector = Detector.open(without_memory)
    alone = _score(detector)
    streams = [detector.open_stream(name) for name in ("gate", "yard")]
    rows = [detector.step([(stream, frame) for stream in streams]) for frame in open_source(SCENE + "frames=30&seed=9")]
    for column in zip(*rows[4:], strict=True):
        assert [step.score.local_error for step in column if step.score] == pytest.approx([score.local_error for score in alone], rel=1e-4)


def test_a_folder_without_a_run_says_to_train(tmp_path: Path) -> None:
    with raises(ConfigError, str(tmp_path), "run.json … No such file or directory … make train"):
        load_run(tmp_path)


def test_a_run_without_a_model_yet_says_to_train(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(run.facts))
    with raises(ConfigError, str(tmp_path / "best.safetensors"), "make train"):
        load_run(tmp_path)


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_broken_run_says_to_train(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with raises(ConfigError, str(tmp_path), "run.json … make train"):
        load_run(tmp_path)


def test_weights_of_another_network_are_refused(run: Run, tmp_path: Path) -> None:
    shutil.copy(run.path / "best.safetensors", tmp_path)
    wider = run.facts["configuration"] | {"model": {"name": "mnad_prediction", "width": 4}}
    (tmp_path / "run.json").write_text(json.dumps(run.facts | {"configuration": wider}))
    with raises(ConfigError, str(tmp_path), "memory.items … (4, 32) … (4, 16)"):
        load_run(tmp_path)


def test_so_are_those_of_another_network_with_the_same_memory(run: Run, tmp_path: Path) -> None:
    shutil.copy(run.path / "best.safetensors", tmp_path)
    longer = run.facts["configuration"] | {"input": run.facts["configuration"]["input"] | {"frames": 3, "target": 3}}
    (tmp_path / "run.json").write_text(json.dumps(run.facts | {"configuration": longer}))
    with raises(ConfigError, str(tmp_path), "run.json"):
        load_run(tmp_path)


def test_pools_of_two_write_scales_are_no_manifest(run: Run, tmp_path: Path) -> None:
    [pool] = run.model.pools
    model = copy.copy(run.model)
    model.pools = (pool, replace(pool, name="other", write_scale="claimed"))
    memory = Memory(model.pools, torch.Generator())
    with raises(ConfigError, "write_scale … all … claimed"):
        make_bundle(replace(run, model=model, memory=memory), tmp_path / "bundle", BundleSettings(precisions=("fp32",)))
    assert list(tmp_path.iterdir()) == []


def _trained(config: TrainConfig, frames: int, out: Path) -> Run:
    train(config, SCENE + f"clips=3&frames={frames}", out)
    return load_run(out)


def _score(detector: Detector) -> list[Score]:
    """Thirty frames of a seed that training has not seen: four of them fill the window."""
    stream = detector.open_stream()
    scored = [detector.step([(stream, frame)])[0].score for frame in open_source(SCENE + "frames=30&seed=9")]
    return [score for score in scored if score is not None]


def _with_endless_held_out_clip(run: Run, copy: Path) -> Path:
    """A copy of a run that no export comes to the end of."""
    shutil.copytree(run.path, copy)
    [clip] = run.facts["held_out"]
    clip = clip | {"uri": clip["uri"].replace("frames=120", "frames=10000000"), "stop": 10_000_000}
    (copy / "run.json").write_text(json.dumps(run.facts | {"held_out": [clip]}))
    return copy


def _write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 15, (64, 64))
    for i in range(frames):
        writer.write(np.full((64, 64, 3), i, np.uint8))
    writer.release()


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
