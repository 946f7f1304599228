"""What a bundle says about itself, key by key. The format is specified in docs/bundle-format.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_runtime.preprocess import InputSpec
from edge_runtime.score_scale import ScoreScale, Threshold

__all__ = [
    "ADDRESSINGS",
    "SCHEMA",
    "UPDATE_RULES",
    "WRITE_SCALES",
    "FastGraphs",
    "FileSpec",
    "GateSpec",
    "GraphPair",
    "GraphSpec",
    "Manifest",
    "ModelSpec",
    "PoolSpec",
    "Precision",
    "Quantisation",
    "TensorSpec",
    "UpdateSpec",
    "Verdict",
]

SCHEMA = 1
ADDRESSINGS = ("softmax", "hard_shrink")
UPDATE_RULES = ("mnad", "ema", "none")
WRITE_SCALES = ("claimed", "all")


@dataclass(frozen=True)
class FileSpec:
    """A file of the bundle: its path below the bundle's folder, with forward slashes, and the SHA-256 of its bytes."""

    file: str
    sha256: str


@dataclass(frozen=True)
class TensorSpec:
    """A graph's input or output. `shape` names its axes' lengths; the string `batch` is the one axis that may be open."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphSpec:
    """An ONNX file with what goes in and comes out."""

    file: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class PoolSpec:
    """A pool of memory items, (M, D), and what it has to do with the graphs.

    Attributes:
        name: also the name of its items in the memory file.
        query: the encoder's output that addresses it. Two pools may share a query.
        read: the decoder's input that takes its read; None for a pool that is only scored.
        addressing: `softmax` over the items (MNAD), or `hard_shrink`: softmax, shrunk at 1/M, rescaled to sum to one.
        update: `mnad`, `ema` or `none`.
    """

    name: str
    query: str
    read: str | None
    addressing: str
    update: str


@dataclass(frozen=True)
class GateSpec:
    """A frame is learned if its regular score is below `limit`."""

    limit: float


@dataclass(frozen=True)
class UpdateSpec:
    """How pools learn at test time.

    Attributes:
        rate: length of an `ema` step relative to the item, in (0, 1].
        write_scale: over which queries the largest weight is taken, `claimed` (paper) or `all` (release).
        drift_limit: 1 − smallest cosine of an item to its shipped self, past which the bank freezes, in (0, 2].
    """

    rate: float
    write_scale: str
    drift_limit: float


@dataclass(frozen=True)
class ModelSpec:
    """Name of the network and the configuration it was trained with."""

    name: str
    configuration: dict[str, Any]


@dataclass(frozen=True)
class FastGraphs:
    """The graphs of a precision once more, the same to rounding and with fewer multiplications, for ONNX Runtime on an x86-64 CPU.

    Attributes:
        parity: as that of `Precision`.
    """

    encoder: GraphSpec
    decoder: GraphSpec
    parity: dict[str, float]


@dataclass(frozen=True)
class GraphPair:
    """The two graphs of a model."""

    encoder: GraphSpec
    decoder: GraphSpec


@dataclass(frozen=True)
class Quantisation:
    """Where int8 graphs come from.

    Attributes:
        method: by which ranges were found: `entropy`, `percentile` or `minmax`.
        seed: that windows were chosen with.
        windows: by clip, the last frame of each window that ranges were measured on.
        data_hash: SHA-256 of these windows' pixels.
        float_nodes: by graph, convolutions that the search, or a range of zero, left in float; other operators with weights, too.
        share: of all multiply-adds of convolutions, in nodes whose data comes from Q/DQ.
    """

    method: str
    seed: int
    windows: dict[str, tuple[int, ...]]
    data_hash: str
    float_nodes: dict[str, tuple[str, ...]]
    share: float


@dataclass(frozen=True)
class Verdict:
    """Whether a precision may be used instead of the first one, measured on clips by `edge-report precision`.

    Attributes:
        budget: what it may differ by, by name.
        measured: by how much it does, by the same names and others.
        data_hash: SHA-256 of the clips' names and pixels, and of the labels where there were any.
    """

    passed: bool
    budget: dict[str, float]
    measured: dict[str, float]
    data_hash: str


@dataclass(frozen=True)
class Precision:
    """The graphs of one precision with the scale and threshold that were calibrated with them.

    Attributes:
        parity: largest absolute difference from the PyTorch model, by tensor, on held-out clips; of int8, from the fp32 graphs.
        verdict: measured; or one sentence, of a precision that nobody has judged.
        fast: None where the network has no such form, or it was left out.
        strongly_typed: of int8, the graphs once more, float16 where these are float32: TensorRT's strongly typed engines are built from
            them. None where the bundle has no fp16 graphs.
        quantisation: of int8.
    """

    encoder: GraphSpec
    decoder: GraphSpec
    score_scale: ScoreScale
    threshold: Threshold
    parity: dict[str, float]
    verdict: Verdict | str
    fast: FastGraphs | None = None
    strongly_typed: GraphPair | None = None
    quantisation: Quantisation | None = None


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`, key by key.

    Attributes:
        fps: frame rate of the footage it was calibrated on; thresholds and smoothing hold at about this rate.
        paper_weight: λ of the protocol `paper`, in [0, 1], chosen without test labels.
        provenance: data, clips held out, seeds, versions: for people.
    """

    schema: int
    name: str
    model: ModelSpec
    input: InputSpec
    fps: float
    pools: tuple[PoolSpec, ...]
    memory: FileSpec
    gate: GateSpec
    update: UpdateSpec
    paper_weight: float
    precisions: dict[str, Precision]
    provenance: dict[str, Any]
