"""`make gpu-check` from end to end at toy size, on the stand-in driver, compiler and TensorRT, with PyTorch on the CPU.

Every line of it runs once. What it measures here means nothing, and must not get among the results.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from benchmarks.gpu_check.findings import Findings, read_findings
from benchmarks.gpu_check.machine import facts_of
from benchmarks.gpu_check.model import make_bundle
from benchmarks.gpu_check.packages import ESSENTIAL, missing_essentials, why_not
from benchmarks.gpu_check.plan import PlannedPart, plan
from benchmarks.gpu_check.process import Ended, run_part
from benchmarks.gpu_check.report import NotRun, Part, Report, results_file
from benchmarks.gpu_check.settings import FULL, TOY, decode_settings, encode_settings
from benchmarks.gpu_check.suite import SUITES
from benchmarks.rows import RESULTS, Row
from edge_runtime.devices.gpu import FoundGpu
from edge_runtime.errors import ConfigError
from export.engine.build_choice import EngineSettings
from tests.kit.commands import ROOT, Finished, environment
from tests.kit.engine_plans import STAND_IN as TENSORRT
from tests.kit.engine_plans import write_engine
from tests.kit.wording import missing, raises

pytestmark = pytest.mark.commands

GPU = "gpu-stand-in-gpu.json"

# Read by every Python that the check starts: work is done when it is queued, as the CPU in ONNX Runtime's place wants it.
STARTUP = """
import ctypes, sys

ctypes.CDLL("libcuda.so.1").standin_set(b"order", ctypes.c_int64(1))
sys.modules["tensorrt_rtx"] = None
if "benchmarks.gpu_check.part" in sys.orig_argv:
    from dataclasses import replace
    from edge_runtime.graphs import onnxruntime_cuda

    onnxruntime_cuda.TARGET = replace(
        onnxruntime_cuda.TARGET, provider="CPUExecutionProvider", memory="cpu", options={}, takes_stream=False
    )
"""

Check = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Begin a check on the stand-ins."""
    from tests.kit.cuda_driver.driver import library
    from tests.kit.cuda_driver.nvcc import write_nvcc

    startup, programs = tmp_path / "startup", tmp_path / "programs"
    startup.mkdir()
    programs.mkdir()
    (startup / "sitecustomize.py").write_text(STARTUP)
    write_nvcc(programs)
    left_out = ("PED2_DIR", "GPU_CHECK_BUNDLE")
    variables = {name: value for name, value in environment().items() if name not in left_out} | {
        "LD_LIBRARY_PATH": str(library().parent),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{startup}:{TENSORRT.parent}",
    }

    def begin(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.gpu_check", "--toy", *map(str, arguments)]
        return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return begin


def end_of(process: subprocess.Popen[str]) -> Finished:
    out, err = process.communicate(timeout=400)
    return Finished(process.returncode, out, err)


@pytest.mark.slow
@pytest.mark.stand_in
def test_the_whole_check_runs_and_its_figures_are_those_of_the_table(check: Check, tmp_path: Path) -> None:
    finished = end_of(check("--results", tmp_path, "--bundle", toy_bundle(tmp_path / "bundle")))
    found = json.loads((tmp_path / GPU).read_text())
    outcomes = {part["name"]: part["outcome"] for part in found["parts"]}
    absent = {name for name in outcomes if name.endswith("tensorrt-rtx")}
    assert outcomes == dict.fromkeys(outcomes, "done") | dict.fromkeys(absent, "not run"), finished.out
    assert len(absent) == 3
    assert (finished.code, finished.err) == (0, "")
    assert found["has_finished"] is True and found["failed_tests"] == []
    assert found["gpu"] == {"name": "stand-in GPU", "sm": 87} and found["versions"]["numpy"].startswith("numpy ")
    [because] = [thing["because"] for thing in found["not_run"] if thing["what"] == "engines of tensorrt-rtx"]
    assert not missing(because, "tensorrt-rtx-cu13 … ModuleNotFoundError … tensorrt_rtx")
    rows = {row["what"]: row for row in found["rows"]}
    assert len(rows) == len(found["rows"])  # each is said once
    assert all(row.keys() == {"what", "got", "reach", "unit", "better", "how"} and row["how"] for row in found["rows"])
    reaches = {row["what"]: (row["reach"], row["unit"], row["better"]) for row in found["rows"] if row["reach"] is not None}
    assert reaches == REACHES
    for what in (what for what in reaches if what.startswith(("CUDA", "tensorrt, allocations", "onnxruntime, allocations"))):
        assert rows[what]["got"] <= rows[what]["reach"], rows[what]
    assert 0 < rows["tensorrt, picture to the GPU"]["got"] < 1e3 * rows["tensorrt, single frame"]["got"]
    assert rows["PyTorch eager, TF32 on, frame beside tensorrt"]["got"] > 0


REACHES: dict[str, tuple[float, str, str]] = {
    **{f"CUDA against NumPy, items ({rule})": (1e-4, "abs", "lower") for rule in ("ema", "mnad")},
    **{f"CUDA against NumPy, gate decisions that differ ({rule})": (0, "frames", "lower") for rule in ("ema", "mnad")},
    **{f"CUDA, two runs, frames with a differing bit ({rule})": (0, "frames", "lower") for rule in ("ema", "mnad")},
    "memory step 16x8 queries float32, 3 items, replayed": (30.0, "µs", "lower"),
}
for backend in ("tensorrt", "onnxruntime"):
    REACHES |= {
        f"{backend}, frames per second pipelined ÷ engines alone": (0.9, "ratio", "higher"),
        f"{backend}, single frame − engines alone": (150.0, "µs", "lower"),
        f"{backend}, allocations in steady state": (0, "calls", "lower"),
        f"{backend}, device memory taken in steady state": (0, "MB", "lower"),
        f"{backend}, growth of resident host memory in steady state": (1.0, "MB", "lower"),
        f"PyTorch eager, TF32 on ÷ frame through {backend}": (3.0, "ratio", "higher"),
        f"PyTorch eager, TF32 off ÷ frame through {backend}": (5.0, "ratio", "higher"),
        f"torch.compile fp16 ÷ frame through {backend}": (1.2, "ratio", "higher"),
        f"torch.compile fp16, reduce-overhead ÷ frame through {backend}": (1.2, "ratio", "higher"),
    }
    for variant in ("PyTorch eager, TF32 on", "PyTorch eager, TF32 off", "torch.compile fp16", "torch.compile fp16, reduce-overhead"):
        REACHES[f"{variant} against {backend}, difference of PSNR"] = (0.1, "dB", "lower")


@pytest.mark.stand_in
def test_a_check_that_runs_out_of_time_leaves_what_it_had(check: Check, tmp_path: Path) -> None:
    finished = end_of(check("--results", tmp_path, "--time-limit-s", 1))
    found = json.loads((tmp_path / GPU).read_text())
    assert finished.code == 1
    assert found["has_finished"] is True
    assert [part["outcome"] for part in found["parts"]] == ["not run"] * len(found["parts"])
    assert not missing(found["not_run"][0]["because"], "time limit … 5 s")


@pytest.mark.stand_in
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_check_that_is_ended_takes_its_part_with_it(number: signal.Signals, code: int, check: Check, tmp_path: Path) -> None:
    process = check("--results", tmp_path)
    assert process.stdout is not None
    first = [process.stdout.readline() for _ in range(2)]  # the GPU, then the part that begins
    assert first[1].endswith("…\n")
    [part] = wait_for(lambda: children_of(process.pid))
    process.send_signal(number)
    assert end_of(process).code == code
    wait_for(lambda: has_ended(part))
    found = json.loads((tmp_path / GPU).read_text())
    assert (found["has_finished"], found["parts"]) == (False, [])


@pytest.mark.stand_in
def test_figures_of_a_stand_in_do_not_get_among_the_results(check: Check) -> None:
    finished = end_of(check("--results", RESULTS))
    assert finished.code == 1
    assert not missing(finished.err, "error: gpu-check … 'stand-in GPU' … figures")
    assert not (RESULTS / GPU).exists()


def test_without_a_gpu_one_line_says_so() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check"], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 1
    assert process.stderr.startswith("error: gpu-check: ") and process.stderr.count("\n") == 1
    assert not missing(process.stderr, "NVIDIA GPU … nvidia-smi … edge-doctor")


def test_all_that_is_missing_is_named_at_once() -> None:
    assert missing_essentials(lambda module: None) is None
    message = missing_essentials(lambda module: "No such thing" if module in {"msgspec", "cv2", "pycuda"} else None)
    assert message is not None
    assert not missing(message, "msgspec (No such thing), cv2 (No such thing), pycuda (No such thing)")
    assert message.endswith("pip install msgspec opencv-python-headless pycuda")


def test_packages_are_looked_for_before_anything_else_is_imported(tmp_path: Path) -> None:
    """With none of them importable, the message comes all the same."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({[package.module for package in ESSENTIAL]}))"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    command = [sys.executable, "-m", "benchmarks.gpu_check"]
    variables = environment() | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith("error: gpu-check: ") and not missing(process.stderr, "modules … numpy")
    assert process.stderr.count("\n") == 1 and "pip install numpy msgspec" in process.stderr


def test_a_package_that_lacks_what_it_needs_or_crashes_is_not_taken_for_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnx without protobuf."""
    (tmp_path / "planted_half.py").write_text("import planted_protobuf")
    (tmp_path / "planted_crash.py").write_text("import os; os.abort()")
    (tmp_path / "planted_whole.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert why_not("planted_whole") is None
    assert why_not("planted_half") == "ModuleNotFoundError: No module named 'planted_protobuf'"
    assert not missing(str(why_not("planted_crash")), "signal 6")
    [part] = [part for part in plan(FULL) if part.name == "model"]
    lacking = part.missing(lambda module: why_not("planted_half") if module == "onnx" else None)
    assert {package.pip: reason for package, reason in lacking.items()} == {"onnx": why_not("planted_half")}


def test_a_part_that_crashes_or_hangs_is_told_from_one_that_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it found until then is kept."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcomes = {}
    for name, body in {
        "crash": f"findings.not_run('a', 'b'); os.kill(os.getpid(), {int(signal.SIGSEGV)})",
        "hang": "print('here', flush=True); findings.not_run('a', 'b'); subprocess.run(['sleep', '600'])",
        "raise": "raise ValueError('no')",
        "lack": "raise BackendUnavailable('no compiler here')",
        "pass": "findings.row('a', 1.0, None, 's', 'lower', 'so')",
    }.items():
        (tmp_path / "sitecustomize.py").write_text(PLANTED.format(name=name, body=body))
        outcomes[name] = run_part(name, encode_settings(TOY), tmp_path, 20.0 if name != "hang" else 3.0)
    assert {name: ended.outcome for name, ended in outcomes.items()} == {
        "crash": "failed",
        "hang": "out of time",
        "raise": "failed",
        "lack": "not run",
        "pass": "done",
    }
    assert not missing(outcomes["crash"].text, "signal 11")
    assert "ValueError: no" in outcomes["raise"].text and not missing(outcomes["raise"].text, "code 1")
    assert outcomes["lack"].text == "no compiler here"
    assert outcomes["hang"].text.startswith("here")
    assert outcomes["pass"].text == ""
    for name in ("crash", "hang"):
        assert read_findings(tmp_path / f"{name}.jsonl").not_run == [NotRun("a", "b")]
    assert read_findings(tmp_path / "pass.jsonl").rows == [Row("a", 1.0, None, "s", "lower", "so")]


PLANTED = """
import sys
import types

def measure(settings, work, findings):
    import os, subprocess
    from edge_runtime.errors import BackendUnavailable
    {body}

if "benchmarks.gpu_check.part" in sys.orig_argv:
    module = types.ModuleType("benchmarks.gpu_check.{name}")
    module.measure = measure
    sys.modules[module.__name__] = module
"""


def test_a_suite_tells_every_failure_and_every_reason_for_a_skip(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(SUITE)
    script = (
        "import sys; from pathlib import Path; from benchmarks.gpu_check import suite; from benchmarks.gpu_check.findings import Findings\n"
        "suite.SUITES['hardware'] = [sys.argv[1]]\n"
        "suite.measure(None, Path(sys.argv[1]), Findings(Path(sys.argv[1]) / 'found.jsonl'), 'hardware')"
    )
    # The checkout's configuration, the planted tests: as if they lay in tests/.
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    found = read_findings(tmp_path / "found.jsonl")
    assert [(row.what, row.got) for row in found.rows] == [
        ("a figure", 7),
        ("hardware suite, tests that failed", 2),
        ("hardware suite, tests that passed", 1),
    ]
    assert found.not_run == [NotRun("1 tests of the hardware suite", "not for today")]
    failed = {failure["test"].rpartition("::")[2]: failure["text"] for failure in found.failures}
    assert "assert 1 == 2" in failed["test_that_fails"]
    assert "--require=gpu: not here: an NVIDIA GPU that answers" in failed["test_that_needs_a_gpu"]


SUITE = """
import pytest

def test_that_passes(record_property): record_property("row", ("a figure", 7, "frames", "so"))
def test_that_fails(): assert 1 == 2
def test_that_is_skipped(): pytest.skip("not for today")
@pytest.mark.stand_in
def test_on_a_stand_in(): assert False
@pytest.mark.gpu
def test_that_needs_a_gpu(): pass
"""


def test_the_file_is_written_anew_after_every_part(tmp_path: Path) -> None:
    report = Report(results_file("NVIDIA H100 80GB HBM3", tmp_path), {"gpu": {"name": "x"}}, 510.0)
    assert report.path == tmp_path / "gpu-nvidia-h100-80gb-hbm3.json"
    report.add([Row("a", float("nan"), 1.0, "s", "lower", "so")], [NotRun("b", "c")])
    report.parts.append(Part("one", "done", 1.5))
    report.write()
    first = json.loads(report.path.read_text())
    assert first["rows"] == [{"what": "a", "got": "nan", "reach": 1.0, "unit": "s", "better": "lower", "how": "so"}]
    assert (first["has_finished"], first["gpu"]) == (False, {"name": "x"})
    assert not report.has_failed
    report.parts.append(Part("two", "out of time", 9.0, "text"))
    report.write()
    assert json.loads(report.path.read_text())["parts"][1] == {"name": "two", "outcome": "out of time", "seconds": 9.0, "text": "text"}
    assert report.has_failed and list(tmp_path.iterdir()) == [report.path]


@pytest.mark.parametrize(("left_s", "outcome", "has_failed"), [(60.0, "cut short", False), (400.0, "out of time", True)])
def test_a_part_that_the_whole_checks_time_ends_is_no_failure(
    left_s: float, outcome: str, has_failed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_module = importlib.import_module("benchmarks.gpu_check.check")
    monkeypatch.setattr(check_module, "run_part", lambda name, settings, work, limit_s: Ended("out of time", limit_s, "so far"))
    report = Report(tmp_path / "gpu.json", {}, 510.0, parts=[Part("kernels", "done", 1.0)])
    check_module._run(PlannedPart("suite:detector", "the detector suite", 300, 30), report, TOY, tmp_path, left_s)
    assert (report.parts[-1].outcome, report.has_failed) == (outcome, has_failed)
    assert [unrun.what for unrun in report.not_run] == ([] if has_failed else ["the detector suite"])
    assert all(not missing(unrun.because, "60 s") for unrun in report.not_run)


def test_engines_are_built_in_no_suite_but_their_own() -> None:
    """They take minutes on a small device; what needs none is told before."""
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q"]
    hardware, detector = (
        subprocess.run(
            [*collect, *SUITES[name]], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=True
        ).stdout
        for name in ("hardware", "detector")
    )
    assert "test_memory_on_gpu.py" in hardware and "test_detector_on_gpu.py" not in hardware
    assert "test_detector_on_gpu.py" in detector
    assert {f"suite:{name}" for name in SUITES} <= {part.name for part in plan(FULL)}


def test_the_compiler_is_the_one_that_compiles_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 99.1, V99.1.0'\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    assert facts_of(FoundGpu("a GPU", 87))["cuda"] == {"nvcc": "99.1"}


@pytest.mark.parametrize("name", ["stand-in GPU", "Orin (Stand-In)"])
def test_a_stand_in_has_no_results_file(name: str, tmp_path: Path) -> None:
    assert results_file(name, tmp_path).parent == tmp_path
    with raises(ConfigError, f"'{name}' … --results"):
        results_file(name, RESULTS / ".." / "results")


def test_the_plan_leaves_room_for_every_part_and_needs_no_network() -> None:
    parts = plan(FULL)
    names = [part.name for part in parts]
    assert len(set(names)) == len(names)
    for position, part in enumerate(parts):
        assert set(part.after) <= set(names[:position])
        assert 0 < part.least_s <= part.limit_s < 510
    assert not any("onnx" in part.needs for part in plan(replace(FULL, bundle="/carried")) if part.name == "model")


def test_settings_travel_whole() -> None:
    for settings in (FULL, TOY, replace(FULL, footage="/a b", bundle="c")):
        assert decode_settings(encode_settings(settings)) == settings


def test_findings_that_break_off_in_a_line_are_read_up_to_it(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    Findings(path).not_run("a", "b")
    with open(path, "a") as file:
        file.write('{"row": {"what": "c"')
    assert read_findings(path).not_run == [NotRun("a", "b")]
    assert read_findings(tmp_path / "none").rows == []


@pytest.mark.parametrize("has_venv", [True, False])
def test_make_takes_the_environment_that_is_there_and_installs_nothing(has_venv: bool, tmp_path: Path) -> None:
    if has_venv:
        (tmp_path / ".venv").mkdir()
        (tmp_path / ".venv" / "ready").touch()
    command = ["make", "-n", "-f", ROOT / "Makefile", "gpu-check", "PYTHON=python9", "GPU_CHECK_FLAGS=--debug"]
    printed = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=True).stdout
    assert printed == f"{'.venv/bin/python' if has_venv else 'python9'} -m benchmarks.gpu_check --debug\n"


def toy_bundle(folder: Path) -> Path:
    """The toy size of the full-size model, with an engine of the stand-in for TensorRT, as if built on the stand-in GPU."""
    bundle = make_bundle(TOY, folder)
    sheet_path = write_engine(bundle, "fp16", sm=87, gpu="stand-in GPU") / "engine.json"
    sheet: dict[str, Any] = json.loads(sheet_path.read_text())
    sheet_path.write_text(json.dumps(sheet | {"settings": asdict(EngineSettings())}))
    return folder


def wait_for(find: Callable[[], Any]) -> Any:
    deadline = monotonic() + 30
    while not (found := find()):
        assert monotonic() < deadline
    return found


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def has_ended(pid: int) -> bool:
    """Gone, or nothing but an entry that nobody has read yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True
