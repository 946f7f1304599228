"""Memory-guided video anomaly detection on edge devices.

from edge_runtime import Bundle, Detector, open_source

detector = Detector.open(Bundle.load("bundles/ped2-lite"))
stream = detector.open_stream()
for frame in open_source("gate.mp4"):
    [step] = detector.step([(stream, frame)])
    if step.score and step.score.is_anomalous:
        print(f"{step.score.time_s:.1f} s: {step.score.score:.1f}")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_runtime.bundle import Bundle
    from edge_runtime.detector import Detector
    from edge_runtime.sources import open_source

__all__ = ["Bundle", "Detector", "open_source"]

_HOMES = {"Bundle": "edge_runtime.bundle", "Detector": "edge_runtime.detector", "open_source": "edge_runtime.sources"}


def __getattr__(name: str) -> object:
    """The public names, imported when they are first used: `edge-run --help` must not wait for NumPy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_runtime' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
