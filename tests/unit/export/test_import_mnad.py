"""Checkpoints of the public MNAD code: the imported model says what the released network says, and nothing of the file is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_runtime import Bundle
from edge_runtime.devices.host_memory import HostBank
from edge_runtime.errors import ConfigError
from export.bundle import BundleSettings, make_bundle
from export.import_mnad import import_run
from export.mnad_release import load_release
from tests.kit.mnad_release import PREDICTION, RECONSTRUCTION, ReleasedNetwork, released, updated
from train.data import Batch
from train.loop import forward

WIDTH = 4
FOOTAGE = "synthetic:?clips=2&frames=100&width=64&height=64&anomalies=off&fps=10"
KINDS = {PREDICTION: ("mnad_prediction", 4), RECONSTRUCTION: ("mnad_reconstruction", 1)}


@pytest.fixture(params=KINDS, ids=("prediction", "reconstruction"))
def network(request: pytest.FixtureRequest) -> ReleasedNetwork:
    torch.manual_seed(0)
    return released(request.param, KINDS[request.param][1], 3, WIDTH)


@pytest.fixture
def items() -> Tensor:
    return torch.nn.functional.normalize(torch.rand(10, 8 * WIDTH, generator=torch.Generator().manual_seed(1)), dim=1)


def save(folder: Path, content: object, items: Tensor) -> tuple[Path, Path]:
    torch.save(content, folder / "model.pth")
    torch.save(items, folder / "keys.pt")
    return folder / "model.pth", folder / "keys.pt"


@pytest.mark.parametrize("form", ["state dict", "whole module", "state dict of a parallel module"])
def test_the_imported_model_predicts_what_the_released_network_does(
    network: ReleasedNetwork, items: Tensor, form: str, tmp_path: Path
) -> None:
    contents: dict[str, Callable[[], object]] = {
        "state dict": network.state_dict,
        "whole module": lambda: network,
        "state dict of a parallel module": lambda: {f"module.{name}": tensor for name, tensor in network.state_dict().items()},
    }
    run = import_run(*save(tmp_path, contents[form](), items), FOOTAGE, "imported", (32, 48))
    window = _window(run.config.input.frames)
    with torch.no_grad():
        wanted, query = network(window.reshape(1, -1, 32, 48), items)
        got = forward(run.model, run.memory, Batch(window, window[:, 0], torch.zeros(1, dtype=torch.bool)))
    assert run.config.model == KINDS[type(network).__module__][0]
    assert (got.encoded["query"] - query).abs().max() <= 1e-6
    assert (got.prediction - wanted).abs().max() <= 1e-6
    assert wanted.std() > 1e-2  # no comparison of constants


def test_a_swapped_concatenation_would_be_noticed(items: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = released(PREDICTION, 4, 3, WIDTH)
    run = import_run(*save(tmp_path, network.state_dict(), items), FOOTAGE, "imported", (32, 48))
    first = run.model.decoder.level4[0].weight
    with torch.no_grad():
        first.copy_(torch.cat([first[:, 8 * WIDTH :], first[:, : 8 * WIDTH]], dim=1))
        window = _window(4)
        wanted, _ = network(window.reshape(1, -1, 32, 48), items)
        got = forward(run.model, run.memory, Batch(window, window[:, 0], torch.zeros(1, dtype=torch.bool)))
    assert (got.prediction - wanted).abs().max() > 1e-4


def test_two_hundred_updates_at_test_time_are_those_of_the_release(items: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = released(PREDICTION, 4, 3, WIDTH)
    run = import_run(*save(tmp_path, network, items), FOOTAGE, "imported", (32, 32))
    bundle = make_bundle(run, tmp_path / "bundle", BundleSettings(precisions=("fp32",), update="mnad", drift_limit=2.0))
    manifest = bundle.manifest
    assert (manifest.model.name, manifest.update.write_scale, manifest.provenance["training_clips"]) == ("mnad_prediction", "all", [])
    bank = HostBank(manifest, bundle.read_items())
    generator, ours = torch.Generator().manual_seed(2), items
    for _ in range(200):
        with torch.no_grad():
            _, query = network(torch.rand(1, 12, 32, 32, generator=generator) * 2 - 1, ours)
        bank.read({"query": query.numpy()})
        bank.update({"query": query.numpy()}, {"score/regular_score": np.array([-1.0])})
        ours = updated(query, ours)
    assert np.abs(bank.snapshot()["memory"] - ours.numpy()).max() <= 1e-6
    assert Bundle.load(bundle.path) == bundle


def test_what_a_checkpoint_names_is_not_run(items: Tensor, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    with pytest.raises(ConfigError, match=r"model\.pth.*mkdir.*state_dict\(\)"):
        load_release(*save(tmp_path, {"encoder": Trap()}, items))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state | {"encoder.attention.0.weight": torch.zeros(1)}, "encoder.attention.0.weight"),
        (lambda state: {name: tensor for name, tensor in state.items() if name != "decoder.moduleDeconv2.0.bias"}, "decoder.level2.0.bias"),
        (lambda state: state | {"encoder.moduleConv2.0.bias": torch.zeros(3)}, "encoder.level2.0.bias"),
        (lambda state: {"weight": torch.zeros(1)}, "encoder.moduleConv1.0.weight"),
        (lambda state: [1, 2], "list"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    change: Callable[[dict[str, Tensor]], object], named: str, items: Tensor, tmp_path: Path
) -> None:
    state = released(PREDICTION, 4, 3, WIDTH).state_dict()
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        import_run(*save(tmp_path, change(dict(state)), items), FOOTAGE, "imported", (32, 32))


@pytest.mark.parametrize("wrong", [torch.zeros(10, 7), torch.zeros(8 * WIDTH), {"keys": torch.zeros(10, 8 * WIDTH)}])
def test_items_of_another_size_are_refused(wrong: object, tmp_path: Path) -> None:
    network = released(PREDICTION, 4, 3, WIDTH)
    torch.save(network.state_dict(), tmp_path / "model.pth")
    torch.save(wrong, tmp_path / "keys.pt")
    with pytest.raises(ConfigError, match=rf"keys\.pt.*\(M, {8 * WIDTH}\)"):
        load_release(tmp_path / "model.pth", tmp_path / "keys.pt")


@pytest.mark.parametrize("content", [None, b"", b"hello", b"PK\x03\x04"])
def test_a_file_that_is_no_checkpoint_is_named(content: bytes | None, items: Tensor, tmp_path: Path) -> None:
    checkpoint, keys = save(tmp_path, {}, items)
    checkpoint.unlink() if content is None else checkpoint.write_bytes(content)
    with pytest.raises(ConfigError, match=r"model\.pth"):
        load_release(checkpoint, keys)


def _window(frames: int) -> Tensor:
    return torch.rand(1, frames, 3, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1
