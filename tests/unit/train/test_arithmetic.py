from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from edge_runtime.errors import ConfigError
from tests.kit.commands import environment
from tests.kit.wording import missing, raises
from train.arithmetic import choose_device, choose_precision

CPU = torch.device("cpu")
HAVE_BF16 = [{"avx512_bf16": True}, {"amx_bf16": True}, {"avx_ne_convert": True}, {"bf16": True}]
HAVE_NOT = [
    ({"architecture": "x86_64", "avx2": True, "avx512_bf16": False}, False),
    ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False}, True),  # imitated there
    ({"architecture": "x86_64", "avx512_bf16": True}, False),  # held back, or built without oneDNN
    ({"architecture": "aarch64", "neon": True, "bf16": False}, False),
]


def pretend(patch: pytest.MonkeyPatch, features: Mapping[str, Any], onednn_can: bool = True) -> None:
    patch.setattr(torch.cpu, "get_capabilities", lambda: features)
    patch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn_can)


@pytest.mark.parametrize("features", HAVE_BF16, ids=lambda features: next(iter(features)))
def test_a_cpu_with_bf16_arithmetic_is_used_for_it_without_a_warning(
    features: dict[str, bool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, features)
    assert (choose_precision("auto", CPU), choose_precision("bf16", CPU)) == ("bf16", "bf16")
    assert caplog.messages == []


@pytest.mark.parametrize(("features", "onednn_can"), HAVE_NOT)
def test_one_without_trains_in_fp32_unless_bf16_is_named_which_is_warned_of(
    features: dict[str, bool | str], onednn_can: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, features, onednn_can)
    assert choose_precision("auto", CPU) == "fp32"
    assert caplog.messages == []
    assert choose_precision("bf16", CPU) == "bf16"
    [said] = caplog.messages
    assert not missing(said, "CPU", "bfloat16", 'precision = "auto"')


def test_fp32_stays_fp32_everywhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pretend(monkeypatch, {"avx512_bf16": True})
    assert choose_precision("fp32", CPU) == "fp32"
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_a_gpu_training_runs_on_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(name) == CPU


def test_a_gpu_is_taken_where_there_is_one_unless_the_cpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [choose_device(name).type for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


def test_a_gpu_that_is_named_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with raises(ConfigError, "cuda", str(torch.__version__), "DEVICE=cpu"):
        choose_device("cuda")


def test_an_unknown_device_lists_those_that_there_are() -> None:
    with raises(ConfigError, "auto, cpu, cuda", "'tpu'"):
        choose_device("tpu")


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable is for x86-64")
def test_onednn_held_back_to_avx2_imitates() -> None:
    program = "import torch; from train.arithmetic import has_bf16_arithmetic as has; print(has(torch.device('cpu')))"
    variables = environment() | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    asked = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, timeout=60, check=True)
    assert asked.stdout == "False\n"
