from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_runtime.bundle import Bundle
from edge_runtime.report.accuracy import measure_accuracy
from tests.kit.drawn_footage import draw, write_clip


def test_a_memory_that_freezes_in_one_clip_learns_in_the_next(toy: Callable[[str], Bundle], tmp_path: Path) -> None:
    bundle = toy("one_pool")
    eager = replace(bundle, manifest=replace(bundle.manifest, update=replace(bundle.manifest.update, drift_limit=0.01)))
    rows = ["clip,frame,anomalous"]
    for clip in ("a", "b"):
        write_clip(tmp_path / "clips" / clip, draw(12))
        rows += [f"{clip},{i},{int(i > 8)}" for i in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    report = measure_accuracy(eager, str(tmp_path / "clips"), str(tmp_path / "labels.csv"))
    learned = {clip: sum(score.memory_updated for score in scores) for clip, scores in report.memory["updating"].scores.items()}
    assert 0 < learned["a"] < 8
    assert learned["b"] == learned["a"]
