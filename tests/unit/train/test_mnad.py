from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest
import torch
from torch import Tensor

from train.memory import Reading, TrainedPool
from train.mnad import LossConfig, MnadSections, NetworkConfig, mnad_losses, single_pool, unit_channels
from train.model import Step

# Query 0 lies on item 0: distances 0 and √2. Query 1, (0.6, 0.8): √0.4 to item 1, √0.8 to item 0.
ITEMS = torch.eye(2)
QUERY = torch.tensor([[1.0, 0.0], [0.6, 0.8]]).T[None, :, None]  # (1, 2, 1, 2)
TARGET = torch.zeros(1, 1, 2, 2)
PREDICTION = torch.full_like(TARGET, 0.5)
SEPARATENESS = (0 + (sqrt(0.4) - sqrt(0.8) + 1)) / 2

POOL = TrainedPool("memory", "query", "read", "softmax", items=2, size=2)


@pytest.mark.parametrize(("compactness", "wanted"), [("distance", sqrt(0.4) / 2), ("squared", (0.36 + 0.04) / 4)])
def test_the_three_losses_and_their_sum(compactness: str, wanted: float) -> None:
    config = LossConfig(compactness=compactness, compactness_weight=0.3, separateness_weight=0.2)
    losses = mnad_losses(_step(), [POOL], config)
    assert losses["prediction"].item() == pytest.approx(0.25)
    assert losses["compactness"].item() == pytest.approx(wanted, abs=2e-6)
    assert losses["separateness"].item() == pytest.approx(SEPARATENESS, abs=2e-6)
    assert losses["loss"].item() == pytest.approx(0.25 + 0.3 * wanted + 0.2 * SEPARATENESS, abs=2e-6)


def test_separateness_is_zero_where_every_query_is_closer_by_the_margin() -> None:
    config = LossConfig(margin=sqrt(0.8) - sqrt(0.4) - 1e-4)
    assert mnad_losses(_step(), [POOL], config)["separateness"].item() == 0


def test_items_are_constants_and_queries_are_not() -> None:
    query, items = QUERY.clone().requires_grad_(), ITEMS.clone()
    mnad_losses(_step(query, items), [POOL], LossConfig())["loss"].backward()
    assert query.grad is not None and query.grad.isfinite().all() and query.grad.abs().sum() > 0
    assert items.grad is None


def test_the_losses_of_two_pools_are_added() -> None:
    one, two = (mnad_losses(_step(), pools, LossConfig()) for pools in ([POOL], [POOL, replace(POOL, name="other")]))
    assert two["prediction"] == one["prediction"]
    for name in ("compactness", "separateness"):
        assert two[name].item() == pytest.approx(2 * one[name].item())


def test_without_memory_only_the_prediction_counts() -> None:
    losses = mnad_losses(_step(), [], LossConfig())
    assert (losses["loss"].item(), losses["prediction"].item()) == (0.25, 0.25)
    assert (losses["compactness"].item(), losses["separateness"].item()) == (0, 0)


def test_features_come_to_unit_length_in_float32_and_none_stay_none() -> None:
    features = torch.tensor([[3.0, 0.0], [4.0, 0.0]], dtype=torch.bfloat16)[None, :, None]  # (1, 2, 1, 2)
    unit = unit_channels(features)
    assert unit.dtype == torch.float32
    assert unit[0, :, 0].T.flatten().tolist() == pytest.approx([0.6, 0.8, 0, 0])


def test_the_one_pool_has_the_deepest_levels_width_and_none_where_there_are_no_items() -> None:
    sections = MnadSections(NetworkConfig(4))
    [pool] = single_pool(sections)
    assert (pool.name, pool.items, pool.size, pool.learned, pool.update) == ("memory", 10, 32, "rule", "ema")
    assert single_pool(replace(sections, memory=replace(sections.memory, items=0))) == ()


def _step(query: Tensor = QUERY, items: Tensor = ITEMS) -> Step:
    """Two pools' worth of what losses see; both have the same query and items."""
    return Step(
        window=TARGET[:, None],
        target=TARGET,
        prediction=PREDICTION,
        encoded={"query": query},
        reading=Reading({}, {}, {}),
        items={"memory": items, "other": items},
        is_pseudo=torch.zeros(1, dtype=torch.bool),
    )
