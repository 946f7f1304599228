from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from edge_runtime import Bundle
from edge_runtime.devices.host_memory import HostBank
from edge_runtime.errors import BundleError, ConfigError, SinkError
from edge_runtime.run.state import StateStore
from tests.kit.wording import missing, raises

Toy = Callable[[str], Bundle]


def bank_of(bundle: Bundle) -> HostBank:
    return HostBank(bundle.manifest, bundle.read_items())


def learned_bank(bundle: Bundle) -> HostBank:
    """A bank of `one_pool` whose items are no longer the shipped ones."""
    bank = bank_of(bundle)
    bank.restore({"memory": np.eye(3, 16, dtype=np.float32)})
    return bank


def test_what_was_learned_survives_a_restart(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    StateStore(tmp_path / "state", "gate", bundle).save(learned_bank(bundle))
    bank = bank_of(bundle)
    assert StateStore(tmp_path / "state", "gate", bundle).load(bank) is True
    assert np.array_equal(bank.snapshot()["memory"], np.eye(3, 16))
    assert not bank.is_frozen
    assert os.listdir(tmp_path / "state") == ["gate.safetensors"]


def test_where_nothing_was_saved_the_bank_stays_as_shipped(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    bank = bank_of(bundle)
    assert StateStore(tmp_path / "state", "gate", bundle).load(bank) is False
    assert np.array_equal(bank.snapshot()["memory"], bundle.read_items()["memory"])


def test_every_stream_has_a_state_of_its_own_under_a_safe_name(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    store = StateStore(tmp_path, "../gate 1", bundle)
    store.save(learned_bank(bundle))
    assert store.path == tmp_path / "%2E.%2Fgate 1.safetensors" and store.path.exists()
    assert StateStore(tmp_path, "gate 2", bundle).load(bank_of(bundle)) is False


@pytest.mark.parametrize("was_frozen", [True, False])
def test_a_frozen_memory_comes_back_frozen(was_frozen: bool, toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    saved, restored = learned_bank(bundle), bank_of(bundle)
    if was_frozen:
        saved.freeze()
    store = StateStore(tmp_path, "gate", bundle)
    store.save(saved)
    store.load(restored)
    assert restored.is_frozen is was_frozen


def test_a_state_does_not_thaw_a_bank_that_is_frozen(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    store = StateStore(tmp_path, "gate", bundle)
    store.save(learned_bank(bundle))
    bank = bank_of(bundle)
    bank.freeze()
    store.load(bank)
    assert bank.is_frozen


def test_the_state_of_another_bundle_is_refused(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    StateStore(tmp_path, "gate", replace(bundle, identity="0" * 64)).save(learned_bank(bundle))
    bank = bank_of(bundle)
    with raises(BundleError, f"gate.safetensors … {bundle.identity[:12]} … 000000000000"):
        StateStore(tmp_path, "gate", bundle).load(bank)
    assert np.array_equal(bank.snapshot()["memory"], bundle.read_items()["memory"])


@pytest.mark.parametrize("length", [0, 7, 40, -1])
def test_a_truncated_state_is_refused(length: int, toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    store = StateStore(tmp_path, "gate", bundle)
    store.save(learned_bank(bundle))
    store.path.write_bytes(store.path.read_bytes()[:length])
    with raises(BundleError, "gate.safetensors … read it"):
        store.load(bank_of(bundle))


@pytest.mark.parametrize("content", [b"garbage" * 100, b"\0" * 100, b'{"a": 1}'])
def test_a_file_that_is_no_state_is_refused(content: bytes, toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    store = StateStore(tmp_path, "gate", bundle)
    store.path.write_bytes(content)
    with raises(BundleError, "gate.safetensors … read it"):
        store.load(bank_of(bundle))


def test_a_state_of_another_number_type_is_refused(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    store = StateStore(tmp_path, "gate", bundle)
    header = json.dumps({"memory": {"dtype": "BF16", "shape": [3, 16], "data_offsets": [0, 96]}}).encode()
    store.path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(96))
    with raises(BundleError, "gate.safetensors … read it"):
        store.load(bank_of(bundle))


def test_safetensors_from_elsewhere_are_no_state(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    store = StateStore(tmp_path, "gate", bundle)
    store.path.write_bytes((bundle.path / "memory.safetensors").read_bytes())
    with raises(BundleError, "edge-runtime-memory-1 … None"):
        store.load(bank_of(bundle))


def test_items_that_do_not_fit_are_refused_with_the_files_name(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    store = StateStore(tmp_path, "gate", bundle)
    header = {"format": "edge-runtime-memory-1", "bundle": bundle.identity}
    store.path.write_bytes(safetensors.numpy.save({"memory": np.full((3, 16), np.nan, np.float32)}, metadata=header))
    with raises(BundleError, "gate.safetensors … pool 'memory' … finite"):
        store.load(bank_of(bundle))


@pytest.mark.parametrize(("every_s", "is_saved"), [(0.0, True), (3600.0, False)])
def test_it_saves_once_the_time_is_due(every_s: float, is_saved: bool, toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    store = StateStore(tmp_path, "gate", bundle, every_s=every_s)
    store.save_if_due(learned_bank(bundle))
    assert store.path.exists() is is_saved


def test_a_model_without_memory_has_a_state_too(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    bank = HostBank(replace(bundle.manifest, pools=()), {})
    store = StateStore(tmp_path, "gate", bundle)
    store.save(bank)
    assert store.load(bank) is True


def test_a_folder_that_cannot_be_made_is_a_sink_error(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with raises(SinkError, "file"):
        StateStore(tmp_path / "file", "gate", toy("one_pool"))


def test_what_a_killed_writer_left_goes_away_at_the_next_start(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    StateStore(tmp_path / "state", "gate", bundle).save(learned_bank(bundle))
    (tmp_path / "state" / ".gate.0123abcd.safetensors").write_bytes(b"half a st")
    others = [".gate.0123abcd.txt", ".gate 2.0123abcd.safetensors", ".gate.0123abcde.safetensors", "gate.0123abcd.safetensors"]
    for name in others:
        (tmp_path / "state" / name).touch()
    StateStore(tmp_path / "state", "gate", bundle)
    assert sorted(os.listdir(tmp_path / "state")) == sorted([*others, "gate.safetensors"])


def test_a_memory_is_locked_by_one_alone(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    first, second, yard = (StateStore(tmp_path, stream, bundle) for stream in ("gate", "gate", "yard"))
    first.lock()
    yard.lock()
    with raises(ConfigError, "gate.safetensors … another process"):
        second.lock(patience_s=0)
    second.save(learned_bank(bundle))
    assert first.load(bank_of(bundle)) is True
    del first
    StateStore(tmp_path, "gate", bundle).lock()


def test_a_lock_waits_for_somebody_who_is_nearly_done(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = toy("one_pool")
    stores = [StateStore(tmp_path, "gate", bundle)]
    stores[0].lock()
    monkeypatch.setattr("edge_runtime.run.state.sleep", lambda _: stores.clear())
    second = StateStore(tmp_path, "gate", bundle)
    second.lock()
    with raises(ConfigError, "another process"):
        StateStore(tmp_path, "gate", bundle).lock(patience_s=0)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_on_a_file_system_without_locks_a_memory_is_used_and_the_log_says_so(
    number: int, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    store = StateStore(tmp_path, "gate", toy("one_pool"))
    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING):
        store.lock()
    [record] = caplog.records
    assert not missing(record.getMessage(), f"gate.lock … {os.strerror(number)}")


def test_a_lock_that_another_user_left_is_taken(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = os.open

    def open_as_another(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really_open(path, flags, mode)

    bundle = toy("one_pool")
    (tmp_path / "gate.lock").touch(0o644)
    store = StateStore(tmp_path, "gate", bundle)
    with monkeypatch.context() as patches:
        patches.setattr(os, "open", open_as_another)
        store.lock()
    with raises(ConfigError, "another process"):
        StateStore(tmp_path, "gate", bundle).lock(patience_s=0)


def test_a_lock_that_cannot_be_written_is_a_sink_error(toy: Toy, tmp_path: Path) -> None:
    store = StateStore(tmp_path, "gate" * 100, toy("one_pool"))
    with raises(SinkError, ".lock"):
        store.lock()


@pytest.mark.parametrize("stream", [".gate.0123abcd", "", "gate\udcff", "%2E"])
def test_no_stream_has_a_hidden_state(stream: str, toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    store = StateStore(tmp_path, stream, bundle)
    store.save(learned_bank(bundle))
    StateStore(tmp_path, "gate", bundle)
    assert not store.path.name.startswith(".") or not stream
    assert store.load(bank_of(bundle)) is True


def test_a_stream_whose_name_no_file_can_have_is_refused_in_order(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    store = StateStore(tmp_path, "gate" * 100, bundle)
    with raises(BundleError, "read it"):
        store.load(bank_of(bundle))
