"""The systemd unit and an example of its configuration, for whoever has only the wheel."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from sysconfig import get_path

__all__ = ["example_configuration", "systemd_unit"]


def systemd_unit(edge_run: Path | None = None) -> str:
    """`edge-run@.service`; it starts `edge_run`, or the command of this installation where None."""
    return _text("edge-run@.service").replace("@EDGE_RUN@", str(edge_run or _installed()))


def example_configuration() -> str:
    """A camera's `/etc/edge-runtime/<camera>.conf`."""
    return _text("camera.conf")


def _installed() -> Path:
    """Beside the command that runs now, else where pip puts commands."""
    beside = Path(sys.argv[0]).absolute().with_name("edge-run")
    return beside if beside.exists() else Path(get_path("scripts")) / "edge-run"


def _text(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
