"""`python -m export.engine`: TensorRT engines from a bundle's graphs, on the device that runs them (`make engine BUNDLE=… PRECISION=…`).

An engine that fits the bundle and the machine is kept as it is. One that does not is named, and replaced with --rebuild. On a GPU a
new engine is held against the ONNX graphs before it takes its place.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.engines import FLAVOURS, PARTS, EngineSheet, make_command
from edge_runtime.commands import run_command, set_up_logging
from edge_runtime.devices.gpu import find_gpu
from edge_runtime.sources.address import redacted
from export.engine.build import EngineBuild, make_engine
from export.engine.build_choice import EngineSettings
from export.engine.check import describe
from export.engine.which_tensorrt import load_library

__all__ = ["main"]

MEGABYTE = 1e6


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _run(arguments), is_debug=arguments.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bundle", type=Path, default=Path(os.environ.get("EDGE_BUNDLE", "bundle")), help="default: $EDGE_BUNDLE, else ./bundle"
    )
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), default="fp16", help="the bundle must have it (default: %(default)s)"
    )
    parser.add_argument(
        "--flavour", choices=("auto", *FLAVOURS), default="auto", help="auto: TensorRT where there is a GPU, else TensorRT-RTX"
    )
    parser.add_argument("--rebuild", action="store_true", help="build anew, whatever is there")
    parser.add_argument("--force", action="store_true", help="keep what is past tolerance; build int8 without a good verdict")
    parser.add_argument("--data", metavar="URI", help="normal footage to check (and calibrate) with (default: the built-in scene)")
    parser.add_argument(
        "--int8-mode",
        default="qdq",
        metavar="MODE",
        help="qdq: the bundle's graphs; calibrator, calibrator-minmax: TensorRT measures",
    )
    parser.add_argument("--streams", type=int, default=1, metavar="N", help="cameras that share one call (default: %(default)s)")
    parser.add_argument("--workspace-mb", type=int, default=1024, metavar="N", help="memory for layers at work (default: %(default)s)")
    parser.add_argument("--level", type=int, default=3, metavar="N", help="of optimisation, 0 to 5 (default: %(default)s)")
    parser.add_argument("--dla", type=int, metavar="CORE", help="run on a Jetson's DLA, on the GPU where a layer cannot")
    parser.add_argument("--version-compatible", action="store_true", help="later TensorRT of the same major version loads it, too; slower")
    parser.add_argument("--hardware-compatible", action="store_true", help="every GPU from Ampere on runs it; slower; not on a Jetson")
    parser.add_argument("--debug", action="store_true", help="show all that TensorRT says, and tracebacks")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    settings = EngineSettings(
        streams=arguments.streams,
        workspace_mb=arguments.workspace_mb,
        level=arguments.level,
        dla_core=arguments.dla,
        int8_mode=arguments.int8_mode,
        is_version_compatible=arguments.version_compatible,
        is_hardware_compatible=arguments.hardware_compatible,
    )
    bundle = Bundle.load(arguments.bundle)
    gpu = find_gpu()
    library = load_library(arguments.flavour, gpu)
    build = EngineBuild(bundle, arguments.precision, library, gpu, settings, arguments.data, arguments.force)
    made = make_engine(build, rebuild=arguments.rebuild)
    sheet = made.engine.sheet
    print(f"{'kept' if made.was_kept else 'built'} {made.engine.folder} with {library.title}")
    if not made.was_kept:
        for part, graph in zip(PARTS, (sheet.encoder, sheet.decoder), strict=True):
            print(f"  {part}.plan: {graph.plan_bytes / MEGABYTE:.1f} MB from {graph.onnx.file} in {graph.seconds:.1f} s")
    print(f"  {_describe_check(sheet)}")
    if arguments.data is not None and (made.was_kept or not sheet.check.was_run):
        why = "REBUILD=1 builds and checks anew" if gpu else "only a GPU runs an engine"
        print(f"  {redacted(arguments.data)} was not looked at: {why}")
    if gpu is not None and not sheet.check.was_run:
        print(f"  there is one here: build and check it with {make_command(bundle, arguments.precision, rebuild=True)}")
    return 0


def _describe_check(sheet: EngineSheet) -> str:
    check = sheet.check
    if not check.was_run:
        return f"not run: {check.why_not}"
    verdict = "" if check.is_within_tolerance else "PAST TOLERANCE, kept by --force: "
    return f"checked against {check.yardstick} ONNX on {check.clips}: {verdict}{describe(check, sheet.precision)}"


if __name__ == "__main__":
    sys.exit(main())
