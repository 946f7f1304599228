"""The yardstick: what a good user of PyTorch would run on this GPU, with memory, update and scores, and one wait a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edge_runtime.frames import Frame
from export.split import scores
from train import memory
from train.models.mnad_prediction import MnadPrediction

__all__ = ["TorchModel", "Variant"]

GATE, RATE = 2.0, 0.001  # those of the full-size bundle


@dataclass(frozen=True)
class Variant:
    """A way to run the model.

    Attributes:
        dtype: of the network; memory and scores are float32.
        has_tf32: float32 products may be rounded to TF32, which is PyTorch's default for convolutions.
        compiled: torch.compile's mode; None: eager.
    """

    name: str
    dtype: torch.dtype
    has_tf32: bool
    compiled: str | None = None


class TorchModel:
    """Frames in, PSNR out. In inference mode; pictures go up through a pinned buffer and are resized on the device.

    Args:
        model: takes its own copy on the device.
        items: (M, D).
        device: `cuda` or `cpu`.
    """

    def __init__(self, model: MnadPrediction, items: Tensor, device: str, variant: Variant) -> None:
        self._network = model.to(device=device, dtype=variant.dtype)
        self._items = items.to(device)
        self._device = device
        self._variant = variant
        self._side = model.input_spec.height
        self._window: list[Tensor] = []
        self._buffer: Tensor | None = None
        self._run = self._compiled(variant.compiled)

    def _compiled(self, mode: str | None) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
        if mode is None:
            return self._frame
        if self._device == "cpu":  # traced, and run as it is: nothing is timed there
            return torch.compile(self._frame, backend="eager")
        return torch.compile(self._frame, mode=mode)

    @torch.inference_mode()
    def step(self, frame: Frame) -> float | None:
        """PSNR in dB of the newest frame; None while the window fills."""
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self._variant.has_tf32
        self._window = [*self._window[-4:], self._image(frame)]
        if len(self._window) < 5:
            return None
        if self._variant.compiled == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        told, items = self._run(torch.stack(self._window[:4])[None], self._window[4][None], self._items)
        self._items = items.clone()  # a replayed graph writes its outputs anew
        return float(told.tolist()[0])

    def _frame(self, window: Tensor, target: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """PSNR, regular score, local error and query distance; and the items for the next frame."""
        dtype = self._variant.dtype
        encoded = self._network.encode(window.to(dtype))
        query = encoded["query"]
        read = memory.read(memory.address(query, items), items)
        prediction = self._network.decode(encoded | {"query": query.to(dtype), "read": read.to(dtype)}).float()
        _, psnr_db, regular_score, local_error = scores(prediction, target)
        rows = memory.flatten(query)
        distance = (rows - items[(rows @ items.T).argmax(dim=1)]).square().mean()
        learned = functional.normalize(items + RATE * memory.write(query, items, "all"), dim=1)
        told = torch.stack([psnr_db[0], regular_score[0], local_error[0], distance])
        return told, torch.where(regular_score < GATE, learned, items)

    def _image(self, frame: Frame) -> Tensor:
        """(3, h, w) in [−1, 1]; area resize, as the runtime does it."""
        picture = torch.from_numpy(frame.image)
        if self._device == "cuda":
            if self._buffer is None or self._buffer.shape != picture.shape:
                self._buffer = torch.empty(picture.shape, dtype=picture.dtype, pin_memory=True)
            picture = self._buffer.copy_(picture).to(self._device, non_blocking=True)
        planes = picture.permute(2, 0, 1)[None].float()
        resized = functional.interpolate(planes, size=(self._side, self._side), mode="area")
        return resized[0].round() / 127.5 - 1
