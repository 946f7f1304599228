"""The wheel beside Debian's OpenCV with GStreamer, in the system's Python: the Jetson way without a Jetson."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.cameras import SYSTEM_PYTHON
from tests.kit.commands import ROOT, Results, results_in

pytestmark = [pytest.mark.system_opencv, pytest.mark.slow]

# All that the wheel needs but NumPy and OpenCV, which the system has, as JetPack does.
MISSING = ["msgspec>=0.19", "safetensors>=0.4.3", "threadpoolctl>=3.2", "tqdm>=4.66", "onnxruntime>=1.18"]
BUNDLE = ROOT / "bundles" / "synthetic-lite"
FRAMES, UNSCORED = 40, 4


@dataclass(frozen=True)
class Installed:
    """A virtual environment of the system's Python with the wheel in it."""

    folder: Path

    def run(self, name: str, *arguments: object) -> str:
        """Run a program of its to a good end, and return what it printed."""
        command = [self.folder / "bin" / name, *map(str, arguments)]
        finished = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    def origins(self) -> dict[str, list[str]]:
        """Version and file of NumPy and OpenCV there."""
        script = "import json, cv2, numpy; print(json.dumps({m.__name__: [m.__version__, m.__file__] for m in (cv2, numpy)}))"
        return dict(json.loads(self.run("python", "-c", script)))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("system")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder / "wheels", ROOT]
    subprocess.run(build, check=True, timeout=120)
    [wheel] = (folder / "wheels").iterdir()
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--system-site-packages", folder / "venv"], check=True, timeout=120)
    environment = Installed(folder / "venv")
    environment.run("pip", "install", "-q", "--disable-pip-version-check", *MISSING)
    environment.run("pip", "install", "-q", "--disable-pip-version-check", "--no-index", wheel)
    return environment


def edge_run(installed: Installed, source: str, out: Path) -> Results:
    installed.run("edge-run", "--source", source, "--bundle", BUNDLE, "--max-frames", FRAMES, "--out", out)
    return results_in(out)


def test_the_systems_numpy_and_opencv_stay(installed: Installed) -> None:
    script = "import json, cv2, numpy; print(json.dumps({m.__name__: [m.__version__, m.__file__] for m in (cv2, numpy)}))"
    system = subprocess.run([SYSTEM_PYTHON, "-c", script], check=True, capture_output=True, text=True, timeout=60).stdout
    assert installed.origins() == json.loads(system)


def test_the_runtime_comes_from_the_wheel(installed: Installed) -> None:
    script = "import edge_runtime; print(edge_runtime.__file__)"
    assert installed.run("python", "-c", script).startswith(str(installed.folder))


def test_the_built_in_scene_is_scored(installed: Installed, tmp_path: Path) -> None:
    results = edge_run(installed, f"synthetic:?frames={FRAMES}", tmp_path)
    assert results.frames == list(range(UNSCORED, FRAMES))


def test_a_gstreamer_pipeline_is_scored(installed: Installed, tmp_path: Path) -> None:
    source = f"gst:videotestsrc is-live=true num-buffers={2 * FRAMES} ! video/x-raw,width=320,height=240,framerate=15/1"
    results = edge_run(installed, source, tmp_path)
    assert results.summary["frames"] == FRAMES
    assert len(results.scores) >= FRAMES // 2
