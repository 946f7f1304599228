"""`python -m export`: a bundle from a training run (`make bundle RUN=… OUT=…`)."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from edge_runtime.commands import run_command, set_up_logging
from edge_runtime.commands.signals import StopSignals


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a training run")
    parser.add_argument("--out", type=Path, default=Path("bundle"), help="folder of the bundle (default: %(default)s)")
    parser.add_argument("--name", help="name of the bundle (default: the configuration's)")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "fp16"), default=("fp32", "fp16"))
    parser.add_argument("--no-fast-graphs", action="store_true", help="leave out what wide networks need on x86-64 CPUs alone")
    parser.add_argument("--update", choices=("ema", "mnad", "none"), help="how the memory learns at the edge (default: the model's choice)")
    parser.add_argument("--update-rate", type=float, default=0.01, help="length of an ema step (default: %(default)s)")
    parser.add_argument("--drift-limit", type=float, default=0.25, help="drift at which the memory freezes (default: %(default)s)")
    parser.add_argument("--false-alarms-per-hour", type=float, default=1.0, help="what the threshold is chosen for")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    arguments = parser.parse_args()
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _export(arguments), is_debug=arguments.debug)


def _export(arguments: argparse.Namespace) -> int:
    signals = StopSignals()

    from calibration.score import CalibrationSettings
    from export.bundle import BundleSettings, load_run, make_bundle

    settings = BundleSettings(
        name=arguments.name,
        precisions=tuple(arguments.precisions),
        has_fast_graphs=not arguments.no_fast_graphs,
        update=arguments.update,
        update_rate=arguments.update_rate,
        drift_limit=arguments.drift_limit,
        calibration=CalibrationSettings(false_alarms_per_hour=arguments.false_alarms_per_hour),
    )
    with signals.interrupting():
        bundle = make_bundle(load_run(arguments.run), arguments.out, settings)
    for name, precision in bundle.manifest.precisions.items():
        threshold = precision.threshold
        note = " (extrapolated: the held-out footage is too short to show that rate)" if threshold.is_extrapolated else ""
        print(f"{name}: threshold {threshold.score:.2f} for {threshold.false_alarms_per_hour:g} false alarms per hour{note}")
    print(f"wrote {bundle.path}. Score with it: edge-run --bundle {shlex.quote(str(bundle.path))} --source …")
    return 0


if __name__ == "__main__":
    sys.exit(main())
