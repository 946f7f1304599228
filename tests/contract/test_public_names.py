from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import edge_runtime
from tests.kit.wording import raises

PACKAGES = ("edge_runtime", "calibration", "train", "export")


def _modules() -> list[str]:
    """Every module that defines something: `__main__` is no interface, and an empty `__init__` has none."""
    names = []
    for path in sorted(path for package in PACKAGES for path in Path(package).rglob("*.py")):
        is_empty = all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text(encoding="utf-8")).body)  # a docstring at most
        if path.name != "__main__.py" and not (path.name == "__init__.py" and is_empty):
            parts = path.parent.parts if path.name == "__init__.py" else path.with_suffix("").parts
            names.append(".".join(parts))
    return names


def test_the_public_interface_is_three_names() -> None:
    assert edge_runtime.__all__ == ["Bundle", "Detector", "open_source"]


def test_the_public_names_are_those_of_their_modules() -> None:
    from edge_runtime import Bundle, Detector, open_source

    homes = [(value.__module__, value.__name__) for value in (Bundle, Detector, open_source)]
    assert homes == [("edge_runtime.bundle", "Bundle"), ("edge_runtime.detector", "Detector"), ("edge_runtime.sources", "open_source")]


def test_another_name_is_an_attribute_error() -> None:
    with raises(AttributeError, "Manifest"):
        edge_runtime.Manifest  # noqa: B018


@pytest.mark.parametrize("name", _modules())
def test_every_module_says_what_is_public_and_has_it(name: str) -> None:
    module = import_module(name)
    assert module.__all__, f"{name} has an empty __all__"
    assert len(set(module.__all__)) == len(module.__all__)
    assert [public for public in module.__all__ if not hasattr(module, public)] == []
    assert [public for public in module.__all__ if public.startswith("_")] == []
