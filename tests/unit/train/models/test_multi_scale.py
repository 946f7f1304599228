from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from train.config import TrainConfig, check_config, parse_config
from train.data import Batch
from train.loop import forward
from train.memory import Memory
from train.mnad import MemoryConfig
from train.models.multi_scale import MultiScale, MultiScaleConfig, MultiScaleSections

SPEC = InputSpec(frames=4, target=6, channels=1, height=32, width=48)
SMALL = MultiScaleSections(MultiScaleConfig(width=2), MemoryConfig(items=4))


def test_three_pools_on_three_levels_and_no_feature_past_them() -> None:
    model = MultiScale(SPEC, SMALL).eval()
    assert [(pool.name, pool.query, pool.read, pool.items, pool.size) for pool in model.pools] == [
        ("level_2", "query_2", "read_2", 4, 4),
        ("level_3", "query_3", "read_3", 4, 8),
        ("level_4", "query_4", "read_4", 4, 16),
    ]
    with torch.no_grad():
        encoded = model.encode(_window())
    assert {name: tuple(tensor.shape) for name, tensor in encoded.items()} == {
        "query_2": (2, 4, 16, 24),
        "query_3": (2, 8, 8, 12),
        "query_4": (2, 16, 4, 6),
    }
    for query in encoded.values():
        assert torch.linalg.vector_norm(query, dim=1).numpy() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, ["read_2", "read_3", "query_4", "read_4"]),
        ({"read": "join"}, ["query_2", "read_2", "query_3", "read_3", "query_4", "read_4"]),
        ({"deepest": "replace"}, ["read_2", "read_3", "read_4"]),
        ({"skips": (1,)}, ["skip_1", "read_2", "read_3", "query_4", "read_4"]),
        ({"pools": (1, 2, 3, 4)}, ["read_1", "read_2", "read_3", "query_4", "read_4"]),
        ({"pools": (4,), "skips": (1, 2, 3)}, ["skip_1", "skip_2", "skip_3", "query_4", "read_4"]),  # MNAD
        ({"pools": (), "skips": (1, 2, 3)}, ["skip_1", "skip_2", "skip_3", "query_4"]),  # MNAD without memory
    ],
)
def test_ablations_decide_what_the_decoder_takes(changes: dict[str, object], taken: list[str]) -> None:
    sections = replace(SMALL, model=replace(SMALL.model, **changes))
    model = MultiScale(SPEC, sections).eval()
    assert [name for level in (1, 2, 3, 4) for name in sections.model.inputs(level)] == taken
    step = forward(model, Memory(model.pools, torch.Generator().manual_seed(0)), _batch())
    assert step.prediction.shape == (2, 1, 32, 48)
    assert step.prediction.abs().max() <= 1


def test_as_mnad_it_has_as_many_parameters_as_mnad() -> None:
    full = InputSpec(frames=4, target=4, channels=3, height=256, width=256)
    with torch.device("meta"):
        model = MultiScale(full, MultiScaleSections(MultiScaleConfig(pools=(4,), skips=(1, 2, 3))))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == 15.65


def test_losses_are_summed_over_the_pools() -> None:
    model = MultiScale(SPEC, SMALL)
    losses = model.losses(forward(model, Memory(model.pools, torch.Generator().manual_seed(0)), _batch()))
    config = SMALL.loss
    memory = config.compactness_weight * losses["compactness"] + config.separateness_weight * losses["separateness"]
    assert losses["loss"].item() == pytest.approx((losses["prediction"] + memory).item())
    assert losses["separateness"].item() > 2  # about the margin of 1 for each of the three pools


@pytest.mark.parametrize(("sections", "key"), [({"model": {"pools": [5]}}, "model.pools"), ({"memory": {"items": 0}}, "model.pools")])
def test_levels_that_cannot_be_are_refused(sections: dict[str, object], key: str) -> None:
    values = {"name": "gate", "input": {"frames": 4, "target": 4, "channels": 1, "height": 32, "width": 32}, **sections}
    values["model"] = {"name": "multi_scale", **values.get("model", {})}
    with pytest.raises(ConfigError, match=key):
        parse_config(values, "gate.toml")


def test_sections_of_its_own_are_read_beside_mnads() -> None:
    config = TrainConfig("gate", SPEC, "multi_scale", SMALL)
    check_config(config, "gate")
    assert config.sections.model.pools == (2, 3, 4)


def _window() -> Tensor:
    return torch.rand(2, 4, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _batch() -> Batch:
    window = _window()
    return Batch(window, window[:, 0], torch.zeros(2, dtype=torch.bool))
