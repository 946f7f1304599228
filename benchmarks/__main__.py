"""`python -m benchmarks [NAME …]`: run benchmarks and write their results."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

from benchmarks.rows import write_results

BENCHMARKS = {
    "accuracy": "AUC on Ped2 by protocol and memory mode (needs PED2_DIR)",
    "memory_step": "the NumPy memory step of the full-size model",
    "speed": "the full-size and the lite frame: parity, PyTorch eager against edge-run, what lies outside the graphs",
    "footprint": "size of the demo's environment, time to help and to the first score",
    "soak": "memory growth over 20,000 frames (needs PED2_DIR)",
    "fault_soak": "an hour's frames from a camera on the network that fails in eleven ways (needs GStreamer's RTSP server)",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    arguments = parser.parse_args()
    names = arguments.names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark '{name}'; there are {', '.join(BENCHMARKS)}")
    if len(names) > 1:
        codes = [_run_alone(name) for name in names]
        return int(any(codes))
    [name] = names
    print(f"{name}: {BENCHMARKS[name]}", flush=True)
    write_results(name, importlib.import_module(f"benchmarks.{name}").measure())
    return 0


def _run_alone(name: str) -> int:
    """In a process of its own, whose memory no other benchmark has filled."""
    return subprocess.run([sys.executable, "-m", "benchmarks", name], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
