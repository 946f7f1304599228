"""The stand-in of TensorRT offers nothing that the real one does not have."""

from __future__ import annotations

import inspect
from enum import Enum

import pytest

from tests.kit.engine_plans import VERSION, stand_in
from tests.kit.tensorrt_bindings import names_of

pytestmark = pytest.mark.tensorrt_bindings

STAND_IN = stand_in()
RELEASE = VERSION.rpartition(".")[0]
CLASSES = {name: value for name, value in vars(STAND_IN).items() if inspect.isclass(value) and value.__module__ == STAND_IN.__name__}
INSTANCES = {"Runtime": STAND_IN.Runtime(STAND_IN.ILogger())}  # the only one with public attributes of its own


def offered(owner: type, instance: object) -> set[str]:
    """Public names of a class and of an instance of it."""
    if issubclass(owner, Enum):
        return set(owner.__members__)
    return {name for name in (*vars(owner), *getattr(instance, "__dict__", {})) if not name.startswith("_")}


def test_it_says_which_release_it_stands_for() -> None:
    assert STAND_IN.__version__ == VERSION


@pytest.mark.parametrize("name", CLASSES)
def test_every_name_is_one_of_the_real_bindings(name: str) -> None:
    names = names_of(RELEASE)
    assert name in names["trt"]
    assert offered(CLASSES[name], INSTANCES.get(name)) - set(names[name]) == set()


def test_a_name_that_the_real_one_lacks_would_be_noticed() -> None:
    class Runtime:
        def __init__(self) -> None:
            self.cores = 0

        def load(self) -> None: ...

    assert offered(Runtime, Runtime()) - set(names_of(RELEASE)["Runtime"]) == {"load", "cores"}
