from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edge_runtime.preprocess import InputSpec
from train.data import Batch
from train.loop import forward
from train.memory import Memory
from train.mnad import MemoryConfig, MnadSections, NetworkConfig
from train.models.mnad_reconstruction import MnadReconstruction

FULL = InputSpec(frames=1, target=0, channels=3, height=256, width=256)
SMALL = InputSpec(frames=1, target=0, channels=1, height=32, width=48)


def test_the_full_size_model_has_the_papers_17_2_million_parameters() -> None:
    with torch.device("meta"):
        model = MnadReconstruction(FULL, MnadSections())
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == 17.2


@pytest.mark.parametrize("items", [10, 0])
def test_nothing_goes_from_a_frame_to_its_reconstruction_but_the_query_and_its_read(items: int) -> None:
    model = _model(items).eval()
    batch = Batch(_frames(batch=3), _frames(batch=3)[:, 0], torch.zeros(3, dtype=torch.bool))
    step = forward(model, Memory(model.pools, torch.Generator()), batch)
    assert {name: tuple(tensor.shape) for name, tensor in step.encoded.items()} == {"query": (3, 16, 4, 6)}
    assert list(step.reading.inputs) == (["read"] if items else [])
    assert torch.linalg.vector_norm(step.encoded["query"], dim=1).flatten().tolist() == pytest.approx([1.0] * 72, abs=1e-6)
    assert step.prediction.shape == (3, 1, 32, 48)
    assert step.prediction.abs().max() <= 1


@pytest.mark.parametrize("which", ["query", "read"])
def test_query_and_read_matter(which: str) -> None:
    torch.manual_seed(0)
    model = _model(width=8)  # in training mode, so that batch norms keep the signal alive through random layers
    query = model.encode(_frames(batch=2))["query"]
    inputs = {"query": query, "read": query.flip(1)}
    assert not torch.equal(model.decode(inputs), model.decode(inputs | {which: inputs[which].square() * 9}))


def test_a_step_up_keeps_its_width() -> None:
    ups = [module for module in _model().decoder if isinstance(module, torch.nn.ConvTranspose2d)]
    assert [(up.in_channels, up.out_channels) for up in ups] == [(16, 16), (8, 8), (4, 4)]  # for width 2


def _model(items: int = 10, width: int = 2) -> MnadReconstruction:
    return MnadReconstruction(SMALL, MnadSections(NetworkConfig(width), MemoryConfig(items)))


def _frames(batch: int) -> Tensor:
    return torch.rand(batch, 1, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
