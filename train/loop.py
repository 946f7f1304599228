"""The training loop: epochs, held-out evaluation, checkpoints, and what is written about them."""

from __future__ import annotations

import json
import logging
import math
import platform
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
from train import memory
from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.config import TrainConfig
from train.data import Footage, Windows, cache_footage
from train.losses import Losses, mnad_losses
from train.memory import memory_health
from train.models import Mnad, build_model
from train.outlook import PACE_STEPS, tell_pace, warn_of_another_horizon
from train.precision import warn_of_slow_precision
from train.run_folder import check_begun_as, check_clips, claimed
from train.starting_point import StartingPoint

__all__ = ["train"]

log = logging.getLogger(__name__)


@dataclass
class Training:
    """Everything that changes while training.

    Attributes:
        items: (M, D), or None for the model without memory.
        is_paced: whether the log has said how long an epoch takes, where no bar shows it.
    """

    model: Mnad
    items: Tensor | None
    optimiser: torch.optim.Adam
    epoch: int = 0
    best_loss: float = float("inf")
    is_paced: bool = False


def train(config: TrainConfig, data: str, out: Path, *, resume: bool = False, start: StartingPoint | None = None) -> None:
    """Train and leave a run in `out`: run.json, checkpoint, best model, metrics.jsonl, TensorBoard events.

    The best model is the one with the lowest prediction loss on the held-out clips.

    Args:
        data: normal footage, as `cache_footage` takes it.
        resume: go on from the last whole epoch; ends with the same weights as a run without a break.
        start: weights and memory to begin with; random where None.

    Raises:
        ConfigError: `out` holds a run and resume is off, or holds a run of another configuration; another training writes there;
            `start` does not fit.
        SinkError: `out` cannot be written.
    """
    with claimed(out):
        _train(config, data, out, resume, start)


def _train(config: TrainConfig, data: str, out: Path, resume: bool, start: StartingPoint | None) -> None:
    check_begun_as(config, data, out, resume=resume)
    warn_of_slow_precision(config)
    footage = cache_footage(data, config.input, config.data, out / "cache")
    warn_of_another_horizon(config, footage.fps)
    windows = Windows(footage.training, config.input, config.pseudo_anomalies)
    held_out = Windows(footage.held_out, config.input)
    if len(windows) < 2:
        raise ConfigError(f"{data}: expected 2 windows or more to train on, the training clips have {len(windows)}. Record longer clips.")
    description = _describe_run(config, data, footage, start)
    check_clips(description, out)
    training = _begin(config)
    if start is not None:
        start.check_held_out(clip.segment for clip in footage.held_out)
        training.items = start.begin(training.model, training.items)
    if resume and not (out / "checkpoint.safetensors").exists():
        log.info("%s: no whole epoch to resume from: beginning with the first", out)
    elif resume:
        _restore(training, load_checkpoint(out / "checkpoint.safetensors"))
    write_atomically(out / "run.json", _as_json(description))
    started = monotonic()
    epochs = range(training.epoch, config.optimiser.epochs)
    with SummaryWriter(str(out / "tensorboard")) as board:
        for epoch in epochs:
            metrics = _train_epoch(training, windows, config, epoch)
            metrics["held_out_loss"] = _held_out_loss(training, held_out, config)
            _check_finite(metrics["held_out_loss"], epoch, config)
            training.epoch = epoch + 1
            _save(training, metrics, out)
            _log(board, out / "metrics.jsonl", metrics)
            left_s = (monotonic() - started) / (epoch + 1 - epochs.start) * (epochs.stop - epoch - 1)
            losses = f"loss {metrics['loss']:.5f}, held-out prediction loss {metrics['held_out_loss']:.5f}"
            log.info("epoch %d of %d: %s, about %d min left", epoch + 1, epochs.stop, losses, round(left_s / 60))


def _begin(config: TrainConfig) -> Training:
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    model = build_model(config).to(memory_format=torch.channels_last)
    items = memory.initial_items(config.memory.items, model.query_size, generator) if config.memory.items else None
    return Training(model, items, torch.optim.Adam(model.parameters(), lr=config.optimiser.learning_rate, fused=True))


def _train_epoch(training: Training, windows: Windows, config: TrainConfig, epoch: int) -> dict[str, Any]:
    """One pass over the training windows, in an order that depends on the seed and the epoch alone."""
    training.model.train()
    order = np.random.default_rng([config.seed, epoch])
    size = config.optimiser.batch_size
    items_before = training.items
    sums = dict.fromkeys(("loss", "prediction", "compactness", "separateness"), 0.0)
    claims = torch.zeros(config.memory.items)
    steps = -(-len(windows) // size)
    bar = tqdm(windows.batches(size, order), total=steps, desc=f"epoch {epoch + 1}/{config.optimiser.epochs}", unit="step", disable=None)
    started = monotonic()
    for step, (clip, target) in enumerate(bar):
        rate = _learning_rate(config, epoch + step / steps)
        for group in training.optimiser.param_groups:
            group["lr"] = rate
        losses, query = _train_step(training, clip, target, config)
        values = _values(losses)
        _check_finite(values["loss"], epoch, config)
        for name, value in values.items():
            sums[name] += value
        if training.items is not None:
            claims += _claims(query, training.items)
            training.items = memory.write(query, training.items, config.memory.write_scale)
        if bar.disable and not training.is_paced and step + 1 == PACE_STEPS < steps:
            tell_pace(monotonic() - started, steps, config.optimiser.epochs - epoch)
            training.is_paced = True
        bar.set_postfix(loss=f"{sums['loss'] / (step + 1):.4f}", lr=f"{rate:.1e}")
    metrics: dict[str, Any] = {"epoch": epoch + 1, "learning_rate": rate}
    metrics |= {name: value / (step + 1) for name, value in sums.items()}
    if training.items is not None and items_before is not None:
        metrics["memory"] = asdict(memory_health(claims, training.items, items_before))
    return metrics


def _check_finite(loss: float, epoch: int, config: TrainConfig) -> None:
    """Weights do not come back from a loss that is no number, and must not be kept."""
    if not math.isfinite(loss):
        raise ConfigError(
            f"epoch {epoch + 1}: expected a finite loss, got {loss}. Nothing of this epoch is kept. Train again with a lower "
            f"optimiser.learning_rate (it is {config.optimiser.learning_rate:g}) or smaller weights under [loss]"
            f"{'' if config.optimiser.precision == 'fp32' else ', or with optimiser.precision fp32'}."
        )


def _train_step(training: Training, clip: Tensor, target: Tensor, config: TrainConfig) -> tuple[Losses, Tensor]:
    training.optimiser.zero_grad(set_to_none=True)
    prediction, query = predict(training.model, training.items, clip, config.optimiser.precision)
    losses = mnad_losses(prediction, target, query, training.items, config.loss)
    losses.total.backward()
    training.optimiser.step()
    return losses, query.detach()


def predict(model: Mnad, items: Tensor | None, clip: Tensor, precision: str = "fp32") -> tuple[Tensor, Tensor]:
    """Encoder, read, decoder.

    Args:
        items: (M, D), or None for the model without memory.
        clip: (B, T, C, h, w) in [−1, 1].
        precision: `fp32`, or `bf16` for the convolutions; the memory and the results are float32 either way.

    Returns:
        prediction (B, C, h, w) in [−1, 1], and query (B, D, h/8, w/8).
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        encoded = model.encoder(clip)
        query = encoded.pop("query")
        with torch.autocast("cpu", enabled=False):
            mixed = None if items is None else memory.read(query, items)
        prediction = model.decoder(query, mixed, **encoded)
    return prediction.float(), query


@torch.no_grad()
def _held_out_loss(training: Training, windows: Windows, config: TrainConfig) -> float:
    """Mean squared prediction error on [−1, 1] images over the held-out windows; the memory is read, not written."""
    training.model.eval()
    total = 0.0
    for clip, target in windows.batches(config.optimiser.batch_size):
        prediction, _ = predict(training.model, training.items, clip, config.optimiser.precision)
        total += float(nn.functional.mse_loss(prediction, target)) * len(clip)
    return total / len(windows)


def _learning_rate(config: TrainConfig, epochs_done: float) -> float:
    return config.optimiser.learning_rate * 0.5 * (1 + float(np.cos(np.pi * epochs_done / config.optimiser.epochs)))


def _claims(query: Tensor, items: Tensor) -> Tensor:
    """(M,) how many queries have item m as their nearest."""
    return torch.bincount((memory.flatten(query) @ items.T).argmax(dim=1), minlength=len(items)).float()


def _values(losses: Losses) -> dict[str, float]:
    return {
        "loss": losses.total.item(),
        "prediction": losses.prediction.item(),
        "compactness": losses.compactness.item(),
        "separateness": losses.separateness.item(),
    }


def _save(training: Training, metrics: dict[str, Any], out: Path) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in training.model.state_dict().items()}
    if training.items is not None:
        tensors["memory.items"] = training.items
    if metrics["held_out_loss"] < training.best_loss:
        training.best_loss = metrics["held_out_loss"]
        save_checkpoint(out / "best.safetensors", Checkpoint(tensors, metrics))
    for index, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
    save_checkpoint(out / "checkpoint.safetensors", Checkpoint(tensors, metrics | {"best_loss": training.best_loss}))


def _restore(training: Training, checkpoint: Checkpoint) -> None:
    training.model.load_state_dict(checkpoint.part("model"))
    training.items = checkpoint.tensors.get("memory.items")
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
    health = metrics.get("memory", {})
    scalars = {name: value for name, value in metrics.items() if isinstance(value, float)}
    scalars |= {f"memory/{name}": value for name, value in health.items() if isinstance(value, float)}
    scalars |= {f"memory/usage_{m}": share for m, share in enumerate(health.get("usage", ()))}
    for name, value in scalars.items():
        board.add_scalar(name, value, epoch)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def _describe_run(config: TrainConfig, data: str, footage: Footage, start: StartingPoint | None) -> dict[str, Any]:
    return {
        "configuration": asdict(config),
        "data": data,
        "fps": footage.fps,
        "started_from": None if start is None else start.describe(),
        "training": [asdict(clip.segment) for clip in footage.training],
        "held_out": [asdict(clip.segment) for clip in footage.held_out],
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__},
    }


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
