"""The kernels' barriers: the order in which threads run changes no bit, and no barrier can be left out unnoticed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.devices.cuda.launch import Launch
from tests.kit.cuda_emulation.compilation import KERNELS, compile_for_cpu, emulated_kernels
from tests.kit.cuda_emulation.left_out import SHOWN, barriers
from tests.kit.cuda_emulation.runner import Emulator, packed
from tests.kit.cuda_emulation.toy_banks import four_pools, outcome_of, three_pools
from tests.kit.wording import raises

pytestmark = pytest.mark.cxx

# Kernels that do wrong, and what they do it with.
WRONG = """
extern "C" __global__ void leaves() {
    if (threadIdx.x == 3) return;
    __syncthreads();
}
extern "C" __global__ void waits_elsewhere() {
    if (threadIdx.x == 3) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}
extern "C" __global__ void leaves_its_warp(int *sums) {
    if (threadIdx.x == 3) return;
    sums[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}
extern "C" __global__ void reads_unwritten(float *value) {
    __shared__ float shared[64];
    if (threadIdx.x > 0) return;
    value[blockIdx.x] = shared[0];
    shared[0] = 1;
}
extern "C" __global__ void rotates(int *values) {
    __shared__ int shared[64];
    shared[threadIdx.x] = threadIdx.x + 100 * blockIdx.x;
    __syncthreads();
    values[blockDim.x * blockIdx.x + threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}
extern "C" __global__ void votes(unsigned *ballots, double *sums) {
    ballots[threadIdx.x] = __ballot_sync(0xffffffffu, threadIdx.x % 3 == 0);
    double sum = threadIdx.x;
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    sums[threadIdx.x] = sum;
}
"""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    emulator = Emulator(emulated_kernels())
    yield emulator
    emulator.order("ascending")


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    sources = tmp_path_factory.mktemp("wrong")
    (sources / "kernels.cu").write_text(WRONG)
    return Emulator(compile_for_cpu(sources, sources / "wrong.so"))


def launch_of(kernel: str, *arguments: np.ndarray, blocks: int = 1) -> Launch:
    return Launch(kernel, (blocks, 1, 1), (64, 1, 1), tuple(np.uint64(array.ctypes.data) for array in arguments))


# the project's kernels


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_two_runs_give_the_same_bits(emulator: Emulator, dtype: str) -> None:
    assert outcome_of(emulator, four_pools(dtype)) == outcome_of(emulator, four_pools(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("order", "seed"), [("descending", 0), ("random", 0), ("random", 1), ("random", 2)])
def test_the_order_of_threads_and_blocks_changes_no_bit(emulator: Emulator, order: str, seed: int, dtype: str) -> None:
    banks = four_pools(dtype), three_pools(dtype)
    expected = [outcome_of(emulator, bank) for bank in banks]
    emulator.order(order, seed)
    assert [outcome_of(emulator, bank) for bank in banks] == expected


def test_threads_that_really_run_at_once_change_no_bit(emulator: Emulator) -> None:
    expected = outcome_of(emulator, four_pools(), frames=1)
    emulator.order("threads")
    assert outcome_of(emulator, four_pools(), frames=1) == expected


@pytest.mark.parametrize(("file", "line"), barriers())
def test_a_missing_barrier_shows(file: str, line: int) -> None:
    assert left_out(file, line) in (SHOWN, -6, -11)  # or it crashed: what was never written makes a wild index


def test_no_missing_barrier_shows_nothing() -> None:
    assert left_out("", 0) == 0


def test_leaving_a_barrier_out_is_as_deleting_it(emulator: Emulator, tmp_path: Path) -> None:
    text = (KERNELS / "read_few.cuh").read_text()
    for path in KERNELS.iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "read_few.cuh").write_text(text.replace("__syncthreads();", "", 1))
    mutilated = Emulator(compile_for_cpu(tmp_path, tmp_path / "mutilated.so"))
    assert outcome_of(mutilated, four_pools(), frames=1) != outcome_of(emulator, four_pools(), frames=1)


def left_out(file: str, line: int) -> int:
    command = [sys.executable, "-m", "tests.kit.cuda_emulation.left_out", file, str(line)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in result.stderr, result.stderr
    return result.returncode


# the emulation


@pytest.mark.parametrize("kernel", ["leaves", "waits_elsewhere"])
@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_threads_that_wait_in_vain_are_an_error(wrong: Emulator, order: str, kernel: str) -> None:
    wrong.order(order)
    with raises(RuntimeError, kernel):
        wrong.run([launch_of(kernel)])


def test_a_thread_that_leaves_its_warp_waiting_is_an_error(wrong: Emulator) -> None:
    wrong.order("ascending")
    with raises(RuntimeError, "leaves_its_warp"):
        wrong.run([launch_of("leaves_its_warp", np.zeros(64, np.int32))])


def test_a_thread_that_leaves_others_waiting_is_an_error_with_real_threads(wrong: Emulator) -> None:
    wrong.order("threads")
    with raises(RuntimeError, "leaves … block"):
        wrong.run([launch_of("leaves")])


@pytest.mark.parametrize("order", ["ascending", "threads"])
def test_after_an_error_launches_go_on(wrong: Emulator, order: str) -> None:
    wrong.order(order)
    with pytest.raises(RuntimeError):
        wrong.run([launch_of("leaves")])
    values = np.zeros(128, np.int32)
    wrong.run([launch_of("rotates", values, blocks=2)])
    assert values.tolist() == [*range(1, 64), 0, *range(101, 164), 100]


@pytest.mark.parametrize("order", ["ascending", "descending", "random", "threads"])
def test_lanes_vote_and_add_as_on_a_gpu(wrong: Emulator, order: str) -> None:
    wrong.order(order)
    ballots, sums = np.zeros(64, np.uint32), np.zeros(64)
    wrong.run([launch_of("votes", ballots, sums)])
    expected = [sum(1 << lane for lane in range(32) if (warp + lane) % 3 == 0) for warp in (0, 32)]
    assert ballots.tolist() == [expected[0]] * 32 + [expected[1]] * 32
    assert sums.tolist() == [sum(range(32))] * 32 + [sum(range(32, 64))] * 32


def test_shared_memory_holds_no_number_when_a_block_begins(wrong: Emulator) -> None:
    wrong.order("ascending")
    values = np.zeros(2, np.float32)
    wrong.run([launch_of("reads_unwritten", values, blocks=2)])
    assert np.isnan(values).all()


def test_a_launch_that_does_not_fit_its_kernel_is_refused(wrong: Emulator) -> None:
    with raises(RuntimeError, "votes … 16 bytes … 8"):
        wrong.run([launch_of("votes", np.zeros(1))])
    with raises(RuntimeError, "missing"):
        wrong.run([launch_of("missing")])
    with raises(RuntimeError, "leaves … 1 to 1024"):
        wrong.run([Launch("leaves", (1, 1, 1), (1025, 1, 1), ())])


def test_arguments_lie_as_in_a_struct() -> None:
    arguments = (np.int32(1), np.uint64(2), np.float32(0), np.int32(3))
    assert packed(Launch("any", (1, 1, 1), (1, 1, 1), arguments)) == bytes([1, *[0] * 7, 2, *[0] * 7, *[0] * 4, 3, 0, 0, 0])
