"""TensorRT's real Python bindings, of every release the project speaks to, on a machine without TensorRT.

The bindings are small wheels of the package index; what they miss are TensorRT's libraries. Empty ones take their place: they export
the few functions the bindings link to, each returning 0. Then the module imports with its true names, enums and signatures; only making
a builder or a runtime fails.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

__all__ = ["RELEASES", "Bindings", "Names", "are_available", "bindings_of", "names_of"]

Names = Mapping[str, Mapping[str, str]]  # owner to member to what it is; see DUMP

RELEASES = {
    "8.6.1": "tensorrt-bindings==8.6.1",
    "10.3": "tensorrt-cu12-bindings==10.3.0",
    "10.13": "tensorrt-cu13-bindings==10.13.3.9",
    "10.16": "tensorrt-cu13-bindings==10.16.1.11",
    "11.4": "tensorrt-cu13-bindings==11.4.0.106",
    "RTX 1.7": "tensorrt-rtx-cu13-bindings==1.7.1.116",
}

# Kept with the environment that runs the tests, for its Python.
CACHE = Path(sys.prefix) / "tensorrt-bindings"

LIBRARY = re.compile(r"\(NEEDED\).*\[(lib(?:nv|tensorrt)\S+)\]")
FUNCTION = re.compile(r"(?:create|get|init)[A-Z][^@]*|_ZN\d+nv\w+parser[^@]*")

# The module is the owner `trt`, a class of it the owner of its members. A member is what reading it gives, or calling it if it is a method:
# `trt.X` is the class X, `X` an instance of it, an empty one anything else, `?` unknown.
DUMP = r"""
import importlib, inspect, json, re, sys

trt = importlib.import_module(sys.argv[1])
classes = {name: value for name, value in vars(trt).items() if inspect.isclass(value)}

def result(value):
    if inspect.isclass(value):
        return f"trt.{value.__name__}" if value.__name__ in classes else ""
    if type(value).__name__ in classes:
        return type(value).__name__
    signature = getattr(value, "fget", None) or value
    found = re.search(r"-> *(?:[\w.]+(?:\.|::))?(.+)$", inspect.getdoc(signature) or "", re.MULTILINE)
    if found is None:
        return "?" if callable(value) else ""
    return next((name for name in (found[1], found[1].removeprefix("I")) if name in classes), "")

names = {name: {member: result(inspect.getattr_static(owner, member)) for member in dir(owner)} for name, owner in classes.items()}
names["trt"] = {name: result(value) for name, value in vars(trt).items()}
print(json.dumps(names))
"""


@dataclass(frozen=True)
class Bindings:
    """One release, unpacked beside its empty libraries.

    Attributes:
        folder: to import from, and where the loader finds the libraries.
        module: `tensorrt` or `tensorrt_rtx`.
    """

    folder: Path
    module: str

    def run(self, script: str, *arguments: str) -> Any:
        """What a script prints as JSON, in a process of its own that can import these bindings and the checkout.

        The script starts with the module's name in `sys.argv[1]`, then come the arguments.
        """
        # Installed libraries of TensorRT, if any, stay out: each release is to run against its empty ones.
        prologue = "import sys; sys.modules.update(dict.fromkeys(('tensorrt_libs', 'tensorrt_rtx_libs')))\n"
        paths = {"PYTHONPATH": f"{self.folder}:{Path.cwd()}", "LD_LIBRARY_PATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", prologue + script, self.module, *arguments]
        finished = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True, timeout=60, check=False)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)


@functools.cache
def are_available() -> bool:
    """Whether every release is here; fetches and prepares what is not."""
    try:
        for release in RELEASES:
            bindings_of(release)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


@functools.cache
def bindings_of(release: str) -> Bindings:
    """The bindings of a release, fetched from the package index the first time.

    Raises:
        OSError, subprocess.SubprocessError: the index has none for this Python or does not answer; gcc or binutils are missing.
    """
    name, version = RELEASES[release].split("==")
    folder = CACHE / f"{name}-{version}-{sys.implementation.cache_tag}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            _prepare(RELEASES[release], Path(scratch)).rename(folder)
    [extension] = folder.glob("tensorrt*/tensorrt*.so")
    return Bindings(folder, extension.stem)


@functools.cache
def names_of(release: str) -> Names:
    """Every name of a release's module and of its classes."""
    return dict(bindings_of(release).run(DUMP))


def _prepare(requirement: str, scratch: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    _output(*pip, "--no-deps", "--only-binary=:all:", "-d", scratch / "wheel", requirement)
    [wheel] = (scratch / "wheel").iterdir()
    folder = scratch / "unpacked"
    ZipFile(wheel).extractall(folder)
    [extension] = folder.glob("tensorrt*_bindings/tensorrt*.so")
    extension.parent.rename(folder / extension.stem)  # the package `tensorrt` itself is another wheel that only imports this one
    _make_libraries(folder / extension.stem / extension.name)
    return folder


def _make_libraries(extension: Path) -> None:
    """Beside the package, the libraries that its extension needs, with nothing in them."""
    libraries = LIBRARY.findall(_output("readelf", "-d", extension))
    functions = filter(FUNCTION.fullmatch, _output("nm", "-D", "--undefined-only", extension).split())
    source = "".join(f"void *{function}(void) {{ return 0; }}\n" for function in functions)
    for number, library in enumerate(libraries):
        path = extension.parents[1] / library
        _output("gcc", "-shared", "-fPIC", "-xc", "-", f"-Wl,-soname,{library}", "-o", path, given="" if number else source)


def _output(*command: object, given: str = "") -> str:
    return subprocess.run([*map(str, command)], input=given, check=True, capture_output=True, text=True, timeout=120).stdout
