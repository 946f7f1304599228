"""How the driver is called: against a library with its functions over the host's memory. What a GPU makes of it is seen on one."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.devices.gpu import find_gpu
from tests.kit.wording import missing

SOURCE = Path("tests/kit/memory_driver.c")

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="not here: a C compiler")

USE = """
import ctypes, json
import numpy as np
from edge_runtime.devices.gpu import find_gpu
from edge_runtime.errors import BackendError
from export.engine.device_memory import DeviceMemory

gpu = find_gpu()
driver = ctypes.CDLL("libcuda.so.1")
facts = {"gpu": [gpu.name, gpu.sm]}
with DeviceMemory() as memory:
    sent = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]  # not contiguous
    first = memory.upload({"clip": sent, "target": np.float16([7])})
    facts["back"] = [memory.download(first)[name].tolist() for name in first]
    facts["is_used_again"] = memory.upload({"clip": sent})["clip"] == first["clip"]
    facts["has_grown"] = memory.upload({"clip": np.zeros((4, 4), np.float32)})["clip"].shape
    facts["alive"] = driver.stand_in_alive()
    try:
        memory.allocate((2**40,), np.dtype(np.float32))
    except BackendError as error:
        facts["error"] = str(error)
facts |= {"alive_after": driver.stand_in_alive(), "retained_after": driver.stand_in_retained()}
print(json.dumps(facts))
"""

CHECK = """
import ctypes, json
from dataclasses import asdict
from pathlib import Path
from edge_runtime.bundle import Bundle
from edge_runtime.devices.gpu import find_gpu
from edge_runtime.graphs.tensorrt_library import Library
from export.engine import build as engine_build
from export.engine.build_choice import BuildChoice, EngineSettings
from export.engine.tensorrt_build import BuiltPlan
from tests.kit.engine_plans import plan_of, stand_in

bundle = Bundle.load(Path("bundles/ped2-lite"))
graphs = bundle.precision("fp16")
plans = [BuiltPlan(plan_of(bundle.read(spec)), [], (), 0, 0.0) for spec in (graphs.encoder, graphs.decoder)]
library = Library("tensorrt", stand_in())
clips = "synthetic:?clips=1&seed=9000&frames=19"
build = engine_build.EngineBuild(bundle, "fp16", library, find_gpu(), EngineSettings(), clips)
check = engine_build._check(build, BuildChoice("fp16", True), plans)
print(json.dumps(asdict(check) | {"alive_after": ctypes.CDLL("libcuda.so.1").stand_in_alive()}))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a driver."""
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, SOURCE], check=True, timeout=60)
    return library.parent


def run(script: str, driver: Path) -> Any:
    """What a script prints as JSON, in a process that finds the driver."""
    variables = os.environ | {"LD_LIBRARY_PATH": str(driver), "PYTHONPATH": str(Path.cwd())}
    finished = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_arrays_go_up_and_come_back_and_are_freed(driver: Path) -> None:
    facts = run(USE, driver)
    assert not missing(facts.pop("error"), "CUDA … cuMemAlloc_v2 … error 2")
    assert facts == {
        "gpu": ["Orin (stand-in)", 87],
        "back": [[[0, 2], [4, 6], [8, 10]], [7]],
        "is_used_again": True,
        "has_grown": [4, 4],
        "alive": 3,
        "alive_after": 0,
        "retained_after": 0,
    }


@pytest.mark.slow
def test_a_new_engine_is_checked_by_the_graph_that_frames_will_run_through(driver: Path) -> None:
    check = run(CHECK, driver)
    assert check["was_run"] and check["is_within_tolerance"] and check["yardstick"] == "fp32"
    assert check["windows"] >= 4
    assert 0 < check["differences"]["prediction"]["largest"] < 0.05  # the fp16 graphs, held against fp32
    assert check["alive_after"] == 0


def test_without_a_driver_there_is_no_gpu() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        assert find_gpu() is None
    else:
        pytest.skip("not here: a machine without NVIDIA's driver")
