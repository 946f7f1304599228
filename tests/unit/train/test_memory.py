from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_runtime.bundle import Bundle
from edge_runtime.devices.host_memory import HostBank
from edge_runtime.errors import ConfigError
from tests.kit.wording import raises
from train.memory import Memory, TrainedPool, address, flatten, initial_items, pool_health, read, write

# Item 1 is claimed by (0, 1) alone, at cosine 0.6; the query (1, 0), which item 0 has, is closer to it: 0.8.
ITEMS = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]])
AHEAD, ASIDE = [1.0, 0.0], [0.0, 1.0]

FINE = TrainedPool("fine", "query_1", "read_1", "softmax", items=3, size=4)
SHARED = TrainedPool("shared", "query_1", None, "hard_shrink", items=5, size=4)  # the same query, only scored
DEEP = TrainedPool("deep", "query_2", "read_2", "hard_shrink", items=6, size=8, learned="gradient")


def test_flatten_makes_a_row_of_every_cell_of_every_batch_entry() -> None:
    query = torch.arange(12.0).reshape(2, 3, 1, 2)  # channel d of cell k in batch entry b: 6b + 2d + k
    assert flatten(query).tolist() == [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]]


def test_a_read_mixes_the_items_by_softmax() -> None:
    items = torch.eye(2)
    query = _query([1.0, 0.0], [0.6, 0.8])
    mixed = read(address(query, items), items)
    first, second = exp(1) / (exp(1) + 1), 1 / (1 + exp(0.2))
    assert mixed.shape == (1, 2, 1, 2)
    assert flatten(mixed).numpy() == pytest.approx(torch.tensor([[first, 1 - first], [second, 1 - second]]).numpy(), abs=1e-6)


@pytest.mark.parametrize(("scale", "weight"), [("all", exp(0.6 - 0.8)), ("claimed", 1.0)])
def test_a_write_moves_an_item_by_the_queries_that_claim_it(scale: str, weight: float) -> None:
    written = write(_query(AHEAD, ASIDE), ITEMS, scale)
    length = sqrt(0.8**2 + (0.6 + weight) ** 2)
    assert written[0].tolist() == pytest.approx([1.0, 0.0])
    assert written[1].tolist() == pytest.approx([0.8 / length, (0.6 + weight) / length], abs=1e-6)


@pytest.mark.parametrize("scale", ["all", "claimed"])
def test_a_write_sums_over_the_claiming_queries_by_their_weight(scale: str) -> None:
    written = write(_query(AHEAD, [0.8, 0.6]), torch.eye(2), scale)  # both claim item 0, at cosines 1 and 0.8
    x, y = 1 + 1 + exp(-0.2) * 0.8, exp(-0.2) * 0.6
    assert written[0].tolist() == pytest.approx([x / sqrt(x * x + y * y), y / sqrt(x * x + y * y)], abs=1e-6)


@pytest.mark.parametrize("scale", ["all", "claimed"])
def test_an_item_that_no_query_claims_stays(scale: str) -> None:
    assert torch.equal(write(_query(AHEAD, ASIDE), ITEMS, scale)[2], ITEMS[2])


def test_written_items_have_unit_length() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.nn.functional.normalize(torch.randn(3, 8, 5, 4, generator=generator), dim=1)
    written = write(query, initial_items(6, 8, generator), "all")
    assert torch.linalg.vector_norm(written, dim=1).tolist() == pytest.approx([1.0] * 6, abs=1e-6)


def test_a_batch_is_written_otherwise_than_its_frames_one_by_one() -> None:
    ahead, aside = _query(AHEAD), _query(ASIDE)
    together = write(torch.cat([ahead, aside]), ITEMS, "all")
    one_by_one = write(aside, write(ahead, ITEMS, "all"), "all")
    both = sqrt(0.8**2 + (0.6 + exp(-0.2)) ** 2)
    alone = sqrt(0.8**2 + 1.6**2)  # by itself the claiming query has the largest weight
    assert together[1, 0].item() == pytest.approx(0.8 / both, abs=1e-6)
    assert one_by_one[1, 0].item() == pytest.approx(0.8 / alone, abs=1e-6)


def test_the_first_items_are_unit_rows_without_negative_elements_and_depend_on_the_seed_alone() -> None:
    items = initial_items(4, 16, torch.Generator().manual_seed(5))
    assert items.min() >= 0
    assert torch.linalg.vector_norm(items, dim=1).tolist() == pytest.approx([1.0] * 4)
    assert torch.equal(items, initial_items(4, 16, torch.Generator().manual_seed(5)))
    assert not torch.equal(items, initial_items(4, 16, torch.Generator().manual_seed(6)))


def test_health_of_two_items_of_which_one_turned() -> None:
    before = torch.eye(2)
    items = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    health = pool_health(torch.tensor([1.0, 3.0]), items, before)
    assert health.usage == (0.25, 0.75)
    assert health.largest_cosine == pytest.approx(0.6)
    assert health.drift == pytest.approx(0.2)


def test_health_without_a_claim_has_no_usage() -> None:
    assert pool_health(torch.zeros(2), torch.eye(2), torch.eye(2)).usage == (0.0, 0.0)


def test_hard_shrinkage_cuts_what_is_no_more_than_its_share_and_the_rest_sums_to_one() -> None:
    items = torch.tensor([[2.0, 0.0], [1.5, 0.0], [-2.0, 0.0], [-2.0, 0.0]])  # each has a share of 1/4; the last two get less
    weights = address(_query(AHEAD), items, "hard_shrink")[0, :, 0, 0]
    kept = torch.tensor([exp(2.0), exp(1.5)])
    assert weights.tolist() == pytest.approx([*(kept / kept.sum()).tolist(), 0, 0], abs=1e-6)


def test_a_query_whose_weights_are_all_cut_reads_nothing() -> None:
    items = torch.ones(4, 2)  # all alike: none has more than its share
    assert not read(address(_query(AHEAD), items, "hard_shrink"), items).any()


def test_every_pool_is_read_for_its_own_query_and_only_named_reads_go_to_the_decoder() -> None:
    memory, encoded = _memory(), _encoded()
    reading = memory.read(encoded)
    assert {name: tuple(weights.shape) for name, weights in reading.weights.items()} == {
        "fine": (2, 3, 6, 6),
        "shared": (2, 5, 6, 6),
        "deep": (2, 6, 2, 3, 3),  # a grid of three axes
    }
    assert {name: tuple(tensor.shape) for name, tensor in reading.reads.items()} == {
        "fine": (2, 4, 6, 6),
        "shared": (2, 4, 6, 6),
        "deep": (2, 8, 2, 3, 3),
    }
    assert set(reading.inputs) == {"read_1", "read_2"}
    assert reading.inputs["read_1"] is reading.reads["fine"] and reading.inputs["read_2"] is reading.reads["deep"]


def test_items_that_the_gradient_learns_get_one_and_those_that_a_rule_writes_do_not() -> None:
    memory = _memory()
    encoded = {name: query.requires_grad_() for name, query in _encoded().items()}
    reading = memory.read(encoded)
    assert [items.shape for items in memory.parameters()] == [(6, 8)]
    assert not reading.reads["fine"].requires_grad and not reading.weights["shared"].requires_grad
    reading.reads["deep"].square().sum().backward()
    assert memory.items["deep"].grad is not None and memory.items["deep"].grad.any()
    assert encoded["query_2"].grad is not None and encoded["query_1"].grad is None
    assert memory.items["fine"].grad is None and memory.items["shared"].grad is None


def test_where_no_gradient_is_wanted_there_is_none() -> None:
    with torch.no_grad():
        assert not _memory().read(_encoded()).reads["deep"].requires_grad


def test_a_write_moves_the_items_of_rules_alone() -> None:
    memory, encoded = _memory(), _encoded()
    before = memory.copy_items()
    memory.write(encoded)
    assert torch.equal(memory.items["fine"], write(encoded["query_1"], before["fine"], "all"))
    assert not torch.equal(memory.items["fine"], before["fine"]) and not torch.equal(memory.items["shared"], before["shared"])
    assert torch.equal(memory.items["deep"], before["deep"])


def test_claims_are_counted_by_pool() -> None:
    claimed = _memory().claims(_encoded())
    assert {name: (len(count), count.sum().item()) for name, count in claimed.items()} == {
        "fine": (3, 72),
        "shared": (5, 72),
        "deep": (6, 36),
    }


def test_the_first_items_of_the_gradient_are_uniform_around_zero() -> None:
    items = Memory([replace(DEEP, items=500)], torch.Generator().manual_seed(0)).items["deep"]
    assert -(8**-0.5) <= items.min() < -0.3 and 0.3 < items.max() <= 8**-0.5


def test_a_memory_is_loaded_in_place_for_its_optimiser_holds_its_items() -> None:
    memory, other = _memory(seed=0), _memory(seed=1)
    optimised = memory.parameters()
    memory.load(other.tensors() | {"model.some.items": torch.zeros(1)}, "runs/gate")
    assert all(torch.equal(memory.items[name], items) for name, items in other.items.items())
    assert memory.parameters()[0] is optimised[0] and optimised[0].requires_grad
    assert torch.equal(optimised[0], other.items["deep"])
    memory.write(_encoded())
    assert not torch.equal(memory.items["fine"], other.items["fine"])  # they do not share


@pytest.mark.parametrize(
    "pools", [(FINE, SHARED), (FINE, SHARED, replace(DEEP, name="deeper")), (FINE, SHARED, replace(DEEP, items=7)), ()]
)
def test_another_memory_is_refused(pools: tuple[TrainedPool, ...]) -> None:
    found = Memory(pools, torch.Generator()).tensors()
    with raises(ConfigError, "runs/gate", "deep.items", "(6, 8)", *(f"{pool.name}.items" for pool in pools)):
        _memory().load(found, "runs/gate")


def test_training_reads_as_the_runtime_does(toy: Callable[[str], Bundle]) -> None:
    bundle = toy("two_banks")
    shipped = bundle.read_items()
    pools = [TrainedPool(pool.name, pool.query, pool.read, pool.addressing, *shipped[pool.name].shape) for pool in bundle.manifest.pools]
    memory = Memory(pools, torch.Generator())
    scaled = {name: 3 * items for name, items in shipped.items()}  # longer, so that some weights are cut and some are not
    memory.load({f"{name}.items": torch.from_numpy(items) for name, items in scaled.items()}, "toy")
    query = torch.randn(1, 8, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    reading = memory.read({"query": query})
    weights = reading.weights["normal"]
    assert 0.2 < (weights == 0).float().mean() < 0.9
    wanted = HostBank(bundle.manifest, scaled).read({"query": query.numpy()})
    assert set(reading.inputs) == {"read_normal"}
    assert np.abs(reading.inputs["read_normal"].numpy() - wanted["read_normal"]).max() <= 1e-5


def _memory(seed: int = 0) -> Memory:
    return Memory([FINE, SHARED, DEEP], torch.Generator().manual_seed(seed))


def _encoded() -> dict[str, Tensor]:
    """Two queries on two grids, the second of three axes."""
    generator = torch.Generator().manual_seed(7)
    return {"query_1": torch.randn(2, 4, 6, 6, generator=generator), "query_2": 4 * torch.randn(2, 8, 2, 3, 3, generator=generator)}


def _query(*cells: list[float]) -> Tensor:
    """(1, D, 1, K) from K queries."""
    return torch.tensor(cells).T[None, :, None]
