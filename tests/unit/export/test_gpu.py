"""How the driver is called: against a library with its functions over the host's memory. What a GPU makes of it is seen on one."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path("tests/kit/memory_driver.c")

USE = """
import ctypes, json
import numpy as np
from edge_runtime.errors import BackendError
from export.gpu import DeviceMemory, find_gpu

gpu = find_gpu()
driver = ctypes.CDLL("libcuda.so.1")
facts = {"gpu": [gpu.name, gpu.sm]}
with DeviceMemory() as memory:
    sent = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]  # not contiguous
    first = memory.upload("clip", sent)
    facts["back"] = memory.download("clip", np.empty((3, 2), np.float32)).tolist()
    facts["is_used_again"] = memory.allocate("clip", 8) == first
    memory.allocate("clip", 1000)
    facts["alive"] = driver.stand_in_alive()
    try:
        memory.allocate("huge", 2**41)
    except BackendError as error:
        facts["error"] = str(error)
facts |= {"alive_after": driver.stand_in_alive(), "retained_after": driver.stand_in_retained()}
print(json.dumps(facts))
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="not here: a C compiler")
def test_buffers_go_up_and_come_back_and_are_freed(tmp_path: Path) -> None:
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", library, SOURCE], check=True, timeout=60)
    variables = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    finished = subprocess.run([sys.executable, "-c", USE], env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == {
        "gpu": ["Orin (stand-in)", 87],
        "back": [[0, 2], [4, 6], [8, 10]],
        "is_used_again": True,
        "alive": 1,
        "error": "CUDA: expected cuMemAlloc_v2 to work, got error 2 (out of memory). Look at nvidia-smi or dmesg.",
        "alive_after": 0,
        "retained_after": 0,
    }


def test_without_a_driver_there_is_no_gpu() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        from export.gpu import find_gpu

        assert find_gpu() is None
    else:
        pytest.skip("not here: a machine without NVIDIA's driver")
