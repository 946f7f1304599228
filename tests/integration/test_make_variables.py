"""What is said to make reaches the commands, or is refused: nothing is installed or run for it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.kit.commands import ROOT, Finished, environment
from tests.kit.wording import missing

MAKEFILE = ROOT / "Makefile"


def plan(*arguments: str, folder: Path, **variables: str) -> Finished:
    """What make would do, in a folder where nothing has been made."""
    process = subprocess.run(
        ["make", "-n", *arguments], cwd=folder, env=environment() | variables, capture_output=True, text=True, timeout=60, check=False
    )
    return Finished(process.returncode, process.stdout, process.stderr)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    for name in ("pyproject.toml", "jetson-constraints.txt", "bundle/manifest.json"):
        (tmp_path / name).touch()
    (tmp_path / "Makefile").symlink_to(MAKEFILE)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "name", "meant"),
    [
        (("calibrate", "DATA=gate", "FALSE_ALARM_PER_HOUR=60"), "FALSE_ALARM_PER_HOUR", "FALSE_ALARMS_PER_HOUR"),
        (("train", "DATA=gate", "EPOCH=3"), "EPOCH", "EPOCHS"),
        (("EPOCH=", "help"), "EPOCH", "EPOCHS"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_lists_the_right_ones(arguments: tuple[str, ...], name: str, meant: str, folder: Path) -> None:
    refused = plan(*arguments, folder=folder)
    assert (refused.code, refused.out) == (2, "")
    assert not missing(refused.err, f"{name} … {meant}")


def test_every_variable_with_a_default_may_be_said(folder: Path) -> None:
    names = re.findall(r"^([A-Z_0-9]+) \?=", MAKEFILE.read_text(), re.MULTILINE)
    assert {"PYTHON", "PIP_FLAGS", "JETSON", "TEST_PROCESSES"} < set(names)
    said = plan("help", *(f"{name}=" for name in names), folder=folder)
    assert (said.code, said.err) == (0, "")


@pytest.mark.parametrize("given", ["MAKEFLAGS=-k", "SHELL=/bin/bash", "V=1", "CC=gcc", "PED2_DIR=ped2", "EDGE_BUNDLE=gate"])
def test_what_is_makes_own_or_for_the_programs_passes(given: str, folder: Path) -> None:
    said = plan("help", given, folder=folder)
    assert (said.code, said.err) == (0, "")


def test_what_looks_like_a_variable_within_a_value_is_none(folder: Path) -> None:
    said = plan("test", "PYTEST_FLAGS=-k one EPOCH=3 --require=ped2,footage", folder=folder)
    assert said.code == 0, said.err
    assert said.out.endswith("-k one EPOCH=3 --require=ped2,footage\n")


def test_a_misspelt_variable_in_the_environment_is_none_of_ours(folder: Path) -> None:
    assert plan("train", "DATA=gate", folder=folder, EPOCH="3").code == 0


def test_another_makes_variables_come_along_with_a_warning(folder: Path) -> None:
    outer = folder / "outer"
    outer.mkdir()
    (outer / "Makefile").write_text("all:\n\t$(MAKE) -C .. train DATA=gate\n")
    said = plan("prefix=/usr", folder=outer)
    assert said.code == 0, said.err
    assert "--data 'gate'" in said.out
    assert not missing(said.err, "warning … prefix … BENCH_FLAGS")


def test_training_takes_the_best_device_unless_one_is_named(folder: Path) -> None:
    assert "--device 'auto'" in plan("train", "DATA=gate", folder=folder).out
    assert "--device 'cpu'" in plan("train", "DATA=gate", "DEVICE=cpu", folder=folder).out


@pytest.mark.parametrize("value", ["1", "yes", "true"])
def test_a_switch_is_on(value: str, folder: Path) -> None:
    assert "--resume" in plan("train", "DATA=gate", f"RESUME={value}", folder=folder).out


@pytest.mark.parametrize("value", ["", "0", "no", "false"])
def test_a_switch_is_off(value: str, folder: Path) -> None:
    planned = plan("train", "DATA=gate", f"RESUME={value}", folder=folder)
    assert "-m train" in planned.out and "--resume" not in planned.out
    planned = plan("engine", f"REBUILD={value}", f"FORCE={value}", folder=folder)
    assert "-m export.engine" in planned.out and "--rebuild" not in planned.out and "--force" not in planned.out


def test_both_switches_of_an_engine_are_its_own(folder: Path) -> None:
    planned = plan("engine", "REBUILD=1", folder=folder)
    assert "--rebuild" in planned.out and "--force" not in planned.out
    planned = plan("engine", "FORCE=1", folder=folder)
    assert "--force" in planned.out and "--rebuild" not in planned.out


@pytest.mark.parametrize("name", ["RESUME", "REBUILD", "FORCE"])
def test_a_switch_that_is_neither_on_nor_off_is_an_error(name: str, folder: Path) -> None:
    refused = plan("engine", f"{name}=perhaps", folder=folder)
    assert (refused.code, refused.out) == (2, "")
    assert not missing(refused.err, f"{name} … 1 … yes … true … 0 … no … false … perhaps")


def test_so_it_is_from_the_environment_where_it_counts(folder: Path) -> None:
    assert plan("demo", folder=folder, FORCE="perhaps").code == 0
    assert not missing(plan("engine", folder=folder, FORCE="perhaps").err, "FORCE … 1 … yes … true")


@pytest.mark.parametrize("target", ["calibrate", "engine"])
def test_the_default_bundle_is_that_of_the_other_commands(target: str, folder: Path) -> None:
    mine = str(folder / "bundle")
    assert "--bundle 'bundle'" in plan(target, "DATA=gate", folder=folder).out
    assert f"--bundle '{mine}'" in plan(target, "DATA=gate", folder=folder, EDGE_BUNDLE=mine).out
    assert "--bundle './bundle'" in plan(target, "DATA=gate", "BUNDLE=./bundle", folder=folder, EDGE_BUNDLE=mine).out


def test_a_new_bundle_is_not_written_over_the_one_in_use(folder: Path) -> None:
    assert "--out 'bundle'" in plan("bundle", folder=folder, EDGE_BUNDLE="/opt/gate").out
    assert "--out 'gate'" in plan("bundle", "BUNDLE=gate", folder=folder, EDGE_BUNDLE="/opt/gate").out
    assert "--out 'yard'" in plan("bundle", "OUT=yard", "BUNDLE=gate", folder=folder).out


def test_the_fast_tests_are_those_with_its_marker_and_take_flags(folder: Path) -> None:
    said = plan("test-fast", "PYTEST_FLAGS=-x", folder=folder)
    assert not missing(said.out.splitlines()[-1], "-m fast -x")
