"""`python -m train`: train a model on normal footage (`make train CONFIG=… DATA=… OUT=…`)."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.commands import run_command, set_up_logging
from edge_runtime.commands.signals import StopSignals

if TYPE_CHECKING:
    from train.config import TrainConfig


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="TOML file, see configs/")
    parser.add_argument("--data", required=True, help="folder of clips (images or videos), one video, or synthetic:?clips=16&anomalies=off")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--epochs", type=int, help="instead of optimiser.epochs")
    parser.add_argument("--from", type=Path, metavar="RUN", dest="start", help="begin with the weights and the memory of another run")
    parser.add_argument("--device", default="auto", help="auto (the GPU where there is one), cpu or cuda")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    arguments = parser.parse_args()
    set_up_logging(is_debug=arguments.debug)
    return run_command(lambda: _train(arguments), is_debug=arguments.debug)


def _train(arguments: argparse.Namespace) -> int:
    signals = StopSignals()
    config = _config(arguments)

    from train.loop import train
    from train.starting_point import load_starting_point

    with signals.interrupting():
        start = None if arguments.start is None else load_starting_point(arguments.start)
        train(config, arguments.data, arguments.out, resume=arguments.resume, start=start, device=arguments.device)
    return 0


def _config(arguments: argparse.Namespace) -> TrainConfig:
    from train.config import check_config, load_config

    config = load_config(arguments.config)
    if arguments.epochs is None:
        return config
    config = dataclasses.replace(config, optimiser=dataclasses.replace(config.optimiser, epochs=arguments.epochs))
    check_config(config, f"{arguments.config} with --epochs {arguments.epochs}")
    return config


if __name__ == "__main__":
    sys.exit(main())
