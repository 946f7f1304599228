"""`python -m calibration.int8`: int8 graphs for a bundle, from normal footage (`make calibrate-int8 BUNDLE=… DATA=…`)."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands import run_command, set_up_logging
from edge_runtime.errors import BackendUnavailable

if TYPE_CHECKING:
    from calibration.int8.make import Made

JUDGE = "Then: edge-report precision --bundle {bundle} --data … [--labels …] --store --out runs/precision"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m calibration.int8", description=__doc__)
    parser.add_argument(
        "--bundle", type=Path, default=Path(os.environ.get("EDGE_BUNDLE", "bundle")), help="default: $EDGE_BUNDLE, else ./bundle"
    )
    parser.add_argument("--data", required=True, help="normal footage that training has not seen: a folder of clips, or a video")
    parser.add_argument("--only", nargs="+", metavar="CLIP", help="of these clips alone, by name (default: all)")
    parser.add_argument("--method", choices=("entropy", "percentile", "minmax"), default="entropy", help="default: %(default)s")
    parser.add_argument("--windows", type=int, default=256, metavar="N", help="to measure ranges on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="for the choice of windows (default: %(default)s)")
    parser.add_argument("--sensitivity", action="store_true", help="what each node costs, also where all together are within the budget")
    parser.add_argument("--out", type=Path, metavar="DIR", help="what the search found: int8.json, and int8.png where nodes were measured")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    arguments = parser.parse_args(argv)
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _run(arguments), is_debug=arguments.debug)


def _run(arguments: argparse.Namespace) -> int:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(f"expected the module onnx, got '{error}'. Install it: pip install 'edge-runtime[int8]'") from error
    from tqdm import tqdm

    from calibration.clips import find_clips
    from calibration.int8.make import Int8Settings, make_int8
    from calibration.seen_clips import warn_before_calibration
    from edge_runtime.bundle import Bundle
    from edge_runtime.errors import ConfigError

    settings = Int8Settings(arguments.method, arguments.windows, arguments.seed, arguments.sensitivity)
    bundle = Bundle.load(arguments.bundle)
    clips = find_clips(arguments.data)
    if arguments.only:
        there = {clip.name: clip for clip in clips}
        missing = sorted(set(arguments.only) - set(there))
        if missing:
            raise ConfigError(f"--only: expected clips of {arguments.data}, got {', '.join(missing)}. It has {', '.join(there)}.")
        clips = [clip for clip in clips if clip.name in arguments.only]
    warn_before_calibration(bundle.manifest, clips)
    with tqdm(unit="window", dynamic_ncols=True, disable=not sys.stderr.isatty()) as bar:
        made = make_int8(bundle, clips, settings, bar)
    _print(made)
    if arguments.out is not None:
        from calibration.int8.page import draw_costs, write_numbers

        arguments.out.mkdir(parents=True, exist_ok=True)
        write_numbers(made.found, arguments.out / "int8.json")
        if made.found.by_node:
            draw_costs(made.found.by_node, arguments.out / "int8.png")
    print(JUDGE.format(bundle=arguments.bundle))
    return 0


def _print(made: Made) -> None:
    from edge_runtime.report.verdict import WITHOUT_LABELS

    quantisation, found = made.precision.quantisation, made.found
    assert quantisation is not None
    windows = f"{len(made.windows)} windows of {len(made.windows.clips)} clips, {made.measured.updates} of them learned"
    print(f"ranges by {quantisation.method} on {windows}")
    if found.by_node:
        width = max(len(cost.node) for cost in found.by_node)
        print(f"{'in int8 alone':<{width + 9}}{'multiply-adds':>14}{'score':>8}{'rank':>8}{'PSNR, dB':>10}")
        for one in found.by_node:
            figures = f"{one.share:>14.1%}{one.cost.score:>8.3f}{one.cost.rank_correlation:>8.4f}{one.cost.psnr_change_db:>10.3f}"
            print(f"{one.part:<9}{one.node:<{width}}{figures}")
    for name, cost in (("all nodes", found.all_nodes), ("chosen", found.cost)):
        limits = f"at least {WITHOUT_LABELS['rank_correlation']}", f"at most {WITHOUT_LABELS['alarm_flips']:.0%}"
        ranks = f"rank correlation {cost.rank_correlation:.4f} ({limits[0]}), alarms flipped {cost.alarm_flips:.1%} ({limits[1]})"
        print(f"{name}: score changes by {cost.score:.3f}, {ranks}, gate differs in {cost.gates:.1%}")
    left = [f"{part} {name}" for part, names in quantisation.float_nodes.items() for name in names]
    print(f"{quantisation.share:.1%} of multiply-adds in int8; in float: {', '.join(left) or 'no convolution'}")
    print(f"graphs: {made.bytes_of['int8'] / 1e6:.2f} MB, {made.bytes_of['int8'] / made.bytes_of['fp32']:.2f} of fp32")


if __name__ == "__main__":
    sys.exit(main())
