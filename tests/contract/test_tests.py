"""What tests hold each other to: no test quotes our English, and those that train say so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.wording import is_prose

FILES = sorted(Path("tests").rglob("test_*.py"))

OTHERS_WORDS = {  # not ours to edit
    "No matching distribution found for pycuda",  # pip
    '"Path" has no attribute "walk"',  # mypy
}


def quotations(tree: ast.Module) -> Iterator[ast.expr]:
    """What messages are held against: `match=`, and in an assertion what is looked for, counted, or at a begin or an end."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "match":
            yield node.value
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
            yield node.left
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("startswith", "endswith", "count"):
            yield from node.args


def texts(quotation: ast.expr) -> list[str]:
    return [node.value for node in ast.walk(quotation) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_message_is_known_by_its_names_not_by_its_prose(path: Path) -> None:
    found = [text for quotation in quotations(ast.parse(path.read_text(encoding="utf-8"))) for text in texts(quotation)]
    prose = [text for text in found if is_prose(text) and text not in OTHERS_WORDS]
    assert prose == [], "use raises or missing of tests/kit/wording.py: class, names, numbers, paths, commands and flags"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_that_train_say_so(path: Path) -> None:
    content = path.read_text(encoding="utf-8")
    imported = [
        name.name
        for node in ast.walk(ast.parse(content))
        if isinstance(node, ast.ImportFrom) and node.module == "train.loop"
        for name in node.names
    ]
    assert "train" not in imported or "mark.trains" in content
