from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edge_runtime.preprocess import InputSpec
from train.config import MemoryConfig, ModelConfig, TrainConfig
from train.models import Mnad, build_model

FULL = InputSpec(frames=4, target=4, channels=3, height=256, width=256)
SMALL = InputSpec(frames=4, target=4, channels=1, height=32, width=48)


def test_the_full_size_model_has_the_papers_15_65_million_parameters() -> None:
    assert round(_parameters(_without_weights(has_memory=True)) / 1e6, 2) == 15.65


def test_without_memory_the_decoder_takes_512_channels_less() -> None:
    saved = _parameters(_without_weights(has_memory=True)) - _parameters(_without_weights(has_memory=False))
    assert saved == 512 * 512 * 3 * 3


@pytest.mark.parametrize("has_memory", [True, False])
def test_shapes_from_clip_to_prediction(has_memory: bool) -> None:
    model = Mnad(SMALL, width=2, has_memory=has_memory).eval()
    encoded = model.encoder(_clip(batch=3))
    assert {name: tuple(tensor.shape) for name, tensor in encoded.items()} == {
        "query": (3, 16, 4, 6),
        "skip_1": (3, 2, 32, 48),
        "skip_2": (3, 4, 16, 24),
        "skip_3": (3, 8, 8, 12),
    }
    query = encoded.pop("query")
    prediction = model.decoder(query, torch.zeros_like(query) if has_memory else None, **encoded)
    assert prediction.shape == (3, 1, 32, 48)
    assert prediction.abs().max() <= 1


def test_queries_have_unit_length() -> None:
    query = Mnad(SMALL, width=2).eval().encoder(_clip(batch=2))["query"]
    assert torch.linalg.vector_norm(query, dim=1).flatten().tolist() == pytest.approx([1.0] * 48, abs=1e-6)


def test_a_query_without_any_features_is_zero_and_not_nan() -> None:
    model = Mnad(SMALL, width=2).eval()
    for layer in model.encoder.level4:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    assert not model.encoder(_clip(batch=1))["query"].any()


def test_the_last_convolution_before_the_query_is_not_clipped() -> None:
    assert Mnad(SMALL, width=2).eval().encoder(_clip(batch=1))["query"].min() < 0


@pytest.mark.parametrize("which", ["query", "read", "skip_1", "skip_2", "skip_3"])
def test_every_input_of_the_decoder_matters(which: str) -> None:
    torch.manual_seed(0)
    model = Mnad(SMALL, width=8)  # in training mode, so that batch norms keep the signal alive through random layers
    inputs = dict(model.encoder(_clip(batch=2)))
    inputs["read"] = inputs["query"].flip(1)
    before = model.decoder(**inputs)
    after = model.decoder(**inputs | {which: inputs[which].square() * 9})
    assert not torch.equal(before, after)


@pytest.mark.parametrize(("items", "has_memory"), [(10, True), (0, False)])
def test_a_configuration_decides_on_width_and_memory(items: int, has_memory: bool) -> None:
    config = TrainConfig("gate", SMALL, model=ModelConfig(width=4), memory=MemoryConfig(items=items))
    model = build_model(config)
    assert (model.query_size, model.has_memory, model.input_spec) == (32, has_memory, SMALL)


def _without_weights(*, has_memory: bool) -> Mnad:
    with torch.device("meta"):
        return Mnad(FULL, width=64, has_memory=has_memory)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _clip(batch: int) -> Tensor:
    return torch.rand(batch, 4, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
