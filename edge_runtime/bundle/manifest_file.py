"""`manifest.json`: read from JSON, checked, and written."""

from __future__ import annotations

import json
import math
import re
from pathlib import PurePosixPath
from typing import Any

import msgspec

from edge_runtime.bundle.manifest import (
    ADDRESSINGS,
    SCHEMA,
    UPDATE_RULES,
    WRITE_SCALES,
    FastGraphs,
    FileSpec,
    GraphPair,
    GraphSpec,
    Manifest,
    Precision,
    TensorSpec,
)
from edge_runtime.errors import ConfigError, ManifestError

__all__ = ["encode_manifest", "parse_manifest"]

SHA256 = re.compile("[0-9a-f]{64}")
SCORE_NODES = ("score/psnr_db", "score/regular_score", "score/local_error")
LARGEST_WINDOW = 2**28  # numbers, a GiB: 256 frames of 1024 x 1024 in grey
LONGEST_SMOOTHING = 10_000  # frames


def parse_manifest(content: bytes, origin: str) -> Manifest:
    """Read a manifest from JSON; `origin` names it in errors.

    Raises:
        ManifestError: malformed, of a newer schema, a key missing or of the wrong type, or contradicting itself.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{origin}: expected JSON, got: {error}. Copy the bundle again.") from error
    schema = values.get("schema") if isinstance(values, dict) else None
    if type(schema) is not int:
        raise ManifestError(f"{origin}: expected an object with a whole number 'schema', got {schema!r}. Is this a bundle?")
    if schema != SCHEMA:
        remedy = "Update edge-runtime." if schema > SCHEMA else "Make the bundle again."
        raise ManifestError(f"{origin}: expected schema {SCHEMA}, got {schema}. {remedy}")
    try:
        manifest = msgspec.convert(values, Manifest)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        raise ManifestError(f"{origin}: expected every key with its type, got: {error}. Copy or make the bundle again.") from error
    except ConfigError as error:  # a value's own check
        raise ManifestError(f"{origin}: {error} Make the bundle again.") from error
    _check_manifest(manifest, origin)
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise ManifestError(f"{origin}: expected text that can be written again, got: {error}. Make the bundle again.") from error
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`: indented, keys in the order of the dataclasses, optional ones where there is something in them."""
    values = msgspec.to_builtins(manifest)
    for precision in values["precisions"].values():
        optional = [(precision, key) for key in ("fast", "strongly_typed", "quantisation")]
        for part, key in (*optional, (precision["score_scale"], "mixture")):
            if part.get(key) is None:
                part.pop(key, None)
    return msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n"


def _check_manifest(manifest: Manifest, origin: str) -> None:
    def require(is_valid: bool, what: str) -> None:
        if not is_valid:
            raise ManifestError(f"{origin}: expected {what}. Make the bundle again.")

    spec = manifest.input
    require(min(spec.frames, spec.height, spec.width) >= 1 and spec.target >= 0, f"a positive input size, got {spec}")
    require(spec.channels in (1, 3), f"input.channels 1 or 3, got {spec.channels}")
    window = spec.span * spec.channels * spec.height * spec.width
    require(window <= LARGEST_WINDOW, f"an input window of at most {LARGEST_WINDOW} numbers, got {window}: {spec}")
    require(0 < manifest.fps < float("inf"), f"fps above 0, got {manifest.fps}")
    require(not math.isnan(manifest.gate.limit), "a number as gate.limit, got nan")
    require(0 <= manifest.paper_weight <= 1, f"paper_weight in [0, 1], got {manifest.paper_weight}")
    require(0 < manifest.update.rate <= 1, f"update.rate in (0, 1], got {manifest.update.rate}")
    require(0 < manifest.update.drift_limit <= 2, f"update.drift_limit in (0, 2], got {manifest.update.drift_limit}")
    require(manifest.update.write_scale in WRITE_SCALES, f"update.write_scale of {WRITE_SCALES}, got {manifest.update.write_scale!r}")
    require(bool(manifest.precisions), "at least one precision")
    names = [pool.name for pool in manifest.pools]
    require(len(set(names)) == len(names), f"pools with different names, got {names}")
    read_names = [pool.read for pool in manifest.pools if pool.read is not None]
    require(len(set(read_names)) == len(read_names), f"pools with different reads, got {read_names}")
    for pool in manifest.pools:
        require(pool.addressing in ADDRESSINGS, f"pool '{pool.name}' with addressing of {ADDRESSINGS}, got {pool.addressing!r}")
        require(pool.update in UPDATE_RULES, f"pool '{pool.name}' with update of {UPDATE_RULES}, got {pool.update!r}")
    _check_file(manifest.memory, "memory", require)
    for name, precision in manifest.precisions.items():
        threshold = precision.threshold
        require(math.isfinite(threshold.score), f"a finite precisions.{name}.threshold.score, got {threshold.score}")
        require(0 <= threshold.hold_s < math.inf, f"precisions.{name}.threshold.hold_s of 0 or more, got {threshold.hold_s}")
        scale = precision.score_scale
        quantities = scale.mixture or (scale.quantity,)
        require(bool(manifest.pools) or "query_distance" not in quantities, f"a pool for precisions.{name}.score_scale of query_distance")
        frames = scale.smoothing_frames
        require(frames <= LONGEST_SMOOTHING, f"precisions.{name}.score_scale.smoothing_frames of at most {LONGEST_SMOOTHING}, got {frames}")
        _check_graphs(manifest, precision, f"precisions.{name}", require)
        if precision.fast is not None:
            _check_fast_graphs(precision, precision.fast, f"precisions.{name}.fast", require)
        if precision.strongly_typed is not None:
            _check_typed_graphs(precision, precision.strongly_typed, f"precisions.{name}.strongly_typed", require)
    _check_query_sizes(manifest, require)


def _check_file(file: FileSpec | GraphSpec, where: str, require: Any) -> None:
    require(_stays_inside(file.file), f"{where}.file inside the bundle, got {file.file!r}")
    require(bool(SHA256.fullmatch(file.sha256)), f"64 lower-case hex digits as {where}.sha256, got {file.sha256!r}")


def _check_graphs(manifest: Manifest, precision: Precision, where: str, require: Any) -> None:
    spec = manifest.input
    for part, graph in (("encoder", precision.encoder), ("decoder", precision.decoder)):
        _check_file(graph, f"{where}.{part}", require)
        for tensor in (*graph.inputs, *graph.outputs):
            require(_is_shape(tensor.shape), f"{where}.{part} '{tensor.name}' with lengths of 1 or more as shape, got {tensor.shape}")
    inputs = {tensor.name: tensor.shape[1:] for tensor in precision.encoder.inputs}
    window = (spec.frames, spec.channels, spec.height, spec.width)
    require(inputs == {"clip": window}, f"{where}.encoder to take 'clip' {window}, got {inputs}")
    encoded = {tensor.name: tensor for tensor in precision.encoder.outputs}
    reads = {pool.read: pool.query for pool in manifest.pools if pool.read is not None}
    for pool in manifest.pools:
        is_query = pool.query in encoded and len(encoded[pool.query].shape) >= 3
        require(is_query, f"{where}.encoder to give pool '{pool.name}' its query '{pool.query}' (B, D, *grid)")
    decoded = {tensor.name for tensor in precision.decoder.inputs}
    missing = decoded - set(encoded) - set(reads) - {"target"}
    require(not missing, f"{where}.decoder inputs that the encoder, a pool or the window gives, got {sorted(missing)} besides")
    require(set(reads) <= decoded, f"{where}.decoder to take the reads {sorted(reads)}, it takes {sorted(decoded)}")
    outputs = {tensor.name: tensor.shape[1:] for tensor in precision.decoder.outputs}
    picture = (spec.height, spec.width)
    needed = {"prediction": (spec.channels, *picture), "error_map": (1, *picture), **dict.fromkeys(SCORE_NODES, ())}
    require(needed.keys() <= outputs.keys(), f"{where}.decoder to give {sorted(needed)}, it gives {sorted(outputs)}")
    for name, shape in needed.items():
        require(outputs[name] == shape, f"{where}.decoder to give '{name}' (B, {', '.join(map(str, shape))}), got (B, *{outputs[name]})")


def _check_fast_graphs(precision: Precision, fast: FastGraphs, where: str, require: Any) -> None:
    for part, graph, plain in (("encoder", fast.encoder, precision.encoder), ("decoder", fast.decoder, precision.decoder)):
        _check_file(graph, f"{where}.{part}", require)
        for side, got, expected in (("take", graph.inputs, plain.inputs), ("give", graph.outputs, plain.outputs)):
            require(got == expected, f"{where}.{part} to {side} {_described(expected)}, as without fast, got {_described(got)}")


def _check_typed_graphs(precision: Precision, typed: GraphPair, where: str, require: Any) -> None:
    """The same tensors; those between the graphs may have other types."""
    for part, graph, plain in (("encoder", typed.encoder, precision.encoder), ("decoder", typed.decoder, precision.decoder)):
        _check_file(graph, f"{where}.{part}", require)
        for side, got, expected in (("take", graph.inputs, plain.inputs), ("give", graph.outputs, plain.outputs)):
            shapes = [[(tensor.name, tensor.shape) for tensor in tensors] for tensors in (got, expected)]
            require(shapes[0] == shapes[1], f"{where}.{part} to {side} {_described(expected)}, but for types, got {_described(got)}")


def _described(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors) or "nothing"


def _check_query_sizes(manifest: Manifest, require: Any) -> None:
    """One memory serves every precision."""
    queries = {pool.query for pool in manifest.pools}
    shapes = {
        name: {tensor.name: tensor.shape[1:] for tensor in precision.encoder.outputs if tensor.name in queries}
        for name, precision in manifest.precisions.items()
    }
    first = next(iter(shapes.values()))
    require(all(sizes == first for sizes in shapes.values()), f"queries of the same shape in every precision, got {shapes}")


def _is_shape(shape: tuple[int | str, ...]) -> bool:
    """At least a batch axis, which alone may be open."""
    lengths = shape[1:] if shape[:1] == ("batch",) else shape
    return bool(shape) and all(isinstance(length, int) and length >= 1 for length in lengths)


def _stays_inside(file: str) -> bool:
    path = PurePosixPath(file)
    return bool(file) and not path.is_absolute() and ".." not in path.parts and "\\" not in file and file.isprintable()
