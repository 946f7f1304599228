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
from train.arithmetic import autocast, choose_device, choose_precision, has_bf16_arithmetic

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def pretend(patch: pytest.MonkeyPatch, features: Mapping[str, Any], onednn_can: bool = True) -> None:
    patch.setattr(torch.cpu, "get_capabilities", lambda: features)
    patch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn_can)


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"])
def test_a_cpu_with_bf16_arithmetic_has_no_warning_and_auto_takes_it(
    feature: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, {feature: True})
    assert choose_precision("bf16", CPU) == choose_precision("auto", CPU) == "bf16"
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
def test_one_without_is_named_with_what_to_say_instead_and_auto_is_fp32(
    features: dict[str, bool | str], onednn_can: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, features, onednn_can)
    assert choose_precision("auto", CPU) == "fp32"
    assert caplog.messages == []
    assert choose_precision("bf16", CPU) == "bf16"  # what is named stays
    [said] = caplog.messages
    assert missing(said, "CPU … bfloat16 … [optimiser]", 'precision = "auto"') == []


def test_a_gpu_is_asked_itself_and_imitation_does_not_count(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert choose_precision("auto", CUDA) == "fp32"
    assert choose_precision("bf16", CUDA) == "bf16"
    [said] = caplog.messages
    assert missing(said, "GPU") == []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert choose_precision("auto", CUDA) == "bf16"


def test_fp32_has_no_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pretend(monkeypatch, {}, onednn_can=False)
    assert choose_precision("fp32", CPU) == "fp32"
    assert caplog.messages == []


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_there, wanted in ((True, CUDA), (False, CPU)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda is_there=is_there: is_there)
        assert choose_device("auto") == wanted
        assert choose_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("cuda") == CUDA


def test_a_gpu_that_is_not_there_is_an_error_with_what_to_say_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with raises(ConfigError, "device", "cuda", str(torch.__version__), "DEVICE=cpu"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:0", ""])
def test_an_unknown_device_lists_those_that_there_are(name: str) -> None:
    with raises(ConfigError, "device", "auto … cpu … cuda", f"'{name}'"):
        choose_device(name)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_convolutions_alone_run_in_bfloat16(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):
        assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == dtype


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable is for x86-64")
def test_onednn_held_back_to_avx2_imitates() -> None:
    code = "import torch; from train.arithmetic import has_bf16_arithmetic as has; print(has(torch.device('cpu')))"
    variables = environment() | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    asked = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60, check=True)
    assert asked.stdout == "False\n"


def test_this_machine_answers() -> None:
    assert has_bf16_arithmetic(CPU) in (True, False)
