"""One thing that was looked at, and how it was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Status"]

Status = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """A line of the report.

    Attributes:
        topic: what was looked at, such as `OpenCV`.
        status: `ok`; `warning`: edge-run works, but slower, or not with everything; `missing`: edge-run cannot run without it.
        what: how it was found, in a few words.
        detail: more about it; empty if there is nothing more to say.
        remedy: the command that mends it, or a sentence where no command can; empty where there is nothing to mend. What is `ok`
            may still be made better by it.
    """

    topic: str
    status: Status
    what: str
    detail: str = ""
    remedy: str = ""
