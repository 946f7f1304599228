"""`python -m export.import_mnad`: a bundle from a checkpoint of the public MNAD code (`make import-mnad CHECKPOINT=… ITEMS=… DATA=…`)."""

from __future__ import annotations

import argparse
import hashlib
import platform
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.commands import run_command, set_up_logging
from edge_runtime.commands.signals import StopSignals

if TYPE_CHECKING:
    from export.bundle import Run

__all__ = ["import_run", "main"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m export.import_mnad", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the trained model: its state dict, or the whole module")
    parser.add_argument("--items", type=Path, required=True, help="the memory items that were saved beside it")
    parser.add_argument("--data", required=True, help="normal footage to calibrate on that the model has not been trained on")
    parser.add_argument("--out", type=Path, default=Path("bundle"), help="folder of the bundle (default: %(default)s)")
    parser.add_argument("--name", default="mnad-imported", help="name of the bundle (default: %(default)s)")
    parser.add_argument("--height", type=int, default=256, help="of the network's input in pixels (default: %(default)s)")
    parser.add_argument("--width", type=int, default=256, help="of the network's input in pixels (default: %(default)s)")
    parser.add_argument("--fps", type=float, help="frame rate of footage that carries none, such as folders of images")
    parser.add_argument("--false-alarms-per-hour", type=float, default=1.0, help="what the threshold is chosen for")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    arguments = parser.parse_args()
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _import(arguments), is_debug=arguments.debug)


def _import(arguments: argparse.Namespace) -> int:
    signals = StopSignals()

    from calibration.score import CalibrationSettings
    from export.bundle import BundleSettings, make_bundle

    settings = BundleSettings(calibration=CalibrationSettings(false_alarms_per_hour=arguments.false_alarms_per_hour))
    with signals.interrupting():
        run = import_run(arguments.checkpoint, arguments.items, arguments.data, arguments.name, _size(arguments), arguments.fps)
        bundle = make_bundle(run, arguments.out, settings)
    print(f"wrote {bundle.path}. Score with it: edge-run --bundle {shlex.quote(str(bundle.path))} --source …")
    return 0


def _size(arguments: argparse.Namespace) -> tuple[int, int]:
    return arguments.height, arguments.width


def import_run(checkpoint: Path, items: Path, data: str, name: str, size: tuple[int, int] = (256, 256), fps: float | None = None) -> Run:
    """The network of a checkpoint as a training run of our own, whose held-out clips are the footage to calibrate on.

    Args:
        checkpoint, items: what the MNAD code has saved; see `load_release`.
        data: normal footage.
        size: height and width of the network's input, in pixels.
        fps: frame rate of footage that carries none.

    Raises:
        ConfigError: they are no such files, or do not fit each other; the footage has no one frame rate.
        SourceError: footage missing or unreadable.
    """
    import torch

    from export.bundle import Run
    from export.mnad_release import load_release
    from train.config import parse_config
    from train.memory import Memory
    from train.models import build_model

    release = load_release(checkpoint, items)
    target = 0 if release.model == "mnad_reconstruction" else release.frames
    values = {
        "name": name,
        "input": {"frames": release.frames, "target": target, "channels": release.channels, "height": size[0], "width": size[1]},
        "model": {"name": release.model, "width": release.width},
        "memory": {"items": len(release.items)},
    }
    config = parse_config(values, str(checkpoint))
    model = build_model(config)
    _load_weights(model, release.weights, checkpoint)
    memory = Memory(model.pools, torch.Generator())
    memory.load({"memory.items": release.items}, str(items))
    facts = {
        **_footage(data, fps),
        "training": [],
        "started_from": None,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        "imported": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (checkpoint, items)},
    }
    return Run(checkpoint, config, model.eval(), memory, facts, epoch=0)


def _load_weights(model: Any, weights: dict[str, Any], checkpoint: Path) -> None:
    """Put them in; the counters of batch norms, which nothing needs any more, may be missing."""
    from edge_runtime.errors import ConfigError

    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
    if wrong:
        raise ConfigError(f"{checkpoint}: expected MNAD's network, whose tensors have other names or sizes: {', '.join(wrong)}.")
    model.load_state_dict(weights, strict=False)


def _footage(data: str, fps: float | None) -> dict[str, Any]:
    """The clips of normal footage, as `run.json` names held-out ones, and their frame rate."""
    from calibration.clips import find_clips
    from edge_runtime.errors import ConfigError
    from edge_runtime.sources import open_source
    from edge_runtime.sources.footage import agree_on_rate

    clips = find_clips(data)
    rates = {source.fps for clip in clips if (source := open_source(clip.uri, default_fps=fps)).fps is not None}
    rate = agree_on_rate(rates)
    if rate is None:
        raise ConfigError(f"{data}: expected one frame rate, got {sorted(rates)}. Take clips of the rate the camera has.")
    held_out = []
    for clip in clips:
        frames = sum(1 for _ in open_source(clip.uri, default_fps=rate))
        held_out.append({"name": clip.name, "uri": clip.uri, "start": 0, "stop": frames})
    return {"fps": rate, "held_out": held_out}


if __name__ == "__main__":
    sys.exit(main())
