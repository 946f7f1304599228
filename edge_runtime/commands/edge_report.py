"""`edge-report`: tables of what a bundle does on labelled footage."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.commands import run_command, set_up_logging
from edge_runtime.commands.backend_flags import add_backend_flags

if TYPE_CHECKING:
    from edge_runtime.report.accuracy import AccuracyReport

__all__ = ["main"]

PROTOCOLS = ("paper", "pooled_psnr", "pooled_local", "causal")


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _run(arguments), is_debug=arguments.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-report", description=__doc__)
    kinds = parser.add_subparsers(required=True, metavar="KIND")
    common, of_all = argparse.ArgumentParser(add_help=False), argparse.ArgumentParser(add_help=False)
    for flags in (common, of_all):
        flags.add_argument(
            "--bundle", type=Path, default=Path(os.environ.get("EDGE_BUNDLE", "bundle")), help="default: $EDGE_BUNDLE, else ./bundle"
        )
        add_backend_flags(flags, with_precision=flags is common)
        flags.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the report")
        flags.add_argument("--debug", action="store_true", help="more log lines, and tracebacks")

    accuracy = kinds.add_parser("accuracy", parents=[common], help="AUC by protocol and memory mode, on a labelled set")
    accuracy.add_argument("--data", required=True, metavar="DIR", help="clips: DIR/<clip>/<frame>.jpg or DIR/<clip>.mp4")
    accuracy.add_argument("--labels", required=True, metavar="FILE|DIR", help="CSV clip,frame,anomalous, or masks DIR/<clip>/<frame>.png")
    accuracy.add_argument("--carry-memory", action="store_true", help="do not reset the memory before each clip")
    accuracy.add_argument("--plot", action="store_true", help="draw scores.png: every clip's score against its labels")
    accuracy.set_defaults(body=_accuracy)

    events = kinds.add_parser("events", parents=[common], help="hits and false alarms on sources that know their truth")
    events.add_argument("--source", required=True, metavar="URI", help="for example synthetic:?clips=5&frames=400")
    events.set_defaults(body=_events)

    precision = kinds.add_parser("precision", parents=[of_all], help="what each precision does to scores, alarms and memory: a verdict")
    precision.add_argument("--data", required=True, metavar="URI", help="clips that training has not seen, as for accuracy")
    precision.add_argument("--labels", metavar="FILE|DIR", help="as for accuracy; without them there is no AUC")
    precision.add_argument("--precisions", nargs="+", metavar="NAME", help="these alone, held against the first (default: all)")
    precision.add_argument("--store", action="store_true", help="write the verdicts into the bundle's manifest")
    precision.set_defaults(body=_precision)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from edge_runtime.locks import locked_folder

    body: Callable[[argparse.Namespace], int] = arguments.body
    with locked_folder(arguments.out):
        return body(arguments)


def _accuracy(arguments: argparse.Namespace) -> int:
    from edge_runtime.bundle import Bundle
    from edge_runtime.report.accuracy import measure_accuracy

    if arguments.plot:
        from edge_runtime.optional.plotting import figure_class

        figure_class()  # said before the clips are scored, not after
    report = measure_accuracy(
        Bundle.load(arguments.bundle),
        arguments.data,
        arguments.labels,
        precision=arguments.precision,
        backend=arguments.backend,
        device=arguments.device,
        carries_memory=arguments.carry_memory,
        on_clip=lambda name: print(f"clip {name}", file=sys.stderr),
    )
    _print_table(report)  # first: a file that cannot be written loses it no more
    _write_json(arguments.out / "accuracy.json", _as_json(report))
    if arguments.plot:
        from edge_runtime.report.score_plot import draw_scores

        draw_scores(report, arguments.out / "scores.png")
    print(f"-> {arguments.out}")
    return 0


def _events(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edge_runtime.bundle import Bundle
    from edge_runtime.detector import Detector
    from edge_runtime.evaluation.scoring import open_evaluation_stream, score_frames
    from edge_runtime.report.accuracy import count_events, sum_counts
    from edge_runtime.sources import clip_uris, open_source

    bundle = Bundle.load(arguments.bundle)
    detector = Detector.open(bundle, precision=arguments.precision, backend=arguments.backend, device=arguments.device)
    threshold = bundle.precision(detector.precision).threshold
    clips = {}
    for name, uri in clip_uris(arguments.source).items():
        clips[uri if name.startswith("synthetic") else name] = score_frames(
            detector, open_evaluation_stream(detector, is_learning=True), open_source(uri, default_fps=bundle.manifest.fps, stream=name)
        )
    counts = count_events(clips, threshold.score, threshold.hold_s)
    counts["total"] = sum_counts(list(counts.values()))
    width = max(map(len, counts))
    for name, count in counts.items():
        print(f"{name:<{width}}  {count.events} events, {count.hits} hit, {count.missed} missed, {count.false_alarms} false alarms")
    ran = {
        "bundle": bundle.manifest.name,
        "backend": detector.backend,
        "device": detector.device.name,
        "precision": detector.precision,
        "fast_graphs": detector.runs_fast_graphs,
    }
    _write_json(arguments.out / "events.json", ran | {"clips": {name: asdict(c) for name, c in counts.items()}})
    print(f"-> {arguments.out}")
    return 0


def _precision(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edge_runtime.bundle import Bundle
    from edge_runtime.report.precision import measure_precisions
    from edge_runtime.report.precision_page import precision_page
    from edge_runtime.report.verdict import in_words, store

    bundle = Bundle.load(arguments.bundle)
    report = measure_precisions(
        bundle,
        arguments.data,
        arguments.labels,
        precisions=arguments.precisions,
        backend=arguments.backend,
        device=arguments.device,
        on_clip=lambda name: print(f"clip {name}", file=sys.stderr),
    )
    words = in_words(bundle.manifest, report.verdicts)
    page = precision_page(report, words)
    print(page)
    _write_text(arguments.out / "precision.md", page)
    _write_json(arguments.out / "precision.json", asdict(report) | {"words": words})
    if arguments.store:
        store(bundle, report.verdicts)
    print(f"-> {arguments.out}" + (f", and the verdicts in {arguments.bundle}/manifest.json" if arguments.store else ""))
    return 0


def _as_json(report: AccuracyReport) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "bundle": report.bundle,
        "backend": report.backend,
        "device": report.device,
        "precision": report.precision,
        "fast_graphs": report.fast_graphs,
        "threshold": report.threshold,
        "carries_memory": report.carries_memory,
        "memory": {mode: asdict(part.result) | {"alarms": asdict(part.alarms)} for mode, part in report.memory.items()},
    }


def _print_table(report: AccuracyReport) -> None:
    print(f"{report.bundle}, {report.precision}, {report.backend} on {report.device}: frame-level AUC in percent")
    print(f"{'memory':<10}" + "".join(f"{name:>14}" for name in PROTOCOLS) + f"{'learned: normal':>18}{'anomalous':>12}")
    for mode, part in report.memory.items():
        result = part.result
        normal = result.frames - result.anomalous
        shares = [(result.updates - result.updates_anomalous) / max(normal, 1), result.updates_anomalous / max(result.anomalous, 1)]
        aucs = "".join(f"{getattr(result, name):>14.2f}" for name in PROTOCOLS)
        print(f"{mode:<10}{aucs}{shares[0]:>18.1%}{shares[1]:>12.1%}")
    for mode, part in report.memory.items():
        count = part.alarms
        print(f"{mode}: {count.hits} of {count.events} events raised an alarm at {report.threshold:.2f}, {count.false_alarms} false alarms")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    import json

    _write_text(path, json.dumps(value, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    from edge_runtime.files import write_atomically

    write_atomically(path, text.encode())


if __name__ == "__main__":
    sys.exit(main())
