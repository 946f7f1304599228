"""The shipped bundles score as they did: frame by frame, from a file that is rewritten only when a change of the scores is meant.

On the kind of CPU that wrote the file, with its ONNX Runtime, the scores are equal to the last digit; elsewhere convolutions sum in
another order, and the tolerances of fp32 hold.

`python -m tests.contract.test_golden_scores` rewrites it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from edge_runtime import Bundle, Detector, open_source
from export.tolerances import TOLERANCES

GOLDEN = Path(__file__).with_name("golden_scores.json")
FRAMES = 100
SYNTHETIC, PED2 = "synthetic-lite", "ped2-lite"
CLIP = "testing/frames/01"
RELATIVE = ("regular_score", "local_error", "query_distance")


def test_synthetic_lite_scores_the_built_in_scene_as_it_did() -> None:
    _assert_as_before(SYNTHETIC, f"synthetic:?seed=0&frames={FRAMES}")


@pytest.mark.ped2
def test_ped2_lite_scores_ped2_as_it_did(ped2: Path) -> None:
    _assert_as_before(PED2, str(ped2 / CLIP))


def _assert_as_before(bundle: str, source: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    got, wanted = _rows(bundle, source), golden["bundles"][bundle]
    if golden["machine"] == _machine():
        assert got == wanted
        return
    allowed = TOLERANCES["fp32"]
    assert [row["frame"] for row in got] == [row["frame"] for row in wanted]
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours["psnr_db"] == pytest.approx(theirs["psnr_db"], abs=allowed.psnr_db)
        for name in RELATIVE:
            assert ours[name] == pytest.approx(theirs[name], rel=allowed.score, abs=1e-6), name


def _rows(bundle: str, source: str) -> list[dict[str, Any]]:
    """What a row of scores.jsonl says of each scored frame, but for clocks."""
    from edge_runtime.sinks.tables.rows import score_row

    rows = []
    with Detector.open(Bundle.load(f"bundles/{bundle}"), device="cpu", precision="fp32") as detector:
        stream = detector.open_stream()
        for index, frame in enumerate(open_source(source, default_fps=10.0)):
            if index == FRAMES:
                break
            [step] = detector.step([(stream, frame)])
            if step.score is not None:
                row = score_row(step.score)
                rows.append({name: value for name, value in row.items() if name not in ("wall_time_s", "latency_ms")})
    return json.loads(json.dumps(rows))


def _machine() -> dict[str, Any]:
    """What decides how convolutions sum: ONNX Runtime and the instructions it may use."""
    words = Path("/proc/cpuinfo").read_text(encoding="utf-8").split() if Path("/proc/cpuinfo").exists() else []
    return {"onnxruntime": onnxruntime.__version__, "instructions": sorted(set(words) & {"avx2", "avx512f", "avx512_vnni", "asimd"})}


if __name__ == "__main__":
    bundles = {
        SYNTHETIC: _rows(SYNTHETIC, f"synthetic:?seed=0&frames={FRAMES}"),
        PED2: _rows(PED2, str(Path(os.environ["PED2_DIR"], CLIP))),
    }
    GOLDEN.write_text(json.dumps({"machine": _machine(), "bundles": bundles}, indent=1) + "\n", encoding="utf-8")
