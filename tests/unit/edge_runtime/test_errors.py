from __future__ import annotations

import pytest

from edge_runtime.errors import EdgeError, ManifestError


def test_a_message_is_what_was_written() -> None:
    assert str(ManifestError("gate ü: expected σ ≤ 1…, got '2'. Make it again.")) == "gate ü: expected σ ≤ 1…, got '2'. Make it again."


@pytest.mark.parametrize(
    ("letter", "shown"), [("\n", "\\n"), ("\r", "\\r"), ("\0", "\\x00"), ("\x1b", "\\x1b"), ("\ud800", "\\ud800"), ("\u202e", "\\u202e")]
)
def test_what_it_quotes_cannot_break_its_line(letter: str, shown: str) -> None:
    inner = EdgeError(f"pool 'a{letter}b'")
    assert str(EdgeError(f"manifest: {inner}")) == f"manifest: pool 'a{shown}b'"


def test_of_a_very_long_message_both_ends_are_kept() -> None:
    message = str(EdgeError(f"manifest: got '{'x' * 100_000}'. Make the bundle again."))
    assert message.startswith("manifest: got 'xxx") and message.endswith("again.")
    assert len(message) < 2100
