from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.kit.commands import environment
from train.arithmetic import warn_of_slow_precision
from train.config import TrainConfig, load_config

MINIMAL = 'name = "gate"\n[input]\nframes = 4\ntarget = 4\nchannels = 1\nheight = 32\nwidth = 32\n[optimiser]\n'


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    (tmp_path / "gate.toml").write_text(MINIMAL + 'precision = "bf16"\n')
    return load_config(tmp_path / "gate.toml")


def pretend(patch: pytest.MonkeyPatch, features: Mapping[str, Any], onednn_can: bool = True) -> None:
    patch.setattr(torch.cpu, "get_capabilities", lambda: features)
    patch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn_can)


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"])
def test_a_cpu_with_bf16_arithmetic_has_no_warning(
    feature: str, config: TrainConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, {feature: True})
    warn_of_slow_precision(config)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("features", "onednn_can"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False}, True),  # imitated there
        ({"architecture": "x86_64", "avx512_bf16": True}, False),  # held back, or built without oneDNN
        ({"architecture": "aarch64", "neon": True, "bf16": False}, False),
    ],
)
def test_one_without_is_named_with_what_to_say_instead(
    features: dict[str, bool | str],
    onednn_can: bool,
    config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pretend(monkeypatch, features, onednn_can)
    warn_of_slow_precision(config)
    [said] = caplog.messages
    assert "no bfloat16 arithmetic" in said and 'precision = "fp32"' in said


def test_fp32_has_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "gate.toml").write_text(MINIMAL)
    pretend(monkeypatch, {}, onednn_can=False)
    warn_of_slow_precision(load_config(tmp_path / "gate.toml"))
    assert caplog.messages == []


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable is for x86-64")
def test_onednn_held_back_to_avx2_imitates() -> None:
    command = [sys.executable, "-c", "from train.arithmetic import has_bf16_arithmetic as has; print(has())"]
    variables = environment() | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    asked = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=True)
    assert asked.stdout == "False\n"
