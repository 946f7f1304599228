"""Whether a barrier that is left out shows: `python -m tests.kit.cuda_emulation.left_out FILE LINE`.

A process of its own, because a kernel that reads what was never written may take it for an index. Exit 0: nothing showed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.kit.cuda_emulation.compilation import KERNELS, emulated_kernels
from tests.kit.cuda_emulation.runner import Emulator
from tests.kit.cuda_emulation.toy_banks import outcome_of, three_pools

__all__ = ["SHOWN", "barriers"]

SHOWN = 3
"""Exit code where wrong numbers or threads that wait in vain were seen."""


def barriers(sources: Path = KERNELS) -> list[tuple[str, int]]:
    """File and line of every barrier."""
    return [
        (path.name, number)
        for path in sorted(sources.glob("*.cu*"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"__syncthreads\(\)", line)
    ]


def main(file: str, line: int) -> int:
    emulator = Emulator(emulated_kernels())
    expected = outcome_of(emulator, three_pools(), frames=1)
    emulator.skip(file, line)
    for order in ("ascending", "descending", "random"):
        emulator.order(order)
        try:
            if outcome_of(emulator, three_pools(), frames=1) != expected:
                return SHOWN
        except RuntimeError:
            return SHOWN
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
