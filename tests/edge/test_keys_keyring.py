"""Key, keystore and database belong together; a kill at any point of making them is mended."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edge_runtime.consent.opening import open_cache
from edge_runtime.errors import (
    KeyMismatch,
    KeyMissing,
    KeystoreMismatch,
    MalformedRequest,
    StorageError,
    StorageFull,
)
from edge_runtime.keys import files
from edge_runtime.keys.datakey import new_facts
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.providers import KeyFile, KeyMemory
from tests.support.consent_room import P, Room, die, killed
from tests.support.forensics import bytes_of


def settled(folder: Path) -> None:
    """A cache with one key and one planted row, closed."""
    with Room(folder) as room:
        room.consents.give("alice", [P], notice="v1")
        room.plant("alice-was-here")


def refused(folder: Path, kind: type[StorageError], match: str = ".") -> None:
    """Opening raises `kind` and leaves every file as it was."""
    before = bytes_of(folder)
    with pytest.raises(kind, match=match):
        Room(folder)
    assert bytes_of(folder) == before


def test_keys_come_back_after_a_restart(tmp_path: Path) -> None:
    settled(tmp_path)
    with Room(tmp_path) as room:
        key = room.key()
        assert room.found() == ["alice-was-here"] * 3
        assert room.keyring.by_pseudonym(room.keyring.pseudonym("user:alice"), P) is key
        assert room.keyring.keys_of("user:alice") == [key]
        assert not Room.key(room).facts.pending
        assert room.keyring.assurance == "file"


@pytest.mark.parametrize(("gone", "kind"), [("device.key", KeyMissing), ("cache.db", KeyMissing)])
def test_law_12_key_without_database_or_the_other_way_round_makes_nothing(
    tmp_path: Path, gone: str, kind: type[StorageError]
) -> None:
    settled(tmp_path)
    (tmp_path / gone).unlink()
    refused(tmp_path, kind)


def test_law_12_a_keystore_alone_is_not_overwritten(tmp_path: Path) -> None:
    settled(tmp_path)
    (tmp_path / "device.key").unlink()
    (tmp_path / "cache.db").unlink()
    refused(tmp_path, KeyMissing, "keystore")


def test_law_12_another_devices_key_opens_nothing(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        settled(folder)
    shutil.copy(other / "device.key", mine / "device.key")
    refused(mine, KeyMismatch)


@pytest.mark.parametrize("what", ["missing", "older", "foreign", "damaged"])
def test_law_12_a_keystore_that_the_slot_does_not_name_is_refused_untouched(
    tmp_path: Path, what: str
) -> None:
    settled(tmp_path)
    keystore = tmp_path / "cache.db-keys"
    older = keystore.read_bytes()
    with Room(tmp_path) as room:
        room.consents.give("bob", [P], notice="v1")
    content = {"missing": None, "older": older, "foreign": b"x" * 200, "damaged": older[:-1]}[what]
    if content is None:
        keystore.unlink()
    else:
        keystore.write_bytes(content)
    refused(tmp_path, KeystoreMismatch, "recover='discard'")


def test_a_discarded_keystore_is_set_aside_and_everybody_is_unknown(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.enrol().answered()
        room.consents.give("alice", [P], notice="v1")
        room.plant("alice-was-here")
        authority = room.keyring.authority
    (tmp_path / "cache.db-keys").write_bytes(b"x" * 300)
    with Room(tmp_path, recover="discard") as room:
        assert room.rows() == 0
        assert room.consents.state("alice", P) == "unknown"
        assert not room.allowed()
        assert room.keyring.identity.device_id == "standalone"
        assert room.keyring.authority != authority
        assert room.decisions() == []
    assert len(list(tmp_path.glob("cache.db-keys.aside-*"))) == 1
    with Room(tmp_path) as room:
        assert room.consents.state("alice", P) == "unknown"


def test_law_2_yesterdays_slot_does_not_open_todays_keystore(tmp_path: Path) -> None:
    settled(tmp_path)
    yesterday = (tmp_path / "device.key").read_bytes()
    with Room(tmp_path) as room:
        room.consents.withdraw("alice")
    (tmp_path / "device.key").write_bytes(yesterday)
    refused(tmp_path, KeystoreMismatch)


def test_law_2_a_keystore_from_before_enrolment_is_an_old_copy(tmp_path: Path) -> None:
    with Room(tmp_path):
        pass
    before = (tmp_path / "cache.db-keys").read_bytes()
    with Room(tmp_path) as room:
        room.enrol()
    (tmp_path / "cache.db-keys").write_bytes(before)
    refused(tmp_path, KeystoreMismatch, "old copy")


def test_a_kill_at_any_durable_point_of_the_first_opening_is_mended(tmp_path: Path) -> None:
    for nth in range(1, 40):
        folder = tmp_path / str(nth)
        folder.mkdir()
        if not killed(lambda f=folder, n=nth: _open_and_die(f, n)):  # type: ignore[misc]
            break
        with Room(folder) as room:
            room.consents.give("alice", [P], notice="v1")
            room.plant("alice-was-here")
        with Room(folder) as room:
            assert room.found() == ["alice-was-here"] * 3
    assert nth > 8, "the opening has more durable points than that"


def _open_and_die(folder: Path, nth: int) -> None:
    """Open for the first time and die just before, and just after, the nth durable step."""
    steps = 0

    def dying(real: object) -> object:
        def call(*arguments: object, **named: object) -> object:
            nonlocal steps
            steps += 1
            if steps == nth:
                die()
            assert callable(real)
            return real(*arguments, **named)

        return call

    os.fsync = dying(os.fsync)  # type: ignore[assignment]
    os.replace = dying(os.replace)  # type: ignore[assignment]
    os.link = dying(os.link)  # type: ignore[assignment]
    Room(folder).close()


def test_a_kill_between_key_and_database_is_no_missing_file(tmp_path: Path) -> None:
    Keyring.open(KeyFile(tmp_path / "device.key"), tmp_path / "cache.db-keys", False)
    assert [p.name for p in tmp_path.iterdir()] == ["device.key"]
    (tmp_path / "cache.db").write_bytes(b"")
    with Room(tmp_path) as room:
        assert not room.keyring.slot.fresh
    refused_later = tmp_path / "cache.db"
    refused_later.unlink()
    refused(tmp_path, KeyMissing)


def test_in_memory_no_file_is_made_and_the_keys_are_in_memory(tmp_path: Path) -> None:
    keyring, database = open_cache(":memory:", KeyFile(tmp_path / "device.key"))
    assert keyring.assurance == "memory"
    facts = new_facts("p", b"d" * 16, "n", base=0, at_us=0, grant=0, ordinal=1)
    keyring.create([("user:alice", facts)])
    database.close()
    assert list(tmp_path.iterdir()) == []


def test_law_5_a_key_in_memory_is_gone_with_its_process(tmp_path: Path) -> None:
    path, provider = str(tmp_path / "cache.db"), KeyMemory()
    open_cache(path, provider)[1].close()
    open_cache(path, provider)[1].close()
    with pytest.raises(KeyMissing):
        open_cache(path, KeyMemory())


def test_enrolment_is_refused_while_personal_data_is_held(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give("alice", ["guest"], notice="v1")
        with pytest.raises(MalformedRequest, match="no personal data"):
            room.enrol()
        assert room.keyring.identity.device_id == "standalone"
        room.consents.withdraw("alice", ["guest"])
        room.enrol()
        assert room.keyring.identity.device_id == "kiosk-1"
        assert list(room.keyring.denials()) == []
    with Room(tmp_path) as room:
        assert room.keyring.identity.enrolled


def test_a_full_disk_makes_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Room(tmp_path) as room:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files, "replace", full)
        with pytest.raises(StorageFull):
            room.consents.give("alice", [P], notice="v1")
        assert room.consents.state("alice", P) == "unknown"
        monkeypatch.undo()
        room.consents.give("alice", [P], notice="v1")
        assert room.consents.state("alice", P) == "given"
