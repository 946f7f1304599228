from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edge_runtime.preprocess import InputSpec
from train.mnad import MemoryConfig, MnadSections, NetworkConfig
from train.models.mnad_prediction import MnadPrediction

FULL = InputSpec(frames=4, target=4, channels=3, height=256, width=256)
SMALL = InputSpec(frames=4, target=4, channels=1, height=32, width=48)


def test_the_full_size_model_has_the_papers_15_65_million_parameters() -> None:
    assert round(_parameters(_without_weights(items=10)) / 1e6, 2) == 15.65


def test_without_memory_the_decoder_takes_512_channels_less() -> None:
    saved = _parameters(_without_weights(items=10)) - _parameters(_without_weights(items=0))
    assert saved == 512 * 512 * 3 * 3


@pytest.mark.parametrize("items", [10, 0])
def test_shapes_from_window_to_prediction(items: int) -> None:
    model = _model(items=items).eval()
    encoded = model.encode(_window(batch=3))
    assert {name: tuple(tensor.shape) for name, tensor in encoded.items()} == {
        "query": (3, 16, 4, 6),
        "skip_1": (3, 2, 32, 48),
        "skip_2": (3, 4, 16, 24),
        "skip_3": (3, 8, 8, 12),
    }
    prediction = model.decode(encoded | ({"read": torch.zeros_like(encoded["query"])} if items else {}))
    assert prediction.shape == (3, 1, 32, 48)
    assert prediction.abs().max() <= 1


def test_queries_have_unit_length() -> None:
    query = _model().eval().encode(_window(batch=2))["query"]
    assert torch.linalg.vector_norm(query, dim=1).flatten().tolist() == pytest.approx([1.0] * 48, abs=1e-6)


def test_a_query_without_any_features_is_zero_and_not_nan() -> None:
    model = _model().eval()
    for layer in model.encoder.level4:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    assert not model.encode(_window(batch=1))["query"].any()


def test_the_last_convolution_before_the_query_is_not_clipped() -> None:
    assert _model().eval().encode(_window(batch=1))["query"].min() < 0


@pytest.mark.parametrize("which", ["query", "read", "skip_1", "skip_2", "skip_3"])
def test_every_input_of_the_decoder_matters(which: str) -> None:
    torch.manual_seed(0)
    model = _model(width=8)  # in training mode, so that batch norms keep the signal alive through random layers
    inputs = model.encode(_window(batch=2))
    inputs["read"] = inputs["query"].flip(1)
    before = model.decode(inputs)
    after = model.decode(inputs | {which: inputs[which].square() * 9})
    assert not torch.equal(before, after)


@pytest.mark.parametrize("items", [10, 0])
def test_a_configuration_decides_on_width_and_memory(items: int) -> None:
    model = _model(width=4, items=items)
    assert model.input_spec == SMALL
    assert [(pool.items, pool.size) for pool in model.pools] == ([(10, 32)] if items else [])


def _model(width: int = 2, items: int = 10) -> MnadPrediction:
    return MnadPrediction(SMALL, MnadSections(NetworkConfig(width), MemoryConfig(items)))


def _without_weights(*, items: int) -> MnadPrediction:
    with torch.device("meta"):
        return MnadPrediction(FULL, MnadSections(memory=MemoryConfig(items)))


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _window(batch: int) -> Tensor:
    return torch.rand(batch, 4, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
