"""Everything the doctor looks at, in the order of the report."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from edge_runtime.doctor.cameras import find_cameras, find_gstreamer
from edge_runtime.doctor.findings import Finding
from edge_runtime.doctor.jetson import find_jetson
from edge_runtime.doctor.machine import Machine
from edge_runtime.doctor.nvidia import find_cuda, find_pycuda, find_tensorrt
from edge_runtime.doctor.opencv import find_opencv
from edge_runtime.doctor.place import find_bundle, find_disk, find_memory
from edge_runtime.doctor.python import find_extras, find_numpy, find_onnxruntime, find_python

__all__ = ["examine"]


def examine(machine: Machine, bundle: Path) -> list[Finding]:
    """Look at a machine and the bundle in a folder; findings of one topic stand together.

    Each topic waits for processes of its own, so they go side by side; nothing is changed on the machine.
    """
    topics = (
        *(find_python, find_numpy, find_opencv, find_onnxruntime, find_extras),
        *(find_jetson, find_cuda, find_tensorrt, find_pycuda),
        *(find_cameras, find_gstreamer, find_disk, find_memory),
        partial(find_bundle, path=bundle),
    )
    with ThreadPoolExecutor(max_workers=4) as pool:
        return [finding for findings in pool.map(lambda topic: topic(machine), topics) for finding in findings]
