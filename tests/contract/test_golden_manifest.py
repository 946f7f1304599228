"""Bundles outlive releases: what schema 1 says must not change unnoticed. A new meaning is a new schema."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.bundle.manifest import (
    SCHEMA,
    FileSpec,
    GateSpec,
    GraphSpec,
    Manifest,
    ModelSpec,
    PoolSpec,
    Precision,
    TensorSpec,
    UpdateSpec,
)
from edge_runtime.bundle.manifest_file import encode_manifest, parse_manifest
from edge_runtime.preprocess import InputSpec
from edge_runtime.score_scale import ScoreScale, Threshold

GOLDEN = Path("tests/contract/golden_manifest.json").read_bytes()

QUERY = TensorSpec("query", "float32", ("batch", 8, 2, 4))
SKIP = TensorSpec("skip_1", "float16", (1, 2, 16, 32))
IMAGE = ("batch", 1, 16, 32)

WANTED = Manifest(
    schema=1,
    name="gate",
    model=ModelSpec("mnad_prediction", {"seed": 3, "data": {"fps": None}}),
    input=InputSpec(frames=4, target=4, channels=1, height=16, width=32),
    fps=12.5,
    pools=(PoolSpec("memory", "query", "read", "softmax", "ema"), PoolSpec("anomalous", "query", None, "hard_shrink", "none")),
    memory=FileSpec("memory.safetensors", f"{1:064}"),
    gate=GateSpec(limit=0.0078125),
    update=UpdateSpec(rate=0.01, write_scale="claimed", drift_limit=0.25),
    paper_weight=0.6,
    precisions={
        "fp32": Precision(
            encoder=GraphSpec("encoder.fp32.onnx", f"{2:064}", (TensorSpec("clip", "float32", ("batch", 4, 1, 16, 32)),), (QUERY, SKIP)),
            decoder=GraphSpec(
                "graphs/decoder.fp32.onnx",
                f"{3:064}",
                (QUERY, TensorSpec("read", "float32", QUERY.shape), SKIP, TensorSpec("target", "float32", IMAGE)),
                (
                    TensorSpec("prediction", "float32", IMAGE),
                    TensorSpec("error_map", "float32", IMAGE),
                    TensorSpec("score/psnr_db", "float32", ("batch",)),
                    TensorSpec("score/regular_score", "float32", ("batch",)),
                    TensorSpec("score/local_error", "float32", ("batch",)),
                ),
            ),
            score_scale=ScoreScale("local_error", smoothing_frames=5, knots=(0.0, 0.001, 0.0025), tail=0.0005),
            threshold=Threshold(4.25, 1.0, is_extrapolated=True, hold_s=2.0),
            parity={"query": 1e-7, "prediction": 2.5e-5},
            verdict="The reference — measured on normal footage.",
        )
    },
    provenance={"held_out_clips": ["03", "Tor süd"], "epoch": 60},
)


def test_the_golden_manifest_says_what_it_always_said() -> None:
    assert SCHEMA == 1
    assert parse_manifest(GOLDEN, "golden") == WANTED


def test_it_is_written_byte_for_byte_as_it_always_was() -> None:
    assert encode_manifest(WANTED) == GOLDEN
