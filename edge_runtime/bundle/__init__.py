"""A trained model as it travels: a folder with a manifest, two graphs per precision, and the memory.

The format is specified in docs/bundle-format.md. The manifest's hashes give integrity, not authenticity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from edge_runtime.bundle.manifest import FileSpec, GraphSpec, Manifest, Precision
from edge_runtime.bundle.manifest_file import parse_manifest
from edge_runtime.errors import BundleError, IntegrityError, ManifestError

__all__ = ["UNREADABLE_TENSORS", "Bundle", "check_items"]

# The library has an error of its own, but lets others slip for number types that NumPy lacks (BF16, F8_E4M3 …).
UNREADABLE_TENSORS = (SafetensorError, KeyError, TypeError, AttributeError, ValueError)


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk, its manifest read and checked. Other files are verified when they are read.

    Attributes:
        path: its folder.
        identity: SHA-256 of the manifest, and so of everything it names.
    """

    path: Path
    manifest: Manifest
    identity: str

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read and check the manifest of the bundle in a folder.

        Raises:
            ManifestError: missing, malformed, of a newer schema, or contradicting itself.
        """
        path = Path(path)
        try:
            content = (path / "manifest.json").read_bytes()
        except OSError as error:
            raise ManifestError(
                f"{path}: expected a bundle (a folder with manifest.json), got '{error.strerror}'. "
                "Name one with --bundle, or make one: make bundle RUN=…"
            ) from error
        return cls(path, parse_manifest(content, str(path / "manifest.json")), hashlib.sha256(content).hexdigest())

    def precision(self, name: str) -> Precision:
        """The graphs and calibration of a precision.

        Raises:
            ManifestError: the bundle does not have it.
        """
        if name not in self.manifest.precisions:
            raise ManifestError(
                f"{self.path}: expected precision '{name}', the bundle has {', '.join(self.manifest.precisions)}. Choose one of these."
            )
        return self.manifest.precisions[name]

    def read(self, file: FileSpec | GraphSpec) -> bytes:
        """The bytes of a file, verified.

        Raises:
            IntegrityError: the file is missing, leaves the bundle, or is not the one the manifest describes.
        """
        path = self.path / file.file
        try:
            is_inside = self.path.resolve() in path.resolve().parents
        except (OSError, RuntimeError):  # a link that leads to itself
            is_inside = False
        if not is_inside:
            raise IntegrityError(f"{path}: expected a file inside the bundle, it leads outside. Replace the link by the file.")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise IntegrityError(f"{path}: expected a file of the bundle, got '{error.strerror}'. Copy the bundle again.") from error
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            raise IntegrityError(
                f"{path}: expected SHA-256 {file.sha256[:12]}…, got {found[:12]}… ({len(content)} bytes). "
                "The file is damaged or was changed: copy the bundle again, or make it again."
            )
        return content

    def read_items(self) -> dict[str, np.ndarray]:
        """The shipped items of every pool, (M, D) float32.

        Raises:
            IntegrityError: the memory file is not the one the manifest describes.
            BundleError: it does not hold what the pools need.
        """
        origin = str(self.path / self.manifest.memory.file)
        try:
            items = safetensors.numpy.load(self.read(self.manifest.memory))
        except UNREADABLE_TENSORS as error:
            raise BundleError(f"{origin}: expected safetensors of float32, got: {error}. Make the bundle again.") from error
        check_items(items, self.manifest, origin)
        return items


def check_items(items: Mapping[str, np.ndarray], manifest: Manifest, origin: str) -> None:
    """Hold memory items against the pools they are for; `origin` names them in errors.

    Raises:
        BundleError: a pool is missing or unknown, its shape is wrong, a value is not finite, a row has no length.
    """
    names = {pool.name for pool in manifest.pools}
    if set(items) != names:
        raise BundleError(f"{origin}: expected items of the pools {sorted(names)}, got {sorted(items)}. Use the file of this bundle.")
    encoder = next(iter(manifest.precisions.values())).encoder
    queries = {pool.query for pool in manifest.pools}
    sizes = {tensor.name: tensor.shape[1] for tensor in encoder.outputs if tensor.name in queries}
    for pool in manifest.pools:
        array, size = items[pool.name], sizes[pool.query]
        if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] != size or array.dtype != np.float32:
            raise BundleError(
                f"{origin}, pool '{pool.name}': expected (M, {size}) float32, got {array.shape} {array.dtype}. Make the bundle again."
            )
        if not np.isfinite(array).all():
            raise BundleError(f"{origin}, pool '{pool.name}': expected finite numbers, got NaN or infinity. Copy or make it again.")
        lengths = np.sqrt(np.einsum("md,md->m", array, array, dtype=np.float64))
        if pool.update != "none" and not np.allclose(lengths, 1, atol=1e-3):
            raise BundleError(
                f"{origin}, pool '{pool.name}': expected rows of length 1 for update '{pool.update}', "
                f"got lengths from {lengths.min():.3f} to {lengths.max():.3f}. Make the bundle again."
            )
