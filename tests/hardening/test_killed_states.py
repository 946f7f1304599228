"""200 SIGKILLs while a memory learns and is saved: the state always loads, and is the last one or the one before."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from edge_runtime.bundle import Bundle
from edge_runtime.devices.host_memory import HostBank
from edge_runtime.run.state import StateStore
from tests.hardening.learner import STREAM, digest
from tests.kit.commands import ROOT, environment

pytestmark = pytest.mark.slow

KILLS = 200
LONGEST_LIFE_S = 0.15  # some ten saves on a disk
FILE = f"{STREAM}.safetensors"


@dataclass(frozen=True)
class Killed:
    """What one killed learner said, and what it left.

    Attributes:
        loaded: digest of what it began with.
        saving, saved: digests of what it began to save, and of what it had saved, in order.
        state: digest of what is on disk now.
        files: in the state's folder.
    """

    loaded: str
    saving: list[str]
    saved: list[str]
    state: str
    files: list[str]

    @property
    def was_saving(self) -> bool:
        return len(self.saving) > len(self.saved)

    @property
    def leftovers(self) -> list[str]:
        return [name for name in self.files if name != FILE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed") / "state"


@pytest.fixture(scope="module")
def learners(toy_originals: dict[str, Path], folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "error", "-m", "tests.hardening.learner", str(toy_originals["one_pool"]), str(folder)]
    variables = environment() | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def killed(learners: subprocess.Popen[str], toy_originals: dict[str, Path], folder: Path) -> list[Killed]:
    """One after the other, each going on with the state that the one before left."""
    bundle, moments = Bundle.load(toy_originals["one_pool"]), Random(3)
    return [kill_one(learners, bundle, folder, moments.uniform(0, LONGEST_LIFE_S)) for _ in range(KILLS)]


def kill_one(learners: subprocess.Popen[str], bundle: Bundle, folder: Path, life_s: float) -> Killed:
    assert learners.stdin is not None and learners.stdout is not None
    learners.stdin.write("next\n")
    learners.stdin.flush()
    said: dict[str, list[str]] = {"pid": [], "loaded": [], "saving": [], "saved": []}
    for line in learners.stdout:
        what, *words = line.split()
        if what == "dead":
            break
        said[what] += words
        if what == "loaded":
            time.sleep(life_s)  # a moment that nobody chose
            os.kill(int(said["pid"][0]), signal.SIGKILL)
    files = sorted(os.listdir(folder))
    return Killed(said["loaded"][0], said["saving"], said["saved"], state_of(folder, bundle), files)


def state_of(folder: Path, bundle: Bundle) -> str:
    """Load a copy of what is there: a store on the folder itself would tidy it up."""
    copy = folder.with_name("copy")
    if (folder / FILE).exists():
        copy.mkdir(exist_ok=True)
        shutil.copyfile(folder / FILE, copy / FILE)
    bank = HostBank(bundle.manifest, bundle.read_items())
    StateStore(copy, STREAM, bundle).load(bank)
    return digest(bank)


def test_after_every_kill_the_state_is_the_last_or_the_one_before(killed: list[Killed]) -> None:
    assert len(killed) == KILLS
    for one in killed:
        last = one.saved[-1] if one.saved else one.loaded
        assert one.state in {last, one.saving[-1] if one.was_saving else last}


def test_every_start_goes_on_with_what_the_one_before_left(killed: list[Killed]) -> None:
    assert [one.loaded for one in killed[1:]] == [one.state for one in killed[:-1]]


def test_many_were_killed_while_saving_and_nearly_all_after_they_had_learned(killed: list[Killed]) -> None:
    assert sum(one.was_saving for one in killed) >= KILLS / 10
    assert len({one.state for one in killed}) >= KILLS / 2


def test_what_they_left_half_written_does_not_pile_up(killed: list[Killed], toy_originals: dict[str, Path], folder: Path) -> None:
    assert any(one.leftovers for one in killed), "none was killed while it wrote"
    assert max(len(one.leftovers) for one in killed) == 1
    StateStore(folder, STREAM, Bundle.load(toy_originals["one_pool"]))
    assert os.listdir(folder) == [FILE]
