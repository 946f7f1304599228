"""Bundles with something in them changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import GateSpec, Manifest
from edge_runtime.bundle.manifest_file import encode_manifest
from edge_runtime.preprocess import InputSpec

__all__ = ["rewrite_manifest", "with_gate", "with_input"]


def rewrite_manifest(folder: Path, manifest: Manifest) -> Bundle:
    """Put a manifest in place and load the bundle with it."""
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return Bundle.load(folder)


def with_gate(bundle: Bundle, limit: float) -> Bundle:
    """The same bundle in memory with another gate."""
    return replace(bundle, manifest=replace(bundle.manifest, gate=GateSpec(limit)))


def with_input(bundle: Bundle, spec: InputSpec) -> Bundle:
    """The same bundle in memory with another window; its graphs do not take it."""
    return replace(bundle, manifest=replace(bundle.manifest, input=spec))
