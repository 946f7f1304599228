"""Clips that a bundle knows from its training, by the names in its provenance: a manifest has no paths, so names are all there is."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from calibration.clips import NormalClip
from edge_runtime.bundle.manifest import Manifest

__all__ = ["seen_in_training", "warn_before_calibration", "warn_before_comparison"]

log = logging.getLogger(__name__)

PART = re.compile(r"(\[\d+:\d+\])+$")  # training calls a part of a clip `gate[0:800]`
NAMED = 8  # the others are counted
ONLY_NAMES = "Names are all that was compared: other clips of the same names are fine."


def seen_in_training(manifest: Manifest, clips: Iterable[NormalClip], *, held_out: bool = False) -> list[str]:
    """The names of those clips that the model was trained on, or that a part of it was; also by the runs that it started from.

    Args:
        held_out: also those that the training held out, which chose its best epoch and were calibrated on.
    """
    known = {PART.sub("", name) for name in _names(manifest.provenance, held_out)}
    return [clip.name for clip in clips if PART.sub("", clip.name) in known]


def warn_before_calibration(manifest: Manifest, clips: Sequence[NormalClip]) -> None:
    """Say in the log which clips the model was trained on."""
    seen = seen_in_training(manifest, clips)
    if seen:
        log.warning(
            "warning: the model was trained on clips named like %s. What it has learned it scores low, so the threshold comes out too low: "
            "false alarms. Calibrate on footage that training has not seen. %s",
            _listed(seen),
            ONLY_NAMES,
        )


def warn_before_comparison(manifests: Mapping[str, Manifest], clips: Sequence[NormalClip]) -> None:
    """Say in the log which clips any of the bundles, by name, was trained on or held out for its calibration."""
    seen = {name: seen_in_training(manifest, clips, held_out=True) for name, manifest in manifests.items()}
    known = "; ".join(f"{name} with {_listed(names)}" for name, names in seen.items() if names)
    if known:
        log.warning(
            "warning: trained or calibrated with clips named like these: %s. The comparison favours a bundle that knows the footage. "
            "Take footage that is new to all. %s",
            known,
            ONLY_NAMES,
        )


def _names(provenance: Mapping[str, Any], held_out: bool) -> Iterator[str]:
    """A bundle's provenance is for people and may say anything: what is no list of names is none."""
    keys = ("training_clips", "held_out_clips") if held_out else ("training_clips",)
    for key in keys:
        names = provenance.get(key)
        yield from (name for name in names if isinstance(name, str)) if isinstance(names, list | tuple) else ()
    before = provenance.get("started_from")
    if isinstance(before, Mapping):
        yield from _names(before, held_out)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
