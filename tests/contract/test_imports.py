"""The runtime starts where little is installed: on a Jetson there is no PyTorch, and every other library is somebody's choice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

OPTIONAL = ("av", "cv2", "matplotlib", "onnxruntime", "paho", "pycuda", "urllib3")
FORBIDDEN = ("torch", "train", "export", "calibration")

IMPORT_WITHOUT = """
import importlib, importlib.abc, json, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return None

missing, modules = json.loads(sys.argv[1])
sys.meta_path.insert(0, Missing())
failed = {}
for module in modules:
    try:
        importlib.import_module(module)
    except Exception as error:
        failed[module] = repr(error)
print(json.dumps(failed))
"""


def test_every_module_of_the_runtime_imports_without_anything_optional() -> None:
    assert _failures_without((*FORBIDDEN, *OPTIONAL), _modules("edge_runtime")) == {}


def test_runtime_and_calibration_import_without_pytorch() -> None:
    assert _failures_without(("torch", "train", "export"), [*_modules("edge_runtime"), *_modules("calibration")]) == {}


def test_engines_are_built_without_pytorch_and_their_library_is_asked_for_last() -> None:
    assert _failures_without(("torch", "train", "onnx", "tensorrt", "tensorrt_rtx", *OPTIONAL), _modules("export/engine")) == {}


def test_what_is_made_missing_is_missing() -> None:
    failures = _failures_without(("torch", "cv2"), ["cv2", "train.memory"])
    assert failures == {name: f"ModuleNotFoundError(\"No module named '{library}'\")" for name, library in _PLANTED.items()}


_PLANTED = {"cv2": "cv2", "train.memory": "torch"}


@pytest.mark.parametrize("command", ["edge_run", "edge_report", "edge_doctor", "edge_record"])
def test_help_is_there_without_numpy(command: str) -> None:
    finished = _run(
        f"import sys; from edge_runtime.commands.{command} import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    print('loaded:', 'numpy' in sys.modules)\n"
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(f"usage: {command.replace('_', '-')}")
    assert any(word in finished.stdout for word in ("--bundle", "accuracy", "--minutes"))
    assert finished.stdout.endswith("loaded: False\n")


def _failures_without(missing: tuple[str, ...], modules: list[str]) -> dict[str, str]:
    """Module to error, for the modules that do not import in a fresh interpreter that lacks some libraries."""
    finished = _run(IMPORT_WITHOUT, json.dumps([missing, modules]))
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def _modules(package: str) -> list[str]:
    paths = [path.with_suffix("") for path in sorted(Path(package).rglob("*.py"))]
    return [".".join(path.parts[:-1] if path.name == "__init__" else path.parts) for path in paths]


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60)
