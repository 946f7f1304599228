from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from edge_runtime.errors import ConfigError
from tests.kit.wording import raises
from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.memory import Memory, TrainedPool

TENSORS = {
    "model.conv.weight": torch.arange(36.0).reshape(2, 2, 3, 3).contiguous(memory_format=torch.channels_last),
    "model.norm.count": torch.tensor(7),
    "memory.items": torch.eye(3, 4),
    "optimiser.0.step": torch.tensor(12.0),
}
FACTS = {"epoch": 3, "held_out_loss": 0.1 + 0.2, "best_loss": float("inf"), "memory": {"usage": [0.25, 0.75]}}


def test_a_round_trip_keeps_every_tensor_and_fact(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, Checkpoint(TENSORS, FACTS))
    loaded = load_checkpoint(path)
    assert loaded.facts == FACTS
    assert set(loaded.tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)


def test_a_part_is_what_begins_with_its_name() -> None:
    checkpoint = Checkpoint(TENSORS | {"models.else": torch.zeros(1)}, {})
    assert set(checkpoint.part("model")) == {"conv.weight", "norm.count"}
    assert set(checkpoint.part("memory")) == {"items"}


def test_a_memory_of_two_pools_and_a_model_keep_to_their_own_names(tmp_path: Path) -> None:
    pools = [TrainedPool("fine", "query_1", None, "softmax", 3, 4), TrainedPool("deep", "query_2", "read", "hard_shrink", 5, 8, "gradient")]
    memory = Memory(pools, torch.Generator().manual_seed(0))
    weights = {"model.items": torch.zeros(2, 2)}  # a network may call its own so
    save_checkpoint(tmp_path / "checkpoint.safetensors", Checkpoint(weights | memory.tensors(), FACTS))
    loaded = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert set(loaded.tensors) == {"model.items", "fine.items", "deep.items"}
    again = Memory(pools, torch.Generator().manual_seed(1))
    again.load(loaded.tensors, "runs/gate")
    assert all(torch.equal(again.items[name], items) for name, items in memory.items.items())


def test_a_missing_checkpoint_says_to_train(tmp_path: Path) -> None:
    with raises(ConfigError, "checkpoint.safetensors … make train"):
        load_checkpoint(tmp_path / "checkpoint.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, Checkpoint(TENSORS, FACTS))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with raises(ConfigError, str(path), "RESUME=1"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"facts": "{"}])
def test_tensors_without_facts_are_no_checkpoint(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "checkpoint.safetensors"
    safetensors.torch.save_file({"model.weight": torch.zeros(2)}, path, metadata=metadata)
    with raises(ConfigError, str(path), "RESUME=1"):
        load_checkpoint(path)
