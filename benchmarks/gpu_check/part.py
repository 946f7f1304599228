"""`python -m benchmarks.gpu_check.part NAME SETTINGS WORK`: one part of the check, in this process."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.settings import decode_settings

__all__ = ["main"]


def main(name: str, settings: str, work: str) -> int:
    """A part is `measure` of the module of its name; what stands behind a `:` is the backend it is about."""
    module, _, backend = name.partition(":")
    measure = import_module(f"benchmarks.gpu_check.{module}").measure
    folder = Path(work)
    arguments = (backend,) if backend else ()
    measure(decode_settings(settings), folder, Findings(folder / f"{name}.jsonl"), *arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
