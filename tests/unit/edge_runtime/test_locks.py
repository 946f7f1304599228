from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError, SinkError
from edge_runtime.locks import locked_folder
from tests.kit.wording import missing, raises


def test_a_folder_is_locked_by_one_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked_folder(out), raises(ConfigError, f"{out} … another run"), locked_folder(out):
        pass
    with locked_folder(out):
        pass


def test_who_is_refused_takes_nothing_from_who_is_there(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "out"):
        for _ in range(2):
            with pytest.raises(ConfigError), locked_folder(tmp_path / "out"):
                pass


def test_what_was_written_stays_and_nothing_else(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "runs" / "gate"):
        (tmp_path / "runs" / "gate" / "summary.json").touch()
    assert os.listdir(tmp_path / "runs" / "gate") == ["summary.json"]


def test_a_folder_that_stayed_empty_goes_away_with_those_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path / "runs" / "today" / "gate"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ["runs"] and os.listdir(tmp_path / "runs") == []


def test_an_empty_folder_that_was_there_stays(tmp_path: Path) -> None:
    with locked_folder(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_the_lock_of_a_killed_run_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with locked_folder(tmp_path), pytest.raises(ConfigError), locked_folder(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_that_its_owner_has_just_removed_is_not_taken_for_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_lock = fcntl.flock

    def remove_and_lock(lock: int, how: int) -> None:
        monkeypatch.undo()
        (tmp_path / ".lock").unlink()
        really_lock(lock, how)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)
    with locked_folder(tmp_path), pytest.raises(ConfigError), locked_folder(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), locked_folder(tmp_path):
        pass
    [record] = caplog.records
    assert not missing(record.getMessage(), os.strerror(number))


@pytest.mark.parametrize(("below", "advice"), [("", "that name"), ("deeper", "taken"), ("a/b", "A file has")])
def test_a_file_where_a_folder_should_be_is_a_sink_error(below: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with raises(SinkError, f"{tmp_path / 'taken' / below} … {advice}"), locked_folder(tmp_path / "taken" / below):
        pass
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_nobody_may_write_in_is_a_sink_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = os.open

    def open_as_nobody(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really_open(path, flags, mode)

    monkeypatch.setattr(os, "open", open_as_nobody)
    with raises(SinkError, f"'Permission denied' … {tmp_path}"), locked_folder(tmp_path):
        pass
