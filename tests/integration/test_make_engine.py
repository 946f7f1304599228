"""`make engine` and `edge-run --backend tensorrt…` as a user types them; without a GPU, so with TensorRT-RTX."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.engines import ENGINES, make_command
from tests.kit.commands import ROOT, Finished, edge_run, environment, error_of, run_module
from tests.kit.wording import missing

pytestmark = pytest.mark.commands

Toy = Callable[[str], Bundle]

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # what is built here is not run, also where it could be


def make(*arguments: str, folder: Path = ROOT) -> Finished:
    """Run make with this Python's environment in the place of .venv, and no GPU."""
    there = ["-o", ".venv/ready", "-o", ".venv/tensorrt", f"run_bin={Path(sys.executable).parent}"]
    variables = environment() | NO_GPU
    process = subprocess.run(
        ["make", *arguments, *there], cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    return Finished(process.returncode, process.stdout, process.stderr)


@pytest.fixture
def ped2(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "bundles/ped2-lite", tmp_path / "ped2-lite", ignore=shutil.ignore_patterns(ENGINES)))


def test_it_builds_once_and_says_that_it_was_not_run(ped2: Path) -> None:
    first = make("engine", f"BUNDLE={ped2}")
    assert first.code == 0, first.err
    [folder] = (ped2 / ENGINES).iterdir()
    assert folder.name.endswith("-fp16")
    assert f"built {folder} with TensorRT-RTX" in first.out
    assert "encoder.plan: 1." in first.out and "MB from encoder.fp16.onnx" in first.out
    assert not missing(first.out, "NVIDIA GPU … not run")
    assert json.loads((folder / "engine.json").read_text())["check"]["was_run"] is False
    before = (folder / "decoder.plan").stat().st_mtime_ns
    again = make("engine", f"BUNDLE={ped2}")
    assert (again.code, f"kept {folder}" in again.out) == (0, True)
    assert (folder / "decoder.plan").stat().st_mtime_ns == before
    anew = make("engine", f"BUNDLE={ped2}", "REBUILD=1", "DATA=rtsp://me:secret@gate/")
    assert (anew.code, "built" in anew.out) == (0, True)
    assert not missing(anew.out, "gate/ … GPU") and "secret" not in anew.out.splitlines()[-1]
    assert (folder / "decoder.plan").stat().st_mtime_ns > before


def test_bare_it_takes_the_default_bundle(tmp_path: Path, toy: Toy) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    bare = make("engine", folder=tmp_path)
    assert bare.code == 2  # make's own, of a command that failed
    assert not missing(bare.err, "error … bundle … manifest.json")
    shutil.copytree(toy("one_pool").path, tmp_path / "bundle")
    built = make("engine", "PRECISION=fp32", "ENGINE_FLAGS=--streams 2", folder=tmp_path)
    assert built.code == 0, built.err
    assert len(list((tmp_path / "bundle" / ENGINES).iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--precision", "fp16"), "'fp16' … fp32"),
        (("--precision", "int8", "--int8-mode", "qdq"), "'int8' … fp32"),
        (("--precision", "int8", "--int8-mode", "calibrator"), "calibrator: expected TensorRT 8.6 or 10"),  # not int8 graphs
        (("--precision", "fp32", "--flavour", "tensorrt"), "TensorRT"),
        (("--precision", "fp32", "--streams", "0"), "--streams … 1 … 256 … 0"),
    ],
)
def test_what_cannot_be_built_is_said_in_a_line(toy: Toy, arguments: tuple[str, ...], said: str) -> None:
    bundle = toy("one_pool")
    finished = run_module("export.engine", "--bundle", bundle.path, *arguments, variables=NO_GPU)
    assert not missing(error_of(finished), said)
    assert not (bundle.path / ENGINES).exists()


def test_help_says_what_can_be_asked() -> None:
    finished = run_module("export.engine", "--help")
    assert finished.code == 0
    assert "--rebuild" in finished.out and "--dla" in finished.out


@pytest.mark.parametrize(("jetson", "sees_system"), [("1", True), ("", False)])
def test_on_a_jetson_the_environment_stands_on_jetpack(tmp_path: Path, jetson: str, sees_system: bool) -> None:
    for name in ("Makefile", "pyproject.toml", "jetson-constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    process = subprocess.run(
        ["make", "-n", ".venv/ready", f"JETSON={jetson}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    install, *more = [line for line in process.stdout.splitlines() if "pip install" in line]
    assert ("--system-site-packages" in process.stdout) == sees_system
    assert ("-c jetson-constraints.txt" in install) == sees_system
    assert ("cpu" in install) != sees_system  # the extra with pip's OpenCV
    assert ("edge-doctor" in process.stdout) == sees_system
    assert len(more) == (1 if sees_system else 0)
    for line in more:  # compiled there, with the compiler that JetPack puts beside PATH; the rest does not fail with it
        assert 'PATH="$PATH:/usr/local/cuda/bin"' in line and "'.[cuda]' -c jetson-constraints.txt || echo" in line


def test_a_library_that_is_installed_next_is_not_reported_missing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho error: no TensorRT >&2\nexit 1\n")
    python.with_name("pip").write_text('#!/bin/sh\necho "$@" >pip-asked\n')
    for program in python.parent.iterdir():
        program.chmod(0o755)
    made = subprocess.run(
        ["make", ".venv/tensorrt", "-o", ".venv/ready", "JETSON="],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (made.stdout, made.stderr) == ("installing TensorRT-RTX (95 MB)\n", "")
    assert (tmp_path / "pip-asked").read_text().endswith("tensorrt-rtx-cu13\n")


def test_jetpacks_packages_cannot_be_installed_over() -> None:
    lines = (ROOT / "jetson-constraints.txt").read_text().splitlines()
    held = {line for line in lines if not line.startswith("#")}
    assert {"numpy<2", "opencv-python<0", "opencv-python-headless<0", "tensorrt<0"} <= held


def test_a_folder_with_spaces_is_quoted_in_the_command(toy: Toy) -> None:
    bundle = toy("one_pool")
    spaced = Bundle.load(bundle.path.rename(bundle.path.with_name("back gate")))
    built = make(*shlex.split(make_command(spaced, "fp32"))[1:])
    assert built.code == 0, built.err


@pytest.mark.parametrize("flags", [("--backend", "tensorrt"), ("--backend", "tensorrt-rtx"), ("--device", "cuda")])
def test_without_a_gpu_edge_run_says_that_engines_need_one_and_otherwise_runs_without(toy: Toy, flags: tuple[str, ...]) -> None:
    bundle = toy("one_pool")
    assert run_module("export.engine", "--bundle", bundle.path, "--precision", "fp32", variables=NO_GPU).code == 0
    command = ("--bundle", bundle.path, "--source", "synthetic:?frames=20")
    said = error_of(edge_run(*command, *flags, variables=NO_GPU))
    assert " ".join(flags) in said and not missing(said, "NVIDIA GPU … edge-doctor")
    finished = edge_run(*command, variables=NO_GPU)  # a bundle with engines is still a bundle
    assert finished.code == 0 and not missing(finished.err, "fp32, onnxruntime")


def test_without_a_bundle_nothing_is_installed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    made = subprocess.run(["make", "engine"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 2 and not missing(made.stderr, "error … bundle … manifest.json")
    assert not (tmp_path / ".venv").exists()
