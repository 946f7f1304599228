from __future__ import annotations

import logging

import numpy as np
import pytest

from edge_runtime.frames import Frame, Gap, GapKind
from edge_runtime.run.rate_watch import RateWatch
from edge_runtime.score import Step
from tests.kit.wording import missing

IMAGE = np.zeros((2, 2, 3), np.uint8)


def watch(watching: RateWatch, fps: float, *, seconds: float, begins_s: float = 0.0, gap_every: int | None = None) -> float:
    """Show it an even stream; when that ends."""
    for index in range(round(seconds * fps)):
        gap = Gap(GapKind.PAUSE, "lost") if gap_every and index % gap_every == 0 else None
        watching.look(Step(Frame(IMAGE, index, begins_s + index / fps, 0.0, "gate"), gap))
    return begins_s + seconds


def test_a_rate_that_is_not_the_calibrated_one_is_said_once_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watching = RateWatch(10)
    now_s = watch(watching, 9, seconds=120)
    assert not caplog.messages
    now_s = watch(watching, 4, seconds=120, begins_s=now_s)
    [message] = caplog.messages
    assert message.startswith("gate: ") and not missing(message, "calibrated at 10")
    watch(watching, 10, seconds=120, begins_s=now_s)
    [said] = caplog.messages[1:]
    assert said.startswith("gate: ") and not missing(said, "10.0 frames … again")


def test_a_stretch_with_a_gap_is_not_judged(caplog: pytest.LogCaptureFixture) -> None:
    watch(RateWatch(10), 2, seconds=600, gap_every=50)
    assert not caplog.messages
