"""`python -m benchmarks.gpu_check` (`make gpu-check`): hardware suite and benchmark on the GPU of this machine, with what is installed.

Nothing is installed, fetched or set. What cannot run here is listed, with the reason.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gpu_check.packages import missing_essentials

__all__ = ["main"]

TIME_LIMIT_S = 510.0
RESULTS = Path(__file__).parents[1] / "results"


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    missing = missing_essentials()
    if missing is not None:
        print(f"error: {missing}", file=sys.stderr)
        return 1
    # Only now: the project's own modules need what was looked for.
    from benchmarks.gpu_check.check import check
    from benchmarks.gpu_check.settings import FULL, TOY
    from edge_runtime.commands import run_command, set_up_logging

    set_up_logging(is_debug=arguments.debug)
    settings = TOY if arguments.toy else FULL
    return run_command(
        lambda: check(settings, arguments.results, arguments.time_limit_s, arguments.footage, arguments.bundle), is_debug=arguments.debug
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--time-limit-s", type=float, default=TIME_LIMIT_S, metavar="S", help="for everything (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where gpu-<name>.json goes (default: %(default)s)")
    parser.add_argument(
        "--footage",
        type=Path,
        metavar="DIR",
        help="normal footage (default: PED2_DIR's training clips, else the scene)",
    )
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the full-size bundle, made elsewhere (default: $GPU_CHECK_BUNDLE)")
    parser.add_argument("--debug", action="store_true", help="tracebacks")
    parser.add_argument("--toy", action="store_true", help=argparse.SUPPRESS)  # toy sizes, PyTorch on the CPU: for the tests of the check
    return parser


if __name__ == "__main__":
    sys.exit(main())
