from __future__ import annotations

from math import exp, sqrt

import pytest
import torch
from torch import Tensor

from edge_runtime.errors import ConfigError
from tests.kit.wording import raises
from train.memory import Memory, TrainedPool, address, flatten, initial_items, pool_health, read, write

# Item 1 is claimed by (0, 1) alone, at cosine 0.6; the query (1, 0), which item 0 has, is closer to it: 0.8.
ITEMS = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]])
AHEAD, ASIDE = [1.0, 0.0], [0.0, 1.0]


def test_flatten_makes_a_row_of_every_cell_of_every_batch_entry() -> None:
    query = torch.arange(12.0).reshape(2, 3, 1, 2)  # channel d of cell k in batch entry b: 6b + 2d + k
    assert flatten(query).tolist() == [[0, 2, 4], [1, 3, 5], [6, 8, 10], [7, 9, 11]]


def test_a_read_mixes_the_items_by_softmax() -> None:
    items = torch.eye(2)
    mixed = read(address(_query([1.0, 0.0], [0.6, 0.8]), items), items)
    first, second = exp(1) / (exp(1) + 1), 1 / (1 + exp(0.2))
    assert mixed.shape == (1, 2, 1, 2)
    assert flatten(mixed).numpy() == pytest.approx(torch.tensor([[first, 1 - first], [second, 1 - second]]).numpy(), abs=1e-6)


def test_hard_shrinkage_cuts_at_an_even_share_and_rescales() -> None:
    weights = address(_query(AHEAD), ITEMS, "hard_shrink")  # by softmax 0.51, 0.42 and 0.07, of which the last is below a third
    first = 1 / (1 + exp(-0.2))
    assert weights.flatten().tolist() == pytest.approx([first, 1 - first, 0], abs=1e-6)


def test_a_query_as_close_to_all_items_reads_nothing_by_hard_shrinkage() -> None:
    items = torch.eye(2)
    weights = address(_query([1.0, 1.0]), items, "hard_shrink")
    assert not weights.any()
    assert not read(weights, items).any()


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


RULE = TrainedPool("near", "query", "read", "softmax", items=3, size=2)
GRADIENT = TrainedPool("far", "query", None, "hard_shrink", items=5, size=2, learned="gradient", update="none")


def _memory() -> Memory:
    return Memory((RULE, GRADIENT), torch.Generator().manual_seed(0))


def test_two_pools_read_one_query_and_one_of_them_goes_to_the_decoder() -> None:
    reading = _memory().read({"query": _query(AHEAD, ASIDE)})
    assert {name: tuple(weights.shape) for name, weights in reading.weights.items()} == {"near": (1, 3, 1, 2), "far": (1, 5, 1, 2)}
    assert {name: tuple(read.shape) for name, read in reading.reads.items()} == {"near": (1, 2, 1, 2), "far": (1, 2, 1, 2)}
    assert set(reading.inputs) == {"read"} and reading.inputs["read"] is reading.reads["near"]


def test_only_the_items_of_the_gradient_are_the_optimisers_and_get_one() -> None:
    memory = _memory()
    query = _query(AHEAD).requires_grad_()
    reading = memory.read({"query": query})
    assert [parameter is memory.items["far"] for parameter in memory.parameters()] == [True]
    assert not reading.reads["near"].requires_grad and not memory.items["near"].requires_grad
    weights = reading.weights["far"]
    weights.square().sum().backward()
    assert memory.items["far"].grad is not None and query.grad is not None


def test_only_the_items_of_a_rule_are_written() -> None:
    memory = _memory()
    before = memory.copy_items()
    memory.write({"query": _query(AHEAD, ASIDE)})
    assert not torch.equal(memory.items["near"], before["near"])
    assert torch.equal(memory.items["far"], before["far"])


def test_items_have_their_names_in_a_checkpoint_and_come_back() -> None:
    memory, other = _memory(), Memory((RULE, GRADIENT), torch.Generator().manual_seed(1))
    assert set(memory.tensors()) == {"near.items", "far.items"}
    other.load(memory.tensors() | {"model.far.items": torch.zeros(1)}, "run")
    for name, items in memory.items.items():
        assert torch.equal(other.items[name], items)
    assert other.items["far"].requires_grad and not other.items["near"].requires_grad


@pytest.mark.parametrize(
    ("tensors", "named"), [({}, "(3, 2)"), ({"near.items": torch.zeros(4, 2), "far.items": torch.zeros(5, 2)}, "(4, 2)")]
)
def test_the_items_of_another_memory_are_refused(tensors: dict[str, Tensor], named: str) -> None:
    with raises(ConfigError, "runs/gate", named, "[memory]"):
        _memory().load(tensors, "runs/gate")


def _query(*cells: list[float]) -> Tensor:
    """(1, D, 1, K) from K queries."""
    return torch.tensor(cells).T[None, :, None]
