"""A measured figure beside what was to be reached, and the file it goes into."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge_runtime.files import write_atomically

__all__ = ["RESULTS", "Row", "machine", "print_row", "write_results"]

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "onnxruntime", "opencv-python-headless", "torch")


@dataclass(frozen=True)
class Row:
    """One line of a results table.

    Attributes:
        what: the claim.
        got, reach: measured, and wanted, in `unit`; reach None where a figure is only reported.
        better: `higher` or `lower`.
        how: on what and how it was measured.
    """

    what: str
    got: float
    reach: float | None
    unit: str
    better: str
    how: str

    @property
    def is_reached(self) -> bool:
        if self.reach is None:
            return True
        return self.got >= self.reach if self.better == "higher" else self.got <= self.reach


def write_results(name: str, rows: Sequence[Row]) -> None:
    """Print the rows and write results/<name>.json."""
    for row in rows:
        print_row(row)
    content = {"rows": [asdict(row) for row in rows], "machine": machine(), "versions": _versions()}
    RESULTS.mkdir(exist_ok=True)
    write_atomically(RESULTS / f"{name}.json", (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def print_row(row: Row) -> None:
    """One line: `+` where the reach was reached, `!` where it was not."""
    mark = " " if row.reach is None else "+" if row.is_reached else "!"
    reach = "" if row.reach is None else f" (reach {row.reach:g})"
    print(f"{mark} {row.what}: {row.got:.4g} {row.unit}{reach}", flush=True)


def machine() -> dict[str, str | int]:
    """Processor, number of cores, operating system."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count() or 0, "system": platform.system()}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
