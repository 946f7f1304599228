from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edge_runtime.errors import SinkError
from edge_runtime.files import (
    path_beside,
    remove_leftover_folders,
    remove_leftovers,
    replacing,
    replacing_folder,
    unwritable,
    write_atomically,
)
from tests.kit.wording import missing, raises


def test_a_written_file_is_whole_and_alone(tmp_path: Path) -> None:
    write_atomically(tmp_path / "summary.json", b"{}")
    assert (tmp_path / "summary.json").read_bytes() == b"{}"
    assert os.listdir(tmp_path) == ["summary.json"]


def test_a_file_that_was_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(b"an older and longer one")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_path_beside_keeps_the_ending_and_is_hidden(tmp_path: Path) -> None:
    with replacing(tmp_path / "timeline.png") as beside:
        beside.write_bytes(b"x")
        assert beside.parent == tmp_path
        assert beside.suffix == ".png"
        assert beside.name.startswith(".")
        assert not (tmp_path / "timeline.png").exists()


def test_an_error_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "memory.safetensors"
    path.write_bytes(b"old")

    def write_half() -> None:
        with replacing(path) as beside:
            beside.write_bytes(b"ha")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_a_failed_rename_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(SinkError):
        write_atomically(tmp_path / "taken", b"x")
    assert os.listdir(tmp_path) == ["taken"]


def test_a_missing_folder_is_a_sink_error_that_names_it(tmp_path: Path) -> None:
    with raises(SinkError, str(tmp_path / "nowhere")):
        write_atomically(tmp_path / "nowhere" / "summary.json", b"{}")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_a_sink_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with raises(SinkError, "'Permission denied'"):
        write_atomically(tmp_path / "summary.json", b"{}")


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "Free space"), (errno.EROFS, "Allow this user"), (errno.ENOTDIR, "run, or of"), (5, "Check")],
)
def test_the_message_says_what_to_do(number: int, advice: str) -> None:
    message = str(unwritable(Path("run/scores.jsonl"), OSError(number, os.strerror(number))))
    assert message.startswith("run/scores.jsonl: ") and not missing(message, f"file … '{os.strerror(number)}' … {advice}")


def test_a_folder_is_called_one() -> None:
    message = str(unwritable(Path("run"), FileExistsError(errno.EEXIST, "File exists"), what="folder"))
    assert message.startswith("run: ") and not missing(message, "this folder … 'File exists' … remove")


def test_leftovers_of_a_dead_writer_are_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    for name in (path, path_beside(path), path_beside(path), path_beside(tmp_path / "other.safetensors"), tmp_path / ".state.safetensors"):
        name.write_bytes(b"x")
    remove_leftovers(path)
    assert {entry.name.split(".")[1] for entry in tmp_path.iterdir() if entry.name.startswith(".")} == {"other", "state"}
    assert path.exists() and len(os.listdir(tmp_path)) == 3


def test_what_a_living_writer_writes_is_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with replacing(path) as beside:
        remove_leftovers(path)
        assert beside.exists()
        beside.write_bytes(b"whole")
        remove_leftovers(path)
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == [path.name]


def test_in_a_missing_folder_there_are_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "nowhere" / "state.safetensors")


def test_a_folder_takes_the_place_of_another_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "engines" / "fp16"
    for content in (b"old", b"new"):
        with replacing_folder(folder) as beside:
            assert beside.name.startswith(".fp16.") and beside.parent == folder.parent
            (beside / content.decode()).write_bytes(content)
    assert os.listdir(folder) == ["new"]
    assert os.listdir(folder.parent) == ["fp16"]


def test_an_error_while_a_folder_is_filled_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "fp16"
    folder.mkdir()
    (folder / "old").touch()

    def fill_half() -> None:
        with replacing_folder(folder) as beside:
            (beside / "half").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fill_half()
    assert os.listdir(folder) == ["old"]
    assert os.listdir(tmp_path) == ["fp16"]


def test_folders_left_by_the_dead_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".fp16.0123abcd", ".git", "fp16", ".fp16.0123abcd.timing"):
        (tmp_path / name).mkdir()
    (tmp_path / ".fp32.0123abcd").touch()  # a file
    with replacing_folder(tmp_path / "fp32") as living:
        remove_leftover_folders(tmp_path)
        assert sorted(os.listdir(tmp_path)) == sorted([".git", "fp16", ".fp16.0123abcd.timing", ".fp32.0123abcd", living.name])


def test_leftovers_of_a_place_that_is_not_there_are_none(tmp_path: Path) -> None:
    remove_leftover_folders(tmp_path / "nowhere")
