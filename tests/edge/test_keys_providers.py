"""Slots in files and in memory, beyond what `test_keys_contract.py` asks of every provider."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edge_runtime.errors import KeyMismatch, KeyUnreadable, StorageError, StorageFull
from edge_runtime.keys import files
from edge_runtime.keys.providers import KeyFile, KeyMemory
from edge_runtime.keys.slot import Slot, decode


def test_a_key_file_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    key = KeyFile(path)
    key.create(b"slot")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key.store(b"slot 2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["device.key"]
    path.chmod(0o640)
    with pytest.raises(StorageError, match="0600"):
        key.load()
    assert path.read_bytes() == b"slot 2"


def test_the_replaced_slot_is_overwritten_where_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    files.create(path, b"old secret")
    os.link(path, tmp_path / "remnant")
    files.replace(path, b"new")
    assert (tmp_path / "remnant").read_bytes() == bytes(10)
    assert path.read_bytes() == b"new"


def test_what_a_kill_left_beside_it_is_overwritten_and_its_mode_is_not_taken_over(tmp_path: Path) -> None:
    path, left = tmp_path / "device.key", tmp_path / "device.key.new"
    files.create(path, b"old")
    left.write_bytes(b"a longer secret that a kill left")
    left.chmod(0o666)
    files.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["device.key"]


def test_a_link_laid_beside_it_is_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "device.key", tmp_path / "other"
    other.write_bytes(b"somebody's")
    (tmp_path / "device.key.new").symlink_to(other)
    key = KeyFile(path)
    with pytest.raises(StorageError, match="ELOOP"):
        key.create(b"slot")
    assert other.read_bytes() == b"somebody's"
    assert not path.exists()


def test_a_folder_or_a_huge_file_in_its_place_is_refused_untouched(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="EISDIR"):
        KeyFile(tmp_path).load()
    huge = tmp_path / "huge"
    huge.write_bytes(bytes(65_537))
    huge.chmod(0o600)
    with pytest.raises(KeyUnreadable, match="larger"):
        KeyFile(huge).load()
    with pytest.raises(StorageError, match="ENOTDIR"):
        KeyFile(huge / "below").store(b"slot")
    assert huge.stat().st_size == 65_537


def test_a_replaced_slot_in_memory_is_overwritten_where_it_stood() -> None:
    key = KeyMemory()
    key.create(b"old secret")
    held = key._slot
    key.store(b"new")
    assert held == bytearray(10)
    assert key.load() == b"new"


def test_a_full_disk_leaves_the_old_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = KeyFile(tmp_path / "device.key")
    key.create(b"old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull):
        key.store(b"new")
    assert key.load() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["device.key"]


def test_a_damaged_or_foreign_slot_is_a_key_mismatch() -> None:
    slot = Slot.new()
    raw = slot.encode()
    assert decode(raw) == slot
    for wrong in (b"", b"junk", raw[:-1], raw[:40] + bytes([raw[40] ^ 1]) + raw[41:], raw + b"x"):
        with pytest.raises(KeyMismatch):
            decode(wrong)


def test_no_secret_is_in_a_slots_repr() -> None:
    slot = Slot.new()
    assert slot.page_key.hex() not in repr(slot)
    assert repr(slot.page_key) not in repr(slot)
