from __future__ import annotations

import logging

import pytest

from edge_runtime.preprocess import InputSpec
from tests.kit.wording import missing
from train.config import DataConfig, TrainConfig
from train.mnad import MnadSections
from train.outlook import tell_pace, warn_of_another_horizon


def config(target: int = 6, fps: float | None = 10.0) -> TrainConfig:
    spec = InputSpec(frames=4, target=target, channels=1, height=32, width=32)
    return TrainConfig("gate", spec, "mnad_prediction", MnadSections(), data=DataConfig(fps=fps))


@pytest.mark.parametrize(
    ("fps", "ahead", "target"),
    [(30.0, "0.1 s … 0.3 s", 12), (25.0, "0.12 s … 0.3 s", 11), (2.0, "1.5 s … 0.3 s", 4)],
)
def test_a_horizon_far_from_the_configurations_is_named_with_what_keeps_it(
    fps: float, ahead: str, target: int, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_another_horizon(config(), fps)
    [said] = caplog.messages
    assert missing(said, f"{fps:g} … 10", ahead, "edge-record --fps 10", f"input.target = {target}", f"data.fps = {fps:g}") == []


@pytest.mark.parametrize(
    ("made_for", "fps"),
    [(config(), 10.0), (config(), 15.0), (config(), 7.0), (config(fps=None), 30.0), (config(target=3), 30.0)],
    ids=["same", "faster", "slower", "unsaid", "nothing-ahead"],
)
def test_near_it_or_where_nothing_is_said_there_is_no_warning(made_for: TrainConfig, fps: float, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_another_horizon(made_for, fps)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("steps_s", "said"),
    [(1.0, "20 … 50 s … 24 … 20 min"), (7.2, "20 … 6 min … 24 … 2.4 h")],
)
def test_the_pace_is_said_in_units_of_people(steps_s: float, said: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "train")
    tell_pace(steps_s, 1000, 24)
    [message] = caplog.messages
    assert missing(message, said) == []
