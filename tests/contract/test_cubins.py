"""The kernels compile for every GPU that is supported, keep to their registers, and are the ones that are launched."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from edge_runtime.bundle.manifest import ADDRESSINGS, UPDATE_RULES, GateSpec, PoolSpec, UpdateSpec
from edge_runtime.devices.cuda.compilation import find_nvcc
from edge_runtime.devices.cuda.memory_step import BankMemory, BankStep, PoolStep, pack
from edge_runtime.devices.cuda.preprocessing import preprocess
from edge_runtime.preprocess import InputSpec
from tests.kit.cuda_emulation.compilation import KERNELS, kernel_names
from tests.kit.wording import raises

pytestmark = pytest.mark.nvcc

ARCHITECTURES = [75, 87, 90, 110, 120]  # the oldest and newest, the Jetsons', the workstations'
KERNEL = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers(.*?)\n", re.S
)
SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Usage:
    """What a kernel takes: registers a thread, spilled bytes, bytes of shared memory a block."""

    registers: int
    spilled: int
    shared: int


@cache
def known_architectures() -> list[int]:
    nvcc = find_nvcc()
    assert nvcc is not None
    listed = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True, timeout=60).stdout
    return [int(number) for number in re.findall(r"sm_(\d+)$", listed, re.M)]


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda number: f"sm_{number}")
def usage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Usage]:
    """Kernel to what it takes on an architecture."""
    be_known(request.param, known_architectures(), is_required="nvcc" in request.config.getoption("--require").split(","))
    cubin = tmp_path_factory.mktemp("cubin") / "kernels.cubin"
    command = [find_nvcc(), "-cubin", f"-arch=sm_{request.param}", "-O3", "--resource-usage", "-Werror", "all-warnings"]
    result = subprocess.run([*command, "-o", cubin, KERNELS / "kernels.cu"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert cubin.read_bytes()[:4] == b"\x7fELF"
    return usage_of(result.stdout + result.stderr)


def be_known(architecture: int, known: list[int], *, is_required: bool) -> None:
    """Skip what an older compiler does not know, unless the compiler is required."""
    if architecture not in known:
        (pytest.fail if is_required else pytest.skip)(f"{find_nvcc()} knows no sm_{architecture}; CUDA 13 knows all of {ARCHITECTURES}")


def usage_of(report: str) -> dict[str, Usage]:
    found = {}
    for name, stores, loads, registers, rest in KERNEL.findall(report):
        shared = SHARED.search(rest)
        found[name] = Usage(int(registers), int(stores) + int(loads), int(shared[1]) if shared else 0)
    return found


def launched_kernels() -> set[str]:
    """Kernels of all launches that there can be."""
    update, gate = UpdateSpec(0.1, "all", 0.5), GateSpec(0.5)
    names = {preprocess(0, 4, 4, InputSpec(1, 0, 1, 2, 2), 0, 0).kernel, pack([0], 0)[0].kernel}
    for dtype in (np.dtype("float32"), np.dtype("float16")):
        pools = [PoolSpec("memory", "query", "read", addressing, rule) for addressing in ADDRESSINGS for rule in UPDATE_RULES]
        steps = [PoolStep.of(pool, update, gate, items=(count, 8), queries=9, query_dtype=dtype) for pool in pools for count in (3, 300)]
        bank, memory = BankStep(tuple(steps), 0.5), BankMemory(0, 0, 0, 0, 0)
        launches = [launch for step, part in zip(steps, bank.parts(memory), strict=True) for launch in step.read(part, 0, 0, 0)]
        names |= {launch.kernel for launch in [*launches, *bank.update(memory, [0] * len(steps), 0, 0)]}
    return names


def test_an_architecture_that_nvcc_does_not_know_is_a_failure_where_nvcc_is_required() -> None:
    with raises(pytest.fail.Exception, "sm_110"):
        be_known(110, [75, 87, 90], is_required=True)
    with raises(pytest.skip.Exception, "sm_110"):
        be_known(110, [75, 87, 90], is_required=False)


def test_every_kernel_compiles_without_warnings_and_spills_nothing(usage: dict[str, Usage]) -> None:
    assert {name: taken.spilled for name, taken in usage.items()} == dict.fromkeys(usage, 0)


def test_two_blocks_fit_on_every_multiprocessor(usage: dict[str, Usage]) -> None:
    assert max(taken.registers for taken in usage.values()) * 256 * 2 <= 65536
    assert max(taken.shared for taken in usage.values()) * 2 <= 64 * 1024  # Turing has the least


def test_what_is_launched_is_what_is_compiled(usage: dict[str, Usage]) -> None:
    assert set(usage) == launched_kernels() == set(kernel_names(KERNELS))
