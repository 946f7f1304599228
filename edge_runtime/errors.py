"""Every error the package raises on purpose.

    EdgeError
    ├── BundleError
    │   ├── ManifestError
    │   ├── IntegrityError
    │   └── EngineMismatch
    ├── ShapeError
    ├── BackendError
    │   └── BackendUnavailable
    ├── SourceError
    │   ├── SourceOpenError
    │   └── SourceStalled
    ├── SinkError
    └── ConfigError

A message says what is wrong, what was expected, what came, and what to do next. The commands print it as one line.
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "BackendUnavailable",
    "BundleError",
    "ConfigError",
    "EdgeError",
    "EngineMismatch",
    "IntegrityError",
    "ManifestError",
    "ShapeError",
    "SinkError",
    "SourceError",
    "SourceOpenError",
    "SourceStalled",
]


LONGEST = 2000  # characters


class EdgeError(Exception):
    """Something the user can mend; the message says how.

    It is one line that can be printed and logged, whatever names from a file or a network it quotes: characters that have no
    picture are escaped, and of a very long message beginning and end are kept.
    """

    def __str__(self) -> str:
        words = "".join(letter if letter.isprintable() else _escaped(letter) for letter in super().__str__())
        return words if len(words) <= LONGEST else f"{words[: LONGEST // 2]} … {words[-LONGEST // 2 :]}"


class BundleError(EdgeError):
    """A bundle, or a saved memory that belongs to one, cannot be used."""


class ManifestError(BundleError):
    """The manifest is missing, malformed, of a newer schema, or contradicts itself."""


class IntegrityError(BundleError):
    """A file of the bundle is not the one the manifest describes."""


class EngineMismatch(BundleError):
    """An engine was built for another machine, library version or graph."""


class ShapeError(EdgeError):
    """An array does not have the shape its contract names."""


class BackendError(EdgeError):
    """An inference engine failed."""


class BackendUnavailable(BackendError):
    """A library, provider or device that was asked for is not there."""


class SourceError(EdgeError):
    """Frames cannot be read any further."""


class SourceOpenError(SourceError):
    """A source is missing, empty, or cannot be opened."""


class SourceStalled(SourceError):
    """A live source stopped delivering."""


class SinkError(EdgeError):
    """A result cannot be written."""


class ConfigError(EdgeError):
    """A setting, flag or configuration file is wrong."""


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
