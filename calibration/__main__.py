"""`python -m calibration`: calibrate a bundle on normal footage of its camera (`make calibrate BUNDLE=… DATA=…`)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_runtime.commands import run_command, set_up_logging


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("bundle"), help="its manifest is replaced (default: %(default)s)")
    parser.add_argument("--data", required=True, help="normal footage that training has not seen: a folder of clips, or a video")
    parser.add_argument("--fps", type=float, help="frame rate of footage that does not say (default: the bundle's)")
    parser.add_argument("--false-alarms-per-hour", type=float, default=1.0, help="what the threshold is chosen for")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    arguments = parser.parse_args()
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _calibrate(arguments), is_debug=arguments.debug)


def _calibrate(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from calibration.clips import find_clips, frame_rate
    from calibration.score import CalibrationSettings, calibrate
    from edge_runtime.bundle import Bundle
    from edge_runtime.files import write_atomically
    from edge_runtime.manifest import encode_manifest, parse_manifest

    bundle = Bundle.load(arguments.bundle)
    clips = find_clips(arguments.data)
    fps = frame_rate(clips, arguments.fps or bundle.manifest.fps)
    bundle = replace(bundle, manifest=replace(bundle.manifest, fps=fps))
    settings = CalibrationSettings(false_alarms_per_hour=arguments.false_alarms_per_hour)
    manifest = calibrate(bundle, clips, settings)
    provenance = manifest.provenance | {"calibrated_on": arguments.data, "calibration": settings}
    path = arguments.bundle / "manifest.json"
    content = encode_manifest(replace(manifest, provenance=provenance))
    parse_manifest(content, str(path))
    write_atomically(path, content)
    for name, precision in manifest.precisions.items():
        note = " (extrapolated: more footage would show it)" if precision.threshold.is_extrapolated else ""
        print(f"{name}: threshold {precision.threshold.score:.2f} for {settings.false_alarms_per_hour:g} false alarms per hour{note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
