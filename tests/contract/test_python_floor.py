"""What runs on a Jetson must run on Python 3.10 (JetPack 6), whatever Python the tests run on: runtime, calibration, builder of engines.

Where the machine has a 3.10, the unit tests of runtime and calibration run on it. Elsewhere remain the grammar, the names below, and what
mypy knows of 3.10's standard library.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.commands import ROOT
from tests.kit.python_floor import floor_environment

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

RUNTIME_TESTS = [
    "tests/unit/edge_runtime",
    "tests/unit/calibration",
    "tests/contract/test_imports.py",
    "tests/contract/test_golden_manifest.py",
]
LEFT_OUT = [
    "--ignore=tests/unit/edge_runtime/devices/test_memory_reference.py",  # needs PyTorch
    "--ignore-glob=*/test_kernels_*",  # C++, whatever the Python
    "--ignore=tests/unit/calibration/compare/test_comparison.py",  # long; its modules are imported and held by mypy below
    "--ignore=tests/unit/calibration/int8/test_make_int8.py",  # as long, and makes fp16 graphs with the exporter
]


@pytest.mark.python3_10
@pytest.mark.slow
def test_the_unit_tests_of_the_runtime_pass_on_3_10(toy_originals: dict[str, Path]) -> None:
    variables = {"TOYS_DIR": str(toy_originals["one_pool"].parent), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [floor_environment(), "-m", "pytest", "-q", *RUNTIME_TESTS, *LEFT_OUT]
    finished = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=1500, check=False)
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-1000:]


@pytest.mark.python3_10
@pytest.mark.slow
def test_what_a_jetson_runs_imports_on_3_10() -> None:
    paths = [path.with_suffix("") for path in SOURCES if path.name != "__main__.py" and path.parts[0] != "export"]
    modules = ["export.engine.__main__", *(".".join(path.parts).removesuffix(".__init__") for path in paths)]
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    finished = subprocess.run(
        [floor_environment(), "-c", script, *modules], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_mypy_finds_nothing_that_3_10_lacks() -> None:
    assert _unknown_to_3_10("-p", "edge_runtime", "-p", "calibration") == []


def test_mypy_finds_a_newer_method(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("from pathlib import Path\n\ndef folders(path: Path) -> object:\n    return path.walk()\n")
    [line] = _unknown_to_3_10(str(planted))
    assert '"Path" has no attribute "walk"' in line


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


def _unknown_to_3_10(*what: str) -> list[str]:
    """mypy's complaints about names of the standard library; other packages are left out, they have versions of their own for 3.10."""
    flags = ["--config-file=", "--python-version=3.10", "--no-site-packages", "--ignore-missing-imports", "--check-untyped-defs"]
    flags += ["--disable-error-code=call-arg", "--no-incremental", "--no-error-summary"]
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", *flags, *what], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode in {0, 1}, finished.stderr
    return finished.stdout.splitlines()


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
