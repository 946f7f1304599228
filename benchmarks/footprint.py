"""What a newcomer waits for and pays in disk: the demo's environment, help, the first score."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.rows import Row
from edge_runtime.bundle import Bundle

__all__ = ["measure"]

ROOT = Path(__file__).parent.parent
ROUNDS = 7


def measure() -> list[Row]:
    """Makes an environment as `make demo` does, in a temporary folder."""
    with tempfile.TemporaryDirectory() as work:
        bin_folder = _demo_environment(Path(work))
        size = sum(path.stat().st_size for path in Path(work).rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
        help_s = median(_seconds([bin_folder / "edge-run", "--help"]) for _ in range(ROUNDS))
        lite = ROOT / "bundles" / "ped2-lite"
        frames = Bundle.load(lite).manifest.input.span
        source = ["--source", "synthetic:", "--max-frames", str(frames), "--bundle", lite, "--out", Path(work) / "out"]
        first_s = median(_seconds([bin_folder / "edge-run", *source]) for _ in range(ROUNDS))
        scored = json.loads((Path(work) / "out" / "summary.json").read_text(encoding="utf-8"))["scored"]
        if scored != 1:
            raise RuntimeError(f"expected the first score, got {scored} scores in {frames} frames")
    how = f"median of {ROUNDS} runs of the installed command"
    return [
        Row("environment of make demo", size, 600.0, "MB", "lower", "sum of its files after installing, compiled modules included"),
        Row("edge-run --help", help_s, 0.3, "s", "lower", how),
        Row(
            "first score of ped2-lite after start",
            first_s,
            2.0,
            "s",
            "lower",
            f"{how}: start, {frames} frames, one score, results written, exit",
        ),
    ]


def _demo_environment(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "-q", f"{ROOT}[cpu,video,report]"], check=True, stderr=subprocess.DEVNULL)
    return folder / "bin"


def _seconds(command: list[str | Path]) -> float:
    started = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return perf_counter() - started
