from __future__ import annotations

import logging
import os
import stat
import tempfile
from pathlib import Path

import pytest

from edge_runtime.devices.cuda import compilation
from edge_runtime.devices.cuda.compilation import compiled_kernels, find_nvcc
from edge_runtime.errors import BackendUnavailable
from tests.kit.wording import missing, raises

# It writes down how it was called, and makes the "cubin" from the sources.
NVCC = """#!/bin/sh
if [ "$1" = --version ]; then cat '{folder}/version'; exit; fi
echo "$@" >> '{folder}/calls'
for argument; do [ "$before" = -o ] && out=$argument; before=$argument; done
{compile}
"""


class Compiler:
    """An nvcc of a test's own, and the sources that it compiles."""

    def __init__(self, folder: Path, compile_: str = 'cat "$before" > "$out"') -> None:
        self.folder = folder
        self.path = folder / "bin/nvcc"
        self.path.parent.mkdir(parents=True)
        (folder / "version").write_text("release 1")
        self.path.write_text(NVCC.format(folder=folder, compile=compile_))
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)
        self.sources = folder / "kernels"
        self.sources.mkdir()
        (self.sources / "kernels.cu").write_text("first")

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled kernels go; and no compiler anywhere, unless a test makes one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(compilation, "TOOLKITS", tmp_path / "local")
    monkeypatch.setattr("sys.path", [str(tmp_path / "site")])
    return tmp_path / "cache/edge-runtime"


@pytest.fixture
def nvcc(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    compiler = Compiler(tmp_path / "toolkit")
    monkeypatch.setenv("CUDA_HOME", str(compiler.folder))
    return compiler


def test_kernels_are_compiled_once_for_the_gpu_that_is_here(nvcc: Compiler, cache: Path) -> None:
    assert compiled_kernels(87, sources=nvcc.sources) == compiled_kernels(87, sources=nvcc.sources) == b"first"
    [call] = nvcc.calls
    assert "-cubin -arch=sm_87 -O3" in call and call.endswith(str(nvcc.sources / "kernels.cu"))
    assert [path.name.split("-")[:2] for path in cache.iterdir()] == [["kernels", "sm87"]]


def test_another_architecture_compiler_or_source_is_compiled_anew(nvcc: Compiler) -> None:
    compiled_kernels(87, sources=nvcc.sources)
    compiled_kernels(90, sources=nvcc.sources)
    (nvcc.folder / "version").write_text("release 2")
    compiled_kernels(87, sources=nvcc.sources)
    (nvcc.sources / "rows.cuh").write_text("an include")
    compiled_kernels(87, sources=nvcc.sources)
    (nvcc.sources / "kernels.cu").write_text("second")
    assert compiled_kernels(87, sources=nvcc.sources) == b"second"
    assert len(nvcc.calls) == 5


def test_a_cache_that_cannot_be_written_is_said_and_the_kernels_are_there(
    nvcc: Compiler, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert compiled_kernels(87, sources=nvcc.sources) == b"first"
    [record] = caplog.records
    assert not missing(record.getMessage(), str(cache.parent))


def test_where_temporary_files_cannot_be_written_nvcc_has_a_folder_in_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanting = Compiler(tmp_path / "toolkit", 'cat "$before" > "$TMPDIR/step" && cat "$TMPDIR/step" > "$out"')
    monkeypatch.setenv("CUDA_HOME", str(wanting.folder))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "closed"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "closed"))
    assert compiled_kernels(87, sources=wanting.sources) == b"first"
    [call] = wanting.calls
    assert f"-o {cache}/" in call
    assert [path.suffix for path in cache.iterdir()] == [".cubin"]  # what nvcc left is gone


def test_where_nothing_can_be_written_it_is_said(nvcc: Compiler, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.write_text("a file where the folder should be")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "closed"))
    with raises(BackendUnavailable, "XDG_CACHE_HOME … TMPDIR"):
        compiled_kernels(87, sources=nvcc.sources)


def test_where_nvcc_is_looked_for(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_nvcc() is None
    package = Compiler(tmp_path / "site/nvidia/cu13")
    assert find_nvcc() == package.path
    toolkit = Compiler(tmp_path / "local/cuda-13.0")
    assert find_nvcc() == toolkit.path
    home = Compiler(tmp_path / "home")
    monkeypatch.setenv("CUDA_HOME", str(home.folder))
    assert find_nvcc() == home.path
    on_path = Compiler(tmp_path / "on_path")
    monkeypatch.setenv("PATH", f"{on_path.path.parent}:{os.environ['PATH']}")
    assert find_nvcc() == on_path.path


def test_without_nvcc_it_is_said_what_to_install(cache: Path) -> None:
    with raises(BackendUnavailable, "nvcc … PATH … sudo apt-get install nvidia-jetpack … pip install nvidia-cuda-nvcc"):
        compiled_kernels(87)


def test_what_nvcc_complains_of_is_told_and_nothing_is_kept(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Compiler(tmp_path / "toolkit", "echo; echo \"nvcc fatal   : Unsupported gpu architecture 'sm_200'\" >&2; exit 1")
    monkeypatch.setenv("CUDA_HOME", str(refusing.folder))
    with raises(BackendUnavailable, "sm_200 … nvcc fatal … g++"):
        compiled_kernels(200, sources=refusing.sources)
    assert not any(cache.iterdir())


def test_a_compiler_that_does_not_start_is_told(nvcc: Compiler) -> None:
    nvcc.path.write_bytes(b"\x7fELF, not really")
    with raises(BackendUnavailable, "nvcc"):
        compiled_kernels(87, sources=nvcc.sources)
