"""A provider keeps one slot: whole or not at all, and for its owner's eyes only."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edge_runtime.errors import KeyMismatch, KeyMissing, StorageError, StorageFull
from edge_runtime.keys import files
from edge_runtime.keys.providers import KeyFile, KeyMemory, KeyProvider
from edge_runtime.keys.slot import Slot, decode


@pytest.fixture(params=["file", "memory"])
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> KeyProvider:
    return KeyFile(tmp_path / "device.key") if request.param == "file" else KeyMemory()


def test_every_provider_keeps_one_slot(provider: KeyProvider) -> None:
    assert not provider.exists()
    with pytest.raises(KeyMissing):
        provider.load()
    assert provider.create(b"one")
    assert not provider.create(b"two")
    assert provider.load() == b"one"
    provider.store(b"three")
    assert provider.load() == b"three"
    assert provider.exists()


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
