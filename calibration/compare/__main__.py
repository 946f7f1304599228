"""`python -m calibration.compare`: compare bundles on normal footage of their camera (`make compare BUNDLES=… DATA=…`)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands import run_command, set_up_logging
from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from calibration.clips import NormalClip
    from calibration.compare.comparison import Comparison, Lead
    from edge_runtime.bundle import Bundle

__all__ = ["main"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m calibration.compare", description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="bundles for one camera")
    parser.add_argument(
        "--data", required=True, help="normal footage that none was trained or calibrated on: a folder of clips, or a video"
    )
    parser.add_argument("--clips", nargs="+", metavar="NAME", help="of the clips in DATA, only these (default: all)")
    parser.add_argument("--rounds", type=int, default=4, help="replays of each clip, of each kind (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each clip, from its beginning (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="of the replays")
    parser.add_argument("--precision", default="fp32", help="of the graphs, which run on the CPU (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the figures, as JSON")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    arguments = parser.parse_args()
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _compare(arguments), is_debug=arguments.debug)


def _compare(arguments: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from calibration.clips import find_clips
    from calibration.compare.comparison import CompareSettings, compare
    from calibration.seen_clips import warn_before_comparison
    from edge_runtime.bundle import Bundle
    from edge_runtime.files import write_atomically

    bundles = {str(path): Bundle.load(path) for path in arguments.bundles}
    settings = CompareSettings(arguments.rounds, arguments.seconds, arguments.precision, arguments.seed)
    clips = _choose(find_clips(arguments.data), arguments.clips)
    warn_before_comparison({name: bundle.manifest for name, bundle in bundles.items()}, clips)
    comparison = compare(bundles, clips, settings)
    _print_table(comparison, bundles, settings.precision)
    if arguments.out:
        facts = {"data": arguments.data, "clips": arguments.clips, "settings": asdict(settings), **asdict(comparison)}
        write_atomically(arguments.out, (json.dumps(facts, indent=2) + "\n").encode())
    return 0


def _choose(clips: list[NormalClip], names: Sequence[str] | None) -> list[NormalClip]:
    if names is None:
        return clips
    missing = set(names) - {clip.name for clip in clips}
    if missing:
        raise ConfigError(f"--clips: expected some of {', '.join(clip.name for clip in clips)}, got {', '.join(sorted(missing))}.")
    return [clip for clip in clips if clip.name in names]


def _print_table(comparison: Comparison, bundles: Mapping[str, Bundle], precision: str) -> None:
    print(f"{comparison.footage_s:.0f} s of normal footage, replayed {comparison.replays} times for each kind of pseudo-anomaly")
    print(f"{'':<20}{'paper':>18}{'causal':>18}{'hits':>12}{'false alarms':>14}")
    for name, kinds in comparison.kinds.items():
        settings = bundles[name].precision(precision)
        print(
            f"{name}: λ {bundles[name].manifest.paper_weight:g}, smoothing {settings.score_scale.smoothing_frames} frames, "
            f"threshold for {settings.threshold.false_alarms_per_hour:g} false alarms per hour"
        )
        for kind, result in kinds.items():
            aucs = [_with_lead(result.paper, result.paper_lead), _with_lead(result.causal, result.causal_lead)]
            print(f"  {kind:<18}{aucs[0]:>18}{aucs[1]:>18}{f'{result.hits} of {result.events}':>12}{result.false_alarms:>14}")
    print("AUC in percent (lead over the first bundle ± its standard error). Nothing here says how a real anomaly would score.")


def _with_lead(auc: float, lead: Lead) -> str:
    return f"{auc:.1f}" if lead.error == 0 else f"{auc:.1f} ({lead.auc:+.1f} ± {lead.error:.1f})"


if __name__ == "__main__":
    sys.exit(main())
