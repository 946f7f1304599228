from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from tests.kit.mnad_models import mnad
from tests.kit.wording import raises
from train.config import TrainConfig
from train.mnad import MemoryConfig, MnadSections, NetworkConfig
from train.models import build_model, find_model
from train.models.mnad_prediction import MnadPrediction
from train.models.mnad_reconstruction import MnadReconstruction

FULL = InputSpec(frames=4, target=4, channels=3, height=256, width=256)
SMALL = InputSpec(frames=4, target=4, channels=1, height=32, width=48)
ONE_FRAME = InputSpec(frames=1, target=0, channels=3, height=256, width=256)


def test_the_full_size_model_has_the_papers_15_65_million_parameters() -> None:
    assert round(_parameters(_without_weights(has_memory=True)) / 1e6, 2) == 15.65


def test_the_full_size_reconstruction_has_17_2_million() -> None:
    with torch.device("meta"):
        model = MnadReconstruction(ONE_FRAME, MnadSections())
    assert round(_parameters(model) / 1e6, 1) == 17.2


def test_the_reconstruction_has_no_skip_past_its_memory() -> None:
    model = MnadReconstruction(InputSpec(1, 0, 1, 32, 48), MnadSections(NetworkConfig(2))).eval()
    with torch.no_grad():
        encoded = model.encode(torch.zeros(2, 1, 1, 32, 48))
        prediction = model.decode(encoded | {"read": encoded["query"]})
    assert {name: tuple(tensor.shape) for name, tensor in encoded.items()} == {"query": (2, 16, 4, 6)}
    assert prediction.shape == (2, 1, 32, 48)


def test_without_memory_the_decoder_takes_512_channels_less() -> None:
    saved = _parameters(_without_weights(has_memory=True)) - _parameters(_without_weights(has_memory=False))
    assert saved == 512 * 512 * 3 * 3


@pytest.mark.parametrize("has_memory", [True, False])
def test_shapes_from_window_to_prediction(has_memory: bool) -> None:
    model = mnad(SMALL, width=2, has_memory=has_memory).eval()
    encoded = model.encode(_window(batch=3))
    assert {name: tuple(tensor.shape) for name, tensor in encoded.items()} == {
        "query": (3, 16, 4, 6),
        "skip_1": (3, 2, 32, 48),
        "skip_2": (3, 4, 16, 24),
        "skip_3": (3, 8, 8, 12),
    }
    prediction = model.decode(encoded | ({"read": torch.zeros_like(encoded["query"])} if has_memory else {}))
    assert prediction.shape == (3, 1, 32, 48)
    assert prediction.abs().max() <= 1


def test_queries_have_unit_length() -> None:
    query = mnad(SMALL, width=2).eval().encode(_window(batch=2))["query"]
    assert torch.linalg.vector_norm(query, dim=1).flatten().tolist() == pytest.approx([1.0] * 48, abs=1e-6)


def test_a_query_without_any_features_is_zero_and_not_nan() -> None:
    model = mnad(SMALL, width=2).eval()
    for layer in model.encoder.level4:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    assert not model.encode(_window(batch=1))["query"].any()


def test_the_last_convolution_before_the_query_is_not_clipped() -> None:
    assert mnad(SMALL, width=2).eval().encode(_window(batch=1))["query"].min() < 0


@pytest.mark.parametrize("which", ["query", "read", "skip_1", "skip_2", "skip_3"])
def test_every_input_of_the_decoder_matters(which: str) -> None:
    torch.manual_seed(0)
    model = mnad(SMALL, width=8)  # in training mode, so that batch norms keep the signal alive through random layers
    inputs = model.encode(_window(batch=2))
    inputs["read"] = inputs["query"].flip(1)
    before = model.decode(inputs)
    after = model.decode(inputs | {which: inputs[which].square() * 9})
    assert not torch.equal(before, after)


@pytest.mark.parametrize(("items", "pools"), [(10, [("memory", "query", "read", 10, 32)]), (0, [])])
def test_a_configuration_decides_on_width_and_memory(items: int, pools: list[tuple[object, ...]]) -> None:
    sections = MnadSections(NetworkConfig(width=4), MemoryConfig(items=items))
    model = build_model(TrainConfig("gate", SMALL, "mnad_prediction", sections))
    assert isinstance(model, MnadPrediction)
    assert [(pool.name, pool.query, pool.read, pool.items, pool.size) for pool in model.pools] == pools
    assert model.input_spec == SMALL


def test_an_unknown_model_lists_those_that_there_are() -> None:
    with raises(ConfigError, "gate.toml", "model.name", "mnad_prediction", "mnad_reconstruction", "multi_scale", "'unet'"):
        find_model("unet", "gate.toml")


def _without_weights(*, has_memory: bool) -> MnadPrediction:
    with torch.device("meta"):
        return mnad(FULL, width=64, has_memory=has_memory)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _window(batch: int) -> Tensor:
    return torch.rand(batch, 4, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
