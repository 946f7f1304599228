from __future__ import annotations

import pytest

from tests.kit.wording import is_prose, missing, raises


def fail(message: str) -> None:
    raise ValueError(message)


def test_all_names_are_looked_for_in_any_order() -> None:
    message = "input.width: expected 8 to 8192, got 7.5. Say --width 16"
    assert missing(message, "--width 16", "input.width … 8 to 8192") == []
    assert missing(message, "input.height … 7.5 … --fps") == ["input.height", "--fps"]


@pytest.mark.parametrize("name", ["8", "0.5", "--wid", "idth", "a/b"])
def test_a_name_counts_as_a_whole(name: str) -> None:
    assert missing("128, 8.5, 10.5, 0.55, widths, --width-px, a/bc", name) == [name]


@pytest.mark.parametrize("name", ["8", "-1", "(3,)", "'clip'", "a.png", "$.fps"])
def test_a_name_may_stand_between_any_signs(name: str) -> None:
    assert missing(f"/tmp/{name}: got {name}.", name) == []


def test_an_error_of_the_class_that_names_all_passes() -> None:
    with raises(ValueError, "clip 01", "9 … nan") as caught:
        fail("clip 01: expected finite numbers, got nan at 9")
    assert "finite" in str(caught.value)


def test_a_name_that_is_missing_fails_and_is_told() -> None:
    with pytest.raises(AssertionError, match="clip 02"), raises(ValueError, "clip 02"):
        fail("clip 01: expected finite numbers, got nan at 9")


def test_another_error_passes_through() -> None:
    with pytest.raises(KeyError), raises(ValueError, "gate"):
        raise KeyError("gate")


def test_no_error_is_a_failure() -> None:
    with pytest.raises(pytest.fail.Exception), raises(ValueError, "gate"):
        pass


def test_words_are_refused() -> None:
    with pytest.raises(ValueError, match="prose"):
        missing("", "input.width … expected a number")


@pytest.mark.parametrize("text", ["the disk is full", "gate: no frame for 3 s", "Replace or remove the file"])
def test_three_words_in_a_row_are_prose(text: str) -> None:
    assert is_prose(text)


@pytest.mark.parametrize(
    "text", ["seed, frames, width, height", "a.safetensors of float32", "'No such file or directory'", "pip install a"]
)
def test_names_commands_and_what_the_system_says_are_not(text: str) -> None:
    assert not is_prose(text)
