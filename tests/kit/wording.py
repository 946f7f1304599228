"""What a message must name, whatever its words: a test that quotes the prose breaks when only the English gets better."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["is_prose", "missing", "raises"]

LEFT_OUT = " … "
_PROSE = re.compile(r"(?<![\w./'=-])(?:[a-z']{2,}|a)(?: (?:[a-z']{2,}|a)(?![\w/=-]|\.\w)){2,}")
_COMMAND = re.compile(r"\b(pip|apt|apt-get) install\b[\w .,'<>=\[\]-]*")
_OF_THE_SYSTEM = sorted({os.strerror(number) for number in errno.errorcode}, key=len, reverse=True)


@contextmanager
def raises(error: type[BaseException] | tuple[type[BaseException], ...], *names: str) -> Iterator[pytest.ExceptionInfo[BaseException]]:
    """Expect an error of a class whose message names all of this; see `missing`."""
    __tracebackhide__ = True
    with pytest.raises(error) as caught:
        yield caught
    left_out = missing(str(caught.value), *names)
    assert not left_out, f"expected the message to name {left_out}, got: {caught.value}"


def missing(text: str, *names: str) -> list[str]:
    """Which names, numbers, paths, commands and flags a text lacks, in whatever order.

    Args:
        text: a message, a log or what a command printed.
        names: each one or several with " … " between them, as in `"input.width … 8"`. A name counts as a whole: `8` is neither in
            `128` nor in `8.5`. Not for prose, which is free to change.
    """
    parts = [part for name in names for part in name.split(LEFT_OUT)]
    if prose := [part for part in parts if is_prose(part)]:
        raise ValueError(f"expected what a message must name, got prose: {prose}. Put '…' for the words.")
    return [part for part in parts if not _whole(part).search(text)]


def is_prose(text: str) -> bool:
    """Whether three or more lower-case words stand in a row; a command's and those of the system's own errors do not count."""
    text = _COMMAND.sub("", text)
    for words in _OF_THE_SYSTEM:
        text = text.replace(words, "")
    return _PROSE.search(text) is not None


def _whole(name: str) -> re.Pattern[str]:
    begin = r"(?<!\w)" if re.match(r"\w", name) else ""
    begin += r"(?<!\d\.)" if re.match(r"\d", name) else ""
    end = r"(?!\w)" if re.search(r"\w$", name) else ""
    end += r"(?!\.\d)" if re.search(r"\d$", name) else ""
    return re.compile(begin + re.escape(name) + end)
