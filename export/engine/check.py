"""Does an engine say what the ONNX graphs say? Judged by what a camera delivers: prediction, PSNR, and the order of the frames by score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.clips import find_clips, frame_rate, read_frames
from edge_runtime.bundle import Bundle
from edge_runtime.bundle.engines import Difference, EngineCheck
from edge_runtime.devices.host import HostDevice
from edge_runtime.errors import ConfigError
from edge_runtime.evaluation.ranks import rank_correlation
from edge_runtime.stream import Arrays, Bank, Graph
from export.tolerances import TOLERANCES, Tolerance

__all__ = [
    "SYNTHETIC_CLIPS",
    "Halves",
    "compare",
    "decoder_inputs",
    "describe",
    "windows_of",
]

SYNTHETIC_CLIPS = "synthetic:?clips=4&seed=9000&frames=40"
MOST_WINDOWS = 64
FEWEST_WINDOWS = 4
EVERY = 2  # frames from one window to the next


@dataclass(frozen=True)
class Halves:
    """A model in some engine."""

    encoder: Graph
    decoder: Graph

    def run(self, window: Arrays, bank: Bank) -> Arrays:
        """The decoder's outputs for one window, with the memory between the halves."""
        return self.decoder.run(decoder_inputs(self.encoder, window, bank))


def decoder_inputs(encoder: Graph, window: Arrays, bank: Bank) -> Arrays:
    """Everything a decoder may take, for one window."""
    encoded = encoder.run(window)
    return {**window, **encoded, **bank.read(encoded)}


def windows_of(bundle: Bundle, clips: str | None) -> list[Arrays]:
    """At most 64 windows (`clip`, `target`) from footage, spread over its clips; the built-in scene where it is None.

    Raises:
        SourceError: nothing there, or it cannot be read.
        ConfigError: fewer than 4 windows.
    """
    found = find_clips(clips or SYNTHETIC_CLIPS)
    fps = frame_rate(found, bundle.manifest.fps)
    share = max(MOST_WINDOWS // max(len(found), 1), 1)
    windows: list[Arrays] = []
    for clip in found[:MOST_WINDOWS]:
        stream = HostDevice().open_stream(bundle, clip.name, smoothing_frames=1)
        taken = 0
        for frame in read_frames(clip, fps):
            if stream.push(frame).target is not None and frame.index % EVERY == 0:
                view = stream.ring.view(stream.window.start)
                windows.append({name: array.copy() for name, array in view.items()})
                taken += 1
                if taken == share:
                    break
    if len(windows) < FEWEST_WINDOWS:
        raise ConfigError(
            f"{clips}: expected footage for at least {FEWEST_WINDOWS} windows of {bundle.manifest.input.span} frames, got {len(windows)}. "
            "Name more with DATA=, or leave it out for the built-in scene."
        )
    return windows


def compare(bundle: Bundle, precision: str, yardstick: Halves, engine: Halves, windows: Sequence[Arrays]) -> EngineCheck:
    """Run both on the same windows, each with its own queries, and the shipped memory between the halves.

    Args:
        precision: whose tolerance holds.
    """
    bank = HostDevice().open_stream(bundle, "check", smoothing_frames=1).bank
    pairs = [(yardstick.run(window, bank), engine.run(window, bank)) for window in windows]
    differences = {name: _difference([(wanted[name], got[name]) for wanted, got in pairs]) for name in pairs[0][0]}
    wanted_errors, got_errors = (np.array([float(pair[side]["score/local_error"][0]) for pair in pairs]) for side in (0, 1))
    check = EngineCheck(
        was_run=True,
        windows=len(windows),
        differences=differences,
        psnr_change_db=differences["score/psnr_db"].largest,
        rank_correlation=rank_correlation(wanted_errors, got_errors),
    )
    return replace(check, is_within_tolerance=_is_within(check, TOLERANCES[precision]))


def describe(check: EngineCheck, precision: str) -> str:
    """What came and what is allowed, for people."""
    allowed = TOLERANCES[precision]
    rank = "none (the same score in all windows)" if check.rank_correlation is None else f"{check.rank_correlation:.4f}"
    return (
        f"prediction within {check.differences['prediction'].largest:.2g} (allowed {allowed.prediction:g}), "
        f"PSNR within {check.psnr_change_db:.2g} dB (allowed {allowed.psnr_db:g}), "
        f"rank correlation {rank} (at least {allowed.rank_correlation:g}), over {check.windows} windows"
    )


def _difference(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Difference:
    distances = [np.abs(wanted.astype(np.float64) - got.astype(np.float64)) for wanted, got in pairs]
    largest = float(np.max([distance.max() for distance in distances]))  # a NaN stays one
    return Difference(largest, float(np.mean([distance.mean() for distance in distances])))


def _is_within(check: EngineCheck, allowed: Tolerance) -> bool:
    assert check.psnr_change_db is not None
    is_ordered = check.rank_correlation is None or check.rank_correlation >= allowed.rank_correlation
    return bool(check.differences["prediction"].largest <= allowed.prediction and check.psnr_change_db <= allowed.psnr_db and is_ordered)
