"""Fixtures that several folders share; and `--require`, which turns a skip into a failure."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.bundle import Bundle
from tests.kit.fast import is_fast
from tests.kit.needs import NEEDS
from tests.kit.order import begun_by_waiting

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # some tests import ONNX Runtime themselves


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", default="", metavar="NAMES", help="comma-separated markers that must run: a skip of theirs fails")


def pytest_configure(config: pytest.Config) -> None:
    for name, need in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: needs {need.what}")


def pytest_itemcollected(item: pytest.Item) -> None:
    if is_fast(item):
        item.add_marker("fast")


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = item.config.getoption("--require").split(",")
    for name, need in NEEDS.items():
        if item.get_closest_marker(name) and not need.is_met():
            if name in required:
                pytest.fail(f"--require={name}: not here: {need.what}")
            pytest.skip(f"not here: {need.what}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes, half of them begin with the tests that wait, and the cores are left to those that compute."""
    processes: int = getattr(config, "workerinput", {}).get("workercount", 1)
    if processes > 1:
        items[:] = begun_by_waiting(items, processes)


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """A command run in the tests' own process sets the levels of the packages' loggers."""
    loggers = [logging.getLogger(package) for package in ("edge_runtime", "calibration", "export", "train")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def ped2() -> Path:
    """The folder of UCSD Ped2; for tests with the marker `ped2`."""
    return Path(os.environ["PED2_DIR"])


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder with vtest.avi; for tests with the marker `footage`."""
    return Path(os.environ["FOOTAGE_DIR"])


@pytest.fixture(scope="session")
def toy_originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three toy bundles; not to be changed, see `toy`. Where there is no PyTorch to make them, TOYS_DIR says where they lie."""
    if "TOYS_DIR" in os.environ:
        return {folder.name: folder for folder in Path(os.environ["TOYS_DIR"]).iterdir()}
    from tests.kit.toy_bundles import TOYS

    root = tmp_path_factory.mktemp("toys")
    return {name: make(root / name).path for name, make in TOYS.items()}


@pytest.fixture
def toy(toy_originals: dict[str, Path], tmp_path: Path) -> Callable[[str], Bundle]:
    """A copy of a toy bundle by name, to do with as one likes."""

    def copy(name: str) -> Bundle:
        return Bundle.load(shutil.copytree(toy_originals[name], tmp_path / f"bundle-{name}"))

    return copy
