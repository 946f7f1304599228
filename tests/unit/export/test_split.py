from __future__ import annotations

from math import log10

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge_runtime.preprocess import InputSpec
from export.split import scores, split
from train.data import Batch
from train.loop import forward
from train.memory import Memory
from train.mnad import MemoryConfig, MnadSections, NetworkConfig
from train.models.mnad_prediction import MnadPrediction

SPEC = InputSpec(frames=4, target=4, channels=3, height=32, width=48)
NODES = ("error_map", "psnr_db", "regular_score", "local_error")


@pytest.mark.parametrize("has_memory", [True, False])
def test_the_fused_halves_say_what_the_model_says(has_memory: bool) -> None:
    model, batch = _model(has_memory), Batch(_images(2, 4), _images(2), torch.zeros(2, dtype=torch.bool))
    with torch.no_grad():
        step = forward(model, Memory(model.pools, torch.Generator().manual_seed(0)), batch)
        wanted, prediction = step.encoded, step.prediction
        halves = split(model)
        got = dict(zip(halves.encoder.outputs, halves.encoder(batch.window), strict=True))
        given = {**got, **step.reading.inputs, "target": batch.target}
        decoded = dict(zip(halves.decoder.outputs, halves.decoder(*(given[name] for name in halves.decoder.inputs)), strict=True))
    for name, tensor in wanted.items():
        assert (got[name] - tensor).abs().max() <= 1e-5
    assert (decoded["prediction"] - prediction).abs().max() <= 1e-5
    for name, tensor in zip(halves.decoder.outputs[1:], scores(prediction, batch.target), strict=True):
        assert decoded[name].numpy() == pytest.approx(tensor.numpy(), rel=1e-4, abs=1e-6)
    assert prediction.std() > 1e-3  # the comparison is not of constants


def test_no_batch_norm_is_left_and_the_model_keeps_its_own() -> None:
    model = _model(has_memory=True)
    norms = _batch_norms(model)
    halves = split(model)
    assert norms > 0
    assert _batch_norms(halves.encoder) == _batch_norms(halves.decoder) == 0
    assert _batch_norms(model) == norms


def test_a_model_without_memory_takes_no_read() -> None:
    assert split(_model(has_memory=True)).decoder.inputs == ("query", "read", "skip_1", "skip_2", "skip_3", "target")
    assert split(_model(has_memory=False)).decoder.inputs == ("query", "skip_1", "skip_2", "skip_3", "target")


def test_what_is_no_pools_query_is_halved_between_the_graphs() -> None:
    assert split(_model(has_memory=True)).halved == {"skip_1", "skip_2", "skip_3"}
    assert split(_model(has_memory=False)).halved == {"query", "skip_1", "skip_2", "skip_3"}  # it addresses nothing


def test_the_decoder_takes_what_is_looked_up_and_no_more() -> None:
    model = _model(has_memory=True)
    decode = model.decode
    model.decode = lambda given: decode({**given, "query": given["read"], "skip_2": given["skip_1"][:, :, ::2, ::2].repeat(1, 2, 1, 1)})
    assert split(model).decoder.inputs == ("read", "skip_1", "target")


@pytest.mark.parametrize("shape", [(2, 3, 32, 48), (1, 1, 64, 64), (3, 1, 16, 32)])
def test_scores_agree_with_plain_float64(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    prediction, target = (torch.rand(shape, generator=generator) * 2 - 1 for _ in range(2))
    for name, got, wanted in zip(NODES, scores(prediction, target), _scores_by_hand(prediction.numpy(), target.numpy()), strict=True):
        assert got.dtype == torch.float32
        assert got.numpy() == pytest.approx(wanted, rel=1e-5), name


def test_scores_of_a_batch_are_those_of_its_frames() -> None:
    prediction, target = _images(3), -_images(3)
    together = scores(prediction, target)
    for i in range(3):
        for got, wanted in zip(scores(prediction[i : i + 1], target[i : i + 1]), together, strict=True):
            assert torch.equal(got[0], wanted[i])


def test_a_perfect_prediction_has_100_db_and_no_error() -> None:
    error_map, psnr_db, regular_score, local_error = scores(_images(2), _images(2))
    assert not error_map.any()
    assert psnr_db.tolist() == pytest.approx([100, 100])
    assert regular_score.tolist() == [0, 0]  # the sum of the weights is zero
    assert local_error.tolist() == [0, 0]


@pytest.mark.parametrize(("difference", "psnr_db"), [(2.0, 0.0), (0.2, 20.0), (2e-4, 80.0), (2e-6, 100.0)])
def test_psnr_of_an_even_difference_is_floored(difference: float, psnr_db: float) -> None:
    target = torch.zeros(1, 1, 32, 32)
    assert scores(target + difference, target)[1].item() == pytest.approx(psnr_db, abs=1e-3)


@pytest.mark.parametrize("error", [1.0, 1e-2, 1e-4, 1e-8, 1e-12])
def test_the_regular_score_of_an_even_error_is_that_error_however_small(error: float) -> None:
    target = torch.zeros(1, 3, 16, 16)
    assert scores(target + 2 * error**0.5, target)[2].item() == pytest.approx(error, rel=1e-4)


def test_the_regular_score_looks_at_where_the_error_is() -> None:
    prediction = torch.zeros(1, 1, 32, 32)
    prediction[0, 0, 5, 5] = 2
    assert scores(prediction, torch.zeros_like(prediction))[2].item() == pytest.approx(1)  # its mean is 1 / 1024


def test_the_error_map_is_the_mean_over_the_channels() -> None:
    prediction = torch.zeros(1, 3, 16, 16)
    prediction[0, 1, 2, 3] = 2
    error_map = scores(prediction, torch.zeros_like(prediction))[0]
    assert error_map.shape == (1, 1, 16, 16)
    assert error_map.sum().item() == error_map[0, 0, 2, 3].item() == pytest.approx(1 / 3)


def test_the_local_error_of_one_pixel_is_its_share_of_a_window_of_an_eighth_of_each_side() -> None:
    prediction = torch.zeros(1, 1, 16, 32)  # window 2 x 4
    prediction[0, 0, 7, 9] = 2
    assert scores(prediction, torch.zeros_like(prediction))[3].item() == pytest.approx(1 / 8)


@pytest.mark.parametrize(("at", "wanted"), [(2, 1.0), (3, (7 / 8) ** 2), (4, 1.0)])
def test_local_windows_are_a_quarter_of_a_window_apart(at: int, wanted: float) -> None:
    prediction = torch.zeros(1, 1, 64, 64)  # window 8, stride 2
    prediction[0, 0, at : at + 8, at : at + 8] = 2
    assert scores(prediction, torch.zeros_like(prediction))[3].item() == pytest.approx(wanted)


def _scores_by_hand(prediction: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, ...]:
    error = ((prediction.astype(np.float64) - target.astype(np.float64)) / 2) ** 2  # (B, C, h, w)
    error_map = error.mean(axis=1, keepdims=True)
    psnr_db = np.array([10 * log10(1 / max(frame.mean(), 1e-10)) for frame in error])
    weight = 1 - np.exp(-error)
    regular_score = np.array([(w * e).sum() / w.sum() for w, e in zip(weight, error, strict=True)])
    height, width = error.shape[2] // 8, error.shape[3] // 8
    local_error = np.array(
        [
            max(
                frame[0, y : y + height, x : x + width].mean()
                for y in range(0, frame.shape[1] - height + 1, max(height // 4, 1))
                for x in range(0, frame.shape[2] - width + 1, max(width // 4, 1))
            )
            for frame in error_map
        ]
    )
    return error_map, psnr_db, regular_score, local_error


def _model(has_memory: bool) -> MnadPrediction:
    """Random weights; the batch norms have seen a few batches."""
    torch.manual_seed(0)
    model = MnadPrediction(SPEC, MnadSections(NetworkConfig(4), MemoryConfig(5 if has_memory else 0)))
    for _ in range(3):
        encoded = model.encode(torch.randn(2, 4, 3, 32, 48))
        model.decode(encoded | {"read": encoded["query"]})
    return model.eval()


def _batch_norms(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


def _images(*leading: int) -> Tensor:
    """(*leading, 3, 32, 48) in [−1, 1], always the same."""
    return torch.rand(*leading, 3, 32, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1
