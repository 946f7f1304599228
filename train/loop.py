"""The training loop: epochs, held-out evaluation, checkpoints, and what is written about them."""

from __future__ import annotations

import json
import logging
import math
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from edge_runtime.errors import ConfigError
from edge_runtime.files import write_atomically
from train.arithmetic import autocast, choose_device, choose_precision
from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.config import TrainConfig, config_values
from train.data import Batch, Footage, Windows, cache_footage
from train.memory import Memory, pool_health
from train.model import Model, Step
from train.models import build_model
from train.outlook import PACE_STEPS, tell_pace, warn_of_another_horizon
from train.run_folder import check_begun_as, check_clips, claimed
from train.starting_point import StartingPoint

__all__ = ["forward", "train"]

log = logging.getLogger(__name__)


@dataclass
class Training:
    """Everything that changes while training, and where.

    Attributes:
        precision: `fp32` or `bf16`, no longer `auto`.
        is_paced: whether the log has said how long an epoch takes, where no bar shows it.
    """

    model: Model
    memory: Memory
    optimiser: torch.optim.Adam
    device: torch.device
    precision: str
    epoch: int = 0
    best_loss: float = float("inf")
    is_paced: bool = False


def train(
    config: TrainConfig, data: str, out: Path, *, resume: bool = False, start: StartingPoint | None = None, device: str = "auto"
) -> None:
    """Train and leave a run in `out`: run.json, checkpoint, best model, metrics.jsonl, TensorBoard events.

    The best model is the one with the lowest prediction error on the held-out clips.

    Args:
        data: normal footage, as `cache_footage` takes it.
        resume: go on from the last whole epoch; ends with the same weights as a run without a break.
        start: weights and memory to begin with; random where None.
        device: `auto` (the GPU where there is one), `cpu` or `cuda`.

    Raises:
        ConfigError: `out` holds a run and resume is off, or holds a run of another configuration; another training writes there;
            `start` does not fit; there is no GPU for `cuda`.
        SinkError: `out` cannot be written.
    """
    with claimed(out):
        _train(config, data, out, resume, start, choose_device(device))


def _train(config: TrainConfig, data: str, out: Path, resume: bool, start: StartingPoint | None, device: torch.device) -> None:
    check_begun_as(config, data, out, resume=resume)
    training = _begin(config, device)
    footage = cache_footage(data, config.input, config.data, out / "cache")
    warn_of_another_horizon(config, footage.fps)
    windows = Windows(footage.training, config.input, config.pseudo_anomalies, device)
    held_out = Windows(footage.held_out, config.input, device=device)
    if len(windows) < 2:
        raise ConfigError(f"{data}: expected 2 windows or more to train on, the training clips have {len(windows)}. Record longer clips.")
    description = _describe_run(config, data, footage, start)
    check_clips(description, out)
    if start is not None:
        start.check_held_out(clip.segment for clip in footage.held_out)
        start.begin(training.model, training.memory)
    if resume and not (out / "checkpoint.safetensors").exists():
        log.info("%s: no whole epoch to resume from: beginning with the first", out)
    elif resume:
        _restore(training, load_checkpoint(out / "checkpoint.safetensors"), str(out))
    write_atomically(out / "run.json", _as_json(description))
    started = monotonic()
    epochs = range(training.epoch, config.optimiser.epochs)
    with SummaryWriter(str(out / "tensorboard")) as board:
        for epoch in epochs:
            metrics = _train_epoch(training, windows, config, epoch)
            metrics["held_out_loss"] = _held_out_loss(training, held_out, config)
            _check_finite(metrics["held_out_loss"], epoch, config, training.precision)
            training.epoch = epoch + 1
            _save(training, metrics, out)
            _log(board, out / "metrics.jsonl", metrics)
            left_s = (monotonic() - started) / (epoch + 1 - epochs.start) * (epochs.stop - epoch - 1)
            losses = f"loss {metrics['loss']:.5f}, held-out prediction loss {metrics['held_out_loss']:.5f}"
            log.info("epoch %d of %d: %s, about %d min left", epoch + 1, epochs.stop, losses, round(left_s / 60))


def _begin(config: TrainConfig, device: torch.device) -> Training:
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    model = build_model(config).to(device)
    _lay_out(model)
    memory = Memory(model.pools, generator, device)
    optimiser = torch.optim.Adam([*model.parameters(), *memory.parameters()], lr=config.optimiser.learning_rate, fused=True)
    return Training(model, memory, optimiser, device, choose_precision(config.optimiser.precision, device))


def _lay_out(model: nn.Module) -> None:
    """Channels last, where there are two dimensions of space: convolutions are faster so."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _train_epoch(training: Training, windows: Windows, config: TrainConfig, epoch: int) -> dict[str, Any]:
    """One pass over the training windows, in an order that depends on the seed and the epoch alone."""
    training.model.train()
    order = np.random.default_rng([config.seed, epoch])
    size = config.optimiser.batch_size
    items_before = training.memory.copy_items()
    sums: Counter[str] = Counter()
    claims = {name: torch.zeros(len(items), device=training.device) for name, items in items_before.items()}
    steps = -(-len(windows) // size)
    bar = tqdm(windows.batches(size, order), total=steps, desc=f"epoch {epoch + 1}/{config.optimiser.epochs}", unit="step", disable=None)
    started = monotonic()
    for step, batch in enumerate(bar):
        rate = _learning_rate(config, epoch + step / steps)
        for group in training.optimiser.param_groups:
            group["lr"] = rate
        losses, encoded = _train_step(training, batch)
        _check_finite(losses["loss"], epoch, config, training.precision)
        sums.update(losses)
        for name, count in training.memory.claims(encoded).items():
            claims[name] += count
        training.memory.write(encoded)
        if bar.disable and not training.is_paced and step + 1 == PACE_STEPS < steps:
            tell_pace(monotonic() - started, steps, config.optimiser.epochs - epoch)
            training.is_paced = True
        bar.set_postfix(loss=f"{sums['loss'] / (step + 1):.4f}", lr=f"{rate:.1e}")
    metrics: dict[str, Any] = {"epoch": epoch + 1, "learning_rate": rate}
    metrics |= {name: value / (step + 1) for name, value in sums.items()}
    items = training.memory.copy_items()
    health = {name: asdict(pool_health(claims[name], items[name], items_before[name])) for name in items}
    return metrics | ({"memory": health} if health else {})


def _check_finite(loss: float, epoch: int, config: TrainConfig, precision: str) -> None:
    """Weights do not come back from a loss that is no number, and must not be kept."""
    if not math.isfinite(loss):
        raise ConfigError(
            f"epoch {epoch + 1}: expected a finite loss, got {loss}. Nothing of this epoch is kept. Train again with a lower "
            f"optimiser.learning_rate (it is {config.optimiser.learning_rate:g}) or smaller weights under [loss]"
            f"{'' if precision == 'fp32' else ', or with optimiser.precision fp32'}."
        )


def _train_step(training: Training, batch: Batch) -> tuple[dict[str, float], Mapping[str, Tensor]]:
    """The losses before the step, by name, and what `encode` returned."""
    training.optimiser.zero_grad(set_to_none=True)
    step = forward(training.model, training.memory, batch, training.precision)
    losses = training.model.losses(step)
    losses["loss"].backward()
    training.optimiser.step()
    values = torch.stack([value.detach() for value in losses.values()]).tolist()  # the one wait for the device
    return dict(zip(losses, values, strict=True)), step.encoded


def forward(model: Model, memory: Memory, batch: Batch, precision: str = "fp32") -> Step:
    """Encode, read, decode. With `bf16` the convolutions run in bfloat16; queries, memory and results are float32 either way."""
    device = batch.window.device
    with autocast(device, precision):
        encoded = model.encode(batch.window)
        with autocast(device, "fp32"):
            reading = memory.read(encoded)
        prediction = model.decode({**encoded, **reading.inputs})
    return Step(batch.window, batch.target, prediction.float(), encoded, reading, memory.items, batch.is_pseudo)


@torch.no_grad()
def _held_out_loss(training: Training, windows: Windows, config: TrainConfig) -> float:
    """Mean squared prediction error on [−1, 1] images over the held-out windows; the memory is read, not written."""
    training.model.eval()
    total = 0.0
    for batch in windows.batches(config.optimiser.batch_size):
        prediction = forward(training.model, training.memory, batch, training.precision).prediction
        total += float(nn.functional.mse_loss(prediction, batch.target)) * len(batch.target)
    return total / len(windows)


def _learning_rate(config: TrainConfig, epochs_done: float) -> float:
    return config.optimiser.learning_rate * 0.5 * (1 + float(np.cos(np.pi * epochs_done / config.optimiser.epochs)))


def _save(training: Training, metrics: dict[str, Any], out: Path) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in training.model.state_dict().items()} | training.memory.tensors()
    if metrics["held_out_loss"] < training.best_loss:
        training.best_loss = metrics["held_out_loss"]
        save_checkpoint(out / "best.safetensors", Checkpoint(tensors, metrics))
    for index, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    save_checkpoint(out / "checkpoint.safetensors", Checkpoint(tensors, metrics | {"best_loss": training.best_loss}))


def _restore(training: Training, checkpoint: Checkpoint, origin: str) -> None:
    training.model.load_state_dict(checkpoint.part("model"))
    training.memory.load(checkpoint.tensors, origin)
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.part("optimiser").items():
        index, _, key = name.partition(".")
        # The fused step pairs parameter and state in the order of memory: they need one layout.
        layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        state.setdefault(int(index), {})[key] = tensor.contiguous(memory_format=layout)
    training.optimiser.load_state_dict(training.optimiser.state_dict() | {"state": state})
    training.epoch = checkpoint.facts["epoch"]
    training.best_loss = checkpoint.facts["best_loss"]


def _log(board: SummaryWriter, path: Path, metrics: dict[str, Any]) -> None:
    epoch = metrics["epoch"]
    scalars = {name: value for name, value in metrics.items() if isinstance(value, float)}
    for pool, health in metrics.get("memory", {}).items():
        scalars |= {f"{pool}/{name}": value for name, value in health.items() if isinstance(value, float)}
        scalars |= {f"{pool}/usage_{m}": share for m, share in enumerate(health["usage"])}
    for name, value in scalars.items():
        board.add_scalar(name, value, epoch)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def _describe_run(config: TrainConfig, data: str, footage: Footage, start: StartingPoint | None) -> dict[str, Any]:
    return {
        "configuration": config_values(config),
        "data": data,
        "fps": footage.fps,
        "started_from": None if start is None else start.describe(),
        "training": [asdict(clip.segment) for clip in footage.training],
        "held_out": [asdict(clip.segment) for clip in footage.held_out],
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__},
    }


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
