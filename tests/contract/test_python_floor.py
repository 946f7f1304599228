"""The runtime, calibration and export must run on Python 3.10 (JetPack 6 builds engines), whatever Python the tests run on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCES = sorted(path for package in ("edge_runtime", "calibration", "export") for path in Path(package).rglob("*.py"))

# Modules, names of modules, and builtins that came with Python 3.11, 3.12 or 3.13.
TOO_NEW = {
    "tomllib",
    "asyncio.Runner asyncio.TaskGroup asyncio.timeout asyncio.timeout_at",
    "contextlib.chdir",
    "copy.replace",
    "datetime.UTC",
    "enum.EnumCheck enum.FlagBoundary enum.ReprEnum enum.StrEnum enum.global_enum enum.member enum.nonmember enum.property enum.verify",
    "hashlib.file_digest",
    "inspect.getmembers_static inspect.markcoroutinefunction",
    "itertools.batched",
    "logging.getHandlerByName logging.getHandlerNames logging.getLevelNamesMapping",
    "math.cbrt math.exp2 math.fma math.sumprod",
    "operator.call",
    "os.process_cpu_count",
    "pathlib.UnsupportedOperation",
    "typing.LiteralString typing.Never typing.NotRequired typing.ReadOnly typing.Required typing.Self typing.TypeAliasType",
    "typing.TypeIs typing.TypeVarTuple typing.Unpack typing.assert_never typing.assert_type typing.clear_overloads",
    "typing.dataclass_transform typing.get_overloads typing.get_protocol_members typing.is_protocol typing.override typing.reveal_type",
    "warnings.deprecated",
    "BaseExceptionGroup ExceptionGroup PythonFinalizationError",
}
NAMES = {name for line in TOO_NEW for name in line.split()}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_module_is_python_3_10(path: Path) -> None:
    assert _too_new(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import tomllib", "tomllib"),
        ("from tomllib import load", "tomllib"),
        ("from typing import Any, Self", "typing.Self"),
        ("from datetime import UTC", "datetime.UTC"),
        ("import datetime\nnow = datetime.datetime.now(datetime.UTC)", "datetime.UTC"),
        ("import enum as e\nclass Mode(e.StrEnum): ...", "enum.StrEnum"),
        ("raise ExceptionGroup('', [])", "ExceptionGroup"),
    ],
)
def test_a_newer_name_is_found(source: str, found: str) -> None:
    assert _too_new(source) == [found]


def test_newer_grammar_is_refused() -> None:
    with pytest.raises(SyntaxError):
        _too_new("try: ...\nexcept* ValueError: ...")


@pytest.mark.parametrize("source", ["from math import exp", "import typing\ntyping.Any", "match 3:\n    case _: ...", "self.UTC"])
def test_what_3_10_has_is_let_through(source: str) -> None:
    assert _too_new(source) == []


def _too_new(source: str) -> list[str]:
    """What a module uses that Python 3.10 does not have."""
    tree = ast.parse(source, feature_version=(3, 10))
    aliases: dict[str, str] = {}
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {name.asname or name.name: name.name for name in node.names}
            used |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            used |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            used.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            used.add(f"{aliases[node.value.id]}.{node.attr}")
    return sorted(used & NAMES)
