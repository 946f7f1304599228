"""Both float32 graphs on windows of footage, with the memory step between them: what every convolution is given, and the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from calibration.int8.ranges import Magnitudes
from calibration.int8.windows import ChosenWindows, read_windows
from edge_runtime.bundle import Bundle
from edge_runtime.devices.host_memory import HostBank
from edge_runtime.graphs.onnxruntime_session import load_onnxruntime
from edge_runtime.stream import Arrays, Graph

__all__ = ["Measured", "Session", "WindowRun", "measure_ranges", "outliers", "run_windows"]

FENCE = 3.0  # interquartile ranges above the upper quartile: further out than normal footage goes


@dataclass(frozen=True)
class Measured:
    """What the windows showed.

    Attributes:
        tensors: by graph, `encoder` and `decoder`, what each convolution is given.
        outliers: by clip, windows whose regular score is far from that of the others.
        updates: windows that the memory learned.
    """

    tensors: dict[str, dict[str, Magnitudes]]
    outliers: dict[str, int]
    updates: int


class Session:
    """A graph in ONNX Runtime on the CPU, from its bytes; names are all it needs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        library = load_onnxruntime("cpu")
        options = library.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = library.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._inputs = [tensor.name for tensor in self._session.get_inputs()]
        self._outputs = [tensor.name for tensor in model.graph.output]

    def run(self, inputs: Arrays) -> Arrays:
        """Outputs by name; inputs that are not the graph's are passed over."""
        return dict(zip(self._outputs, self._session.run(self._outputs, {name: inputs[name] for name in self._inputs}), strict=True))


@dataclass(frozen=True, eq=False)
class WindowRun:
    """One window's way through both graphs.

    Attributes:
        inputs: all that the graphs were given.
        bank: as it is after the update.
    """

    clip: str
    inputs: Arrays
    encoded: Arrays
    read: Arrays
    decoded: Arrays
    is_updated: bool
    bank: HostBank


def run_windows(bundle: Bundle, windows: ChosenWindows, encoder: Graph, decoder: Graph) -> Iterator[WindowRun]:
    """Every window in the footage's order, through the encoder, the memory, the decoder, the gate and the update.

    The memory begins anew with each clip, as it does in every evaluation.
    """
    for clip in windows.clips:
        bank = HostBank(bundle.manifest, bundle.read_items())
        for _, window in read_windows(bundle, clip, windows.frames[clip.name]):
            encoded = encoder.run(window)
            read = bank.read(encoded)
            inputs = {**window, **encoded, **read}
            decoded = decoder.run(inputs)
            updated = bank.update(encoded, decoded)
            yield WindowRun(clip.name, inputs, encoded, read, decoded, bool(updated["is_updated"][0]), bank)


def measure_ranges(
    bundle: Bundle, windows: ChosenWindows, models: Mapping[str, onnx.ModelProto], tensors: Mapping[str, Sequence[str]]
) -> Iterator[Measured | None]:
    """Run the windows and count what some tensors of each graph are. Gives None after each window, and the result at the end."""
    counted = {part: {name: Magnitudes(name) for name in names} for part, names in tensors.items()}
    encoder, decoder = (Session(_showing(models[part], tensors[part])) for part in ("encoder", "decoder"))
    scores: list[tuple[str, float]] = []
    updates = 0
    for run in run_windows(bundle, windows, encoder, decoder):
        for part, outputs in (("encoder", run.encoded), ("decoder", run.decoded)):
            for name, magnitudes in counted[part].items():
                magnitudes.add(outputs[name] if name in outputs else run.inputs[name])
        scores.append((run.clip, float(run.decoded["score/regular_score"][0])))
        updates += run.is_updated
        yield None
    yield Measured(counted, outliers(scores), updates)


def _showing(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """The graph with some of its tensors as outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    there = {value.name for value in (*model.graph.input, *model.graph.output)}
    for name in tensors:
        if name not in there:
            shown.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return shown


def outliers(scores: Sequence[tuple[str, float]]) -> dict[str, int]:
    """By clip, how many of its windows have a score far above the others'."""
    values = np.array([score for _, score in scores])
    low, high = np.quantile(values, [0.25, 0.75])
    far = [clip for clip, score in scores if score > high + FENCE * (high - low)]
    return {clip: far.count(clip) for clip in dict.fromkeys(far)}
