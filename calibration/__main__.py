"""`python -m calibration`: calibrate a bundle on normal footage of its camera (`make calibrate BUNDLE=… DATA=…`)."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands import run_command, set_up_logging
from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration.clips import NormalClip
    from edge_runtime.bundle.manifest import Manifest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__)
    parser.add_argument(
        "--bundle",
        type=Path,
        default=Path(os.environ.get("EDGE_BUNDLE", "bundle")),
        help="its manifest is replaced (default: $EDGE_BUNDLE, else ./bundle)",
    )
    parser.add_argument("--data", required=True, help="normal footage that training has not seen: a folder of clips, or a video")
    parser.add_argument(
        "--fps",
        type=float,
        help="frame rate of footage that does not say (default: the bundle's); another than the bundle's has to be said",
    )
    parser.add_argument("--false-alarms-per-hour", type=float, default=1.0, help="what the threshold is chosen for")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    arguments = parser.parse_args()
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _calibrate(arguments), is_debug=arguments.debug)


def _calibrate(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from calibration.clips import find_clips
    from calibration.score import CalibrationSettings, calibrate
    from calibration.seen_clips import warn_before_calibration
    from edge_runtime.bundle import Bundle
    from edge_runtime.bundle.manifest_file import encode_manifest, parse_manifest
    from edge_runtime.files import write_atomically
    from edge_runtime.sources.footage import agree_on_rate

    if arguments.fps is not None and not 0 < arguments.fps < float("inf"):
        raise ConfigError(
            f"--fps: expected frames per second above 0, got {arguments.fps:g}. Leave it out for footage of the bundle's rate."
        )
    bundle = Bundle.load(arguments.bundle)
    clips = find_clips(arguments.data)
    trained_fps = _trained_fps(bundle.manifest)
    fps = _rate_of(clips, arguments, bundle.manifest.fps, trained_fps)
    if agree_on_rate((fps, bundle.manifest.fps)) is None:
        print(f"frames per second: the bundle's were {bundle.manifest.fps:g}, they will be {fps:g}")
    bundle = replace(bundle, manifest=replace(bundle.manifest, fps=fps))
    warn_before_calibration(bundle.manifest, clips)
    settings = CalibrationSettings(false_alarms_per_hour=arguments.false_alarms_per_hour)
    manifest = calibrate(bundle, clips, settings)
    provenance = manifest.provenance | {"calibrated_on": arguments.data, "calibration": settings, "trained_fps": trained_fps}
    path = arguments.bundle / "manifest.json"
    content = encode_manifest(replace(manifest, provenance=provenance))
    parse_manifest(content, str(path))
    write_atomically(path, content)
    for name, precision in manifest.precisions.items():
        note = " (extrapolated: more footage would show it)" if precision.threshold.is_extrapolated else ""
        print(f"{name}: threshold {precision.threshold.score:.2f} for {settings.false_alarms_per_hour:g} false alarms per hour{note}")
    return 0


def _trained_fps(manifest: Manifest) -> float:
    """The frame rate that the model learned motion at: the exporter's, which the first calibration noted."""
    noted = manifest.provenance.get("trained_fps")
    return float(noted) if isinstance(noted, int | float) and noted > 0 else manifest.fps


def _rate_of(clips: Sequence[NormalClip], arguments: argparse.Namespace, bundle_fps: float, trained_fps: float) -> float:
    """The footage's frame rate, which from now on is the bundle's, and so the one that cameras are scored at.

    Raises:
        ConfigError: `--fps` says another one than the footage; or the model has not learned what motion looks like at this rate.
    """
    from calibration.clips import frame_rate
    from edge_runtime.run.rate_watch import holds_at
    from edge_runtime.sources.footage import agree_on_rate

    wished = arguments.fps
    fps = frame_rate(clips, bundle_fps if wished is None else wished)
    if wished is not None and agree_on_rate((fps, wished)) is None:
        raise ConfigError(
            f"{arguments.data}: expected the {wished:g} frames per second of --fps, the footage itself says {fps:g}. Leave --fps out, or "
            f"make footage of that rate: ffmpeg -i IN -vf fps={wished:g} OUT"
        )
    if holds_at(fps, trained_fps):
        return fps
    reason = f"at {fps:g} frames per second the model, trained at {trained_fps:g}, sees motion that it has not learned"
    if wished is None:
        raise ConfigError(
            f"{arguments.data}: expected footage of about {trained_fps:g} frames per second, got {fps:g}: {reason}. Make footage of its "
            f"rate (ffmpeg -i IN -vf fps={trained_fps:g} OUT), or train at {fps:g}. To calibrate all the same, say --fps {fps:g}."
        )
    print(f"warning: {reason}; cameras will be scored at {fps:g} from now on, as wished.", file=sys.stderr)
    return fps


if __name__ == "__main__":
    sys.exit(main())
