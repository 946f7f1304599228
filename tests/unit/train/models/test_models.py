"""How networks are found by their names, those of the house and one's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from torch import nn

import train.models
from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from tests.kit.wording import raises
from train.config import TrainConfig
from train.mnad import MnadSections
from train.models import build_model, find_model, register

SPEC = InputSpec(frames=1, target=0, channels=1, height=32, width=48)
SHIPPED = ("mnad_prediction", "mnad_reconstruction", "multi_scale")


@pytest.fixture
def mine() -> Iterator[str]:
    """A name that is free, and free again afterwards."""
    yield "mine"
    train.models._ENTRIES.pop("mine")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_is_found_by_the_name_of_its_file(name: str) -> None:
    assert find_model(name, "gate.toml").build.__module__ == f"train.models.{name}"


def test_a_configuration_is_built() -> None:
    model = build_model(TrainConfig("gate", SPEC, "mnad_reconstruction", MnadSections()))
    assert type(model).__name__ == "MnadReconstruction" and model.input_spec == SPEC


def test_one_that_registers_itself_elsewhere_is_found_as_well(mine: str) -> None:
    @dataclass(frozen=True)
    class Sections:
        pass

    @register(mine, Sections)
    class Mine(nn.Module):
        def __init__(self, spec: InputSpec, sections: Sections) -> None:
            super().__init__()
            self.input_spec = spec

    assert find_model(mine, "gate.toml").sections is Sections
    assert isinstance(build_model(TrainConfig("gate", SPEC, mine, Sections())), Mine)


@pytest.mark.parametrize("name", ["mnad", "", "../mnad", 3, None, ["mnad_prediction"]])
def test_an_unknown_name_lists_those_that_there_are(name: object) -> None:
    with raises(ConfigError, "gate.toml", "model.name", *SHIPPED, repr(name)):
        find_model(name, "gate.toml")
