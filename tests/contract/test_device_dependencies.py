"""What the wheel needs can be installed on a Jetson without a compiler: each package has a wheel for its Python, processor and C library.

The way is that of the Makefile's .venv there: OpenCV left out, ONNX Runtime by itself, jetson-constraints.txt.

pycuda is left out (it exists as source only, and is compiled against JetPack's CUDA in a step of its own, which may fail), and so are
OpenCV and TensorRT, which are JetPack's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.package_index

EXTRAS = "[video,alerts,report]"
PLATFORMS = [
    *(f"manylinux_2_{minor}_aarch64" for minor in range(28, 16, -1)),
    "manylinux2014_aarch64",
]  # JetPack 6 and 7 have a newer glibc
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--timeout", "30"]


@dataclass(frozen=True)
class Jetson:
    """A JetPack as packages see it; `python` as in `3.10`."""

    jetpack: str
    python: str

    @property
    def environment(self) -> dict[str, str]:
        """What environment markers ask for."""
        return {
            "extra": "",
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": "aarch64",
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.12",
            "python_version": self.python,
            "sys_platform": "linux",
        }


JETSONS = [Jetson("6", "3.10"), Jetson("7", "3.12")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, "."], check=True, timeout=120)
    return next(folder.iterdir())


@pytest.mark.parametrize("jetson", JETSONS, ids=lambda jetson: f"JetPack {jetson.jetpack}")
def test_a_jetson_gets_wheels_for_all_it_needs(jetson: Jetson, wheel: Path, tmp_path: Path) -> None:
    needed = [f"{wheel}{EXTRAS}", "onnxruntime"]
    # pip reads markers as this machine's: what a Jetson needs beyond that is asked for by name, until nothing is missing.
    while missing := _missing(jetson, found := _resolve(jetson, needed, tmp_path)):
        assert not set(missing) & set(needed), missing
        needed += missing
    assert not [name for name in found if name.startswith(("opencv", "tensorrt", "nvidia", "torch"))]
    assert str(found["numpy"]["version"]).startswith("1.")  # JetPack's OpenCV was built for it


def test_what_has_no_wheel_is_told(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        _resolve(JETSONS[0], ["pycuda"], tmp_path)
    assert "No matching distribution found for pycuda" in caught.value.stderr


def test_a_marker_of_the_jetson_is_followed() -> None:
    found = {
        "av": {"requires_dist": ["numpy>=2; python_version<'3.11'", "x86; platform_machine=='x86_64'"]},
        "numpy": {"version": "1.26.4"},
    }
    assert _missing(JETSONS[0], found) == ["numpy>=2"]
    assert _missing(JETSONS[1], found) == []


def _resolve(jetson: Jetson, needed: list[str], folder: Path) -> dict[str, dict[str, object]]:
    """Package to its metadata, as pip would install them there; installs and keeps nothing.

    Raises:
        CalledProcessError: something has no wheel for it, or versions exclude each other.
    """
    tag = f"cp{jetson.python.replace('.', '')}"
    target = ["--target", folder / "none", "--ignore-installed", "--only-binary=:all:", "--python-version", jetson.python]
    target += ["--implementation", "cp", *(f"--abi={abi}" for abi in (tag, "abi3", "none")), *(f"--platform={name}" for name in PLATFORMS)]
    report = folder / "report.json"
    command = [*PIP, "install", "-q", "--dry-run", "--report", report, "-c", "jetson-constraints.txt", *target, *needed]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    installed = json.loads(report.read_text())["install"]
    extras = [{"extras": item.get("requested_extras", [])} for item in installed]
    return {canonicalize_name(item["metadata"]["name"]): item["metadata"] | asked for item, asked in zip(installed, extras, strict=True)}


def _missing(jetson: Jetson, found: dict[str, dict[str, object]]) -> list[str]:
    """Requirements that hold on the Jetson and that what was found does not fulfil."""
    return [str(need) for metadata in found.values() for need in _needs(jetson, metadata) if not _is_fulfilled(need, found)]


def _needs(jetson: Jetson, metadata: dict[str, object]) -> Iterator[Requirement]:
    for need in map(Requirement, metadata.get("requires_dist", [])):
        extras = ["", *metadata.get("extras", [])]
        if need.marker is None or any(need.marker.evaluate(jetson.environment | {"extra": extra}) for extra in extras):
            need.marker = None
            yield need


def _is_fulfilled(need: Requirement, found: dict[str, dict[str, object]]) -> bool:
    metadata = found.get(canonicalize_name(need.name))
    return metadata is not None and need.specifier.contains(str(metadata["version"]), prereleases=True)
