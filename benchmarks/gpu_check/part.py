"""`python -m benchmarks.gpu_check.part NAME SETTINGS WORK`: one part of the check, in this process."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.process import UNAVAILABLE, end_with_check
from benchmarks.gpu_check.settings import decode_settings
from edge_runtime.errors import BackendUnavailable

__all__ = ["main"]


def main(name: str, settings: str, work: str) -> int:
    """A part is `measure` of the module of its name; what stands behind a `:` is what it is about. 3: something for it is not here."""
    module, _, backend = name.partition(":")
    measure = import_module(f"benchmarks.gpu_check.{module}").measure
    folder = Path(work)
    arguments = (backend,) if backend else ()
    try:
        measure(decode_settings(settings), folder, Findings(folder / f"{name}.jsonl"), *arguments)
    except BackendUnavailable as error:
        print(error)
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    end_with_check()
    sys.exit(main(*sys.argv[1:]))
