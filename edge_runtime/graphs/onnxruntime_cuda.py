"""Graphs in ONNX Runtime on an NVIDIA GPU, bound to the device's own buffers and in its stream of work.

Written against ONNX Runtime's interface and tested with its CPU provider in the place of CUDA's; it has not run on a GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import finalize

from edge_runtime.bundle import Bundle
from edge_runtime.bundle.manifest import GraphSpec
from edge_runtime.devices.cuda.array import DeviceArray
from edge_runtime.errors import BackendError, BackendUnavailable
from edge_runtime.graphs.onnxruntime_session import first_line, load_onnxruntime, open_session
from edge_runtime.graphs.tensors import BatchBuffers, Place, check_inputs
from edge_runtime.stream import Arrays

__all__ = ["OnnxRuntimeCudaGraph", "load_cuda_provider"]

SILENT = 4  # ONNX Runtime's severity above which it logs; what goes wrong is in our error
OTHER_BUILD = "Install the other: pip uninstall -y onnxruntime && pip install 'edge-runtime[gpu]'; on a Jetson use --backend tensorrt"
LIBRARIES = "Install what it needs: pip install 'onnxruntime-gpu[cuda,cudnn]'; on a Jetson use --backend tensorrt"


@dataclass(frozen=True)
class _Target:
    """Which provider runs the graphs, on whose memory."""

    provider: str
    memory: str
    options: dict[str, str] = field(default_factory=dict)
    takes_stream: bool = True


# fp32 keeps all its digits; memory grows by what is needed and not by powers of two; algorithms are chosen by rules, and not by a race
# that another one may win the next time.
TARGET = _Target(
    "CUDAExecutionProvider",
    "cuda",
    {"device_id": "0", "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"},
)
# As pip's packages name them; each after those it needs.
CUDA_LIBRARIES = ("libcudart", "libcublasLt", "libcublas", "libnvrtc", "libcurand", "libcufft", "libcudnn")
CUDNN = "libcudnn.so.9"


def load_cuda_provider() -> ModuleType:
    """ONNX Runtime, where its CUDA provider loads.

    Raises:
        BackendUnavailable: it is not installed, has no such provider, or a library of CUDA is missing; the message says which.
    """
    library = load_onnxruntime("gpu")
    if TARGET.provider not in library.get_available_providers():
        raise BackendUnavailable(f"ONNX Runtime {library.__version__}: expected {TARGET.provider}, this build has none. {OTHER_BUILD}")
    library.set_default_logger_severity(SILENT)
    _load_cuda_libraries()
    if hasattr(library, "preload_dlls"):  # from 1.21
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            library.preload_dlls()
    missing = _missing_library(library)
    if missing is not None:
        raise BackendUnavailable(f"ONNX Runtime {library.__version__}: {TARGET.provider} does not load: {missing}. {LIBRARIES}")
    return library


class OnnxRuntimeCudaGraph:
    """One graph of a bundle, loaded and verified, on a GPU.

    Inputs and outputs are the device's arrays; outputs are written anew by the next run with as large a batch. ONNX Runtime keeps what
    layers need between them in memory of its own.

    Args:
        library: from `load_cuda_provider`.
        bundle, spec: where it lies and what it must take and give.
        place: the device whose memory and stream it uses.

    Raises:
        BackendUnavailable: ONNX Runtime would run it on the CPU instead.
        IntegrityError: the file is not the one the manifest describes.
        BundleError: it is not a graph ONNX Runtime can load, or its tensors are not those of the manifest.
    """

    def __init__(self, library: ModuleType, bundle: Bundle, spec: GraphSpec, place: Place) -> None:
        stream = {"user_compute_stream": str(place.cuda_stream)} if TARGET.takes_stream else {}
        options = library.SessionOptions()
        options.use_deterministic_compute = True
        session = open_session(library, bundle, spec, options, (TARGET.provider, TARGET.options | stream))
        if TARGET.provider not in session.get_providers():  # it does not say so by itself
            raise BackendUnavailable(
                f"{bundle.path / spec.file}: expected ONNX Runtime {library.__version__} to run it by {TARGET.provider}, it took "
                f"{', '.join(session.get_providers())}: a library of CUDA or cuDNN 9 is missing, or does not know this GPU. {LIBRARIES}"
            )
        self._held = _Held(session)
        finalize(self, self._held.release)  # at the end of the process, too: before the device, which was made earlier
        self._origin = str(bundle.path / spec.file)
        self._inputs = spec.inputs
        self._buffers = BatchBuffers(spec, place)
        self._run_options = library.RunOptions()
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def run(self, inputs: Arrays) -> Arrays:
        """Enqueue the graph once; returns before it is done.

        Args:
            inputs: at least the graph's own, by name, with their batch in front, on the device; others are passed over.

        Returns:
            The graph's outputs by name, valid until the next run with as large a batch.

        Raises:
            ShapeError: an input is missing or has another shape or type than the manifest says.
            BackendError: ONNX Runtime failed.
        """
        batch = check_inputs(inputs, self._inputs, self._origin)
        try:
            binding = self._held.bindings.get(batch) or self._bind(batch)
            for tensor in self._inputs:
                binding.give(tensor.name, inputs[tensor.name])
            self._held.session.run_with_iobinding(binding.binding, self._run_options)
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"{self._origin}: ONNX Runtime failed: {first_line(error)}. Try --device cpu") from error
        return binding.outputs

    def _bind(self, batch: int) -> _Binding:
        binding = self._held.bindings[batch] = _Binding(self._held.session.io_binding(), self._buffers.outputs(batch))
        return binding


@dataclass
class _Held:
    """What ONNX Runtime made: the session, and what each batch size is bound to."""

    session: Any
    bindings: dict[int, _Binding] = field(default_factory=dict)

    def release(self) -> None:
        self.bindings.clear()
        self.session = None


class _Binding:
    """What one batch size is bound to. Outputs stay; an input is bound again when it lies elsewhere."""

    def __init__(self, binding: Any, outputs: dict[str, DeviceArray]) -> None:
        for name, array in outputs.items():
            binding.bind_output(name, TARGET.memory, 0, array.dtype.type, array.shape, array.address)
        self.binding = binding
        self.outputs = outputs
        self._addresses: dict[str, int] = {}

    def give(self, name: str, array: DeviceArray) -> None:
        if self._addresses.get(name) != array.address:
            self.binding.bind_input(name, TARGET.memory, 0, array.dtype.type, array.shape, array.address)
            self._addresses[name] = array.address


def _load_cuda_libraries() -> None:
    """CUDA and cuDNN from wherever on Python's path pip put them: ONNX Runtime looks for them beside itself alone."""
    for name in CUDA_LIBRARIES:
        found: dict[str, Path] = {}
        for file in (file for entry in sys.path for file in Path(entry).resolve().glob(f"nvidia/*/lib/{name}.so.*")):
            found.setdefault(file.name, file)  # the first on the path, as with modules
        for file in found.values():
            with contextlib.suppress(OSError):  # what is missing in the end, `_missing_library` names
                ctypes.CDLL(str(file))


def _missing_library(library: ModuleType) -> str | None:
    """What the CUDA provider cannot be loaded for, or run without; ONNX Runtime itself tells only its log."""
    folder = Path(library.__file__ or "").parent / "capi"
    providers = [folder / f"libonnxruntime_providers_{name}.so" for name in ("shared", "cuda")]
    try:
        for file in (file for file in providers if file.exists()):
            ctypes.CDLL(str(file))
        if providers[-1].exists():
            ctypes.CDLL(CUDNN)  # from 1.31 it loads this one by itself, at the first convolution
    except OSError as error:
        return str(error)
    return None
