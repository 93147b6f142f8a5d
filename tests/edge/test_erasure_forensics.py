"""Who takes the disk, before or after, finds nothing personal in plain text, and after an erasure no key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge_runtime.cache.database import Database
from edge_runtime.errors import KeystoreMismatch
from edge_runtime.keys.slot import decode
from edge_runtime.wire.seal import canonical
from tests.support.consent_room import P, Room
from tests.support.forensics import plaintext_hits
from tests.support.remnants import opens, reach

CANARY_ID = "canary-subject-4711"
CANARY_VALUE = "canary-value-0815"
NEEDLES = [CANARY_ID, CANARY_VALUE, "user:canary", "personalization", "withdrawn"]


def test_law_5_no_file_holds_a_subject_or_value_in_plain_text_before_or_after(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    with Room(folder) as room:
        room.enrol().answered()
        decision = room.consents.give(CANARY_ID, [P], notice="v1").decisions[0]
        room.consents.recorded(decision, 9, "recorded", 9)
        for _ in range(50):
            room.plant(CANARY_VALUE, CANARY_ID)
        secret = bytes(room.key(CANARY_ID).secret_copy())
        needles: list[str | bytes] = [*NEEDLES, secret, room.keyring.pseudonym(f"user:{CANARY_ID}")]
        assert plaintext_hits(folder, needles) == {}, "live, with the log beside the file"
        room.consents.withdraw(CANARY_ID)
        assert plaintext_hits(folder, needles) == {}, "just erased"
    assert plaintext_hits(folder, needles) == {}, "closed"


def test_the_scan_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "leak").write_text(f"oops {CANARY_ID}")
    assert plaintext_hits(tmp_path, [CANARY_ID]) == {"leak": 1}


def test_law_4_under_the_page_key_alone_nobody_is_named(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.enrol().answered()
        room.consents.give(CANARY_ID, [P], notice="v1")
        room.plant(CANARY_VALUE, CANARY_ID)
        page_key = room.keyring.slot.page_key
        room.consents.withdraw(CANARY_ID)
        room.consents.give(CANARY_ID, [P], notice="v1")
        room.plant(CANARY_VALUE, CANARY_ID)
    database = Database.open(str(tmp_path / "cache.db"), page_key)
    opened = database._opened
    assert opened is not None
    tables = [
        str(name)
        for (name,) in opened.connection.execute("SELECT name FROM sqlite_schema WHERE type='table'")
    ]
    cells = [
        cell if isinstance(cell, bytes) else str(cell).encode()
        for table in tables
        for row in opened.connection.execute(f"SELECT * FROM {table}")
        for cell in row
    ]
    database.close()
    assert len(cells) > 20
    assert not [c for c in cells if CANARY_ID.encode() in c or CANARY_VALUE.encode() in c]


@pytest.mark.parametrize("others", [0, 200])
def test_law_4_old_copies_of_everything_but_the_slot_do_not_open_what_was_erased(
    tmp_path: Path, others: int
) -> None:
    """Every remnant of database, log and keystore, and all that the new slot leads to: nothing opens."""
    folder, copies = tmp_path / "device", tmp_path / "copies"
    folder.mkdir()
    with Room(folder) as room:
        for n in range(others):
            room.consents.give(f"other-{n}", [P], notice="v1")
        room.consents.give(CANARY_ID, [P], notice="v1")
        key = room.plant(CANARY_VALUE, CANARY_ID)
        place = canonical((room.keyring.slot.database_id, key.subject, P, key.handle))
        with room.database.read() as tx:
            sealed = tx.events(key.handle)[0][1]
    shutil.copytree(folder, copies)
    with Room(folder) as room:
        room.consents.withdraw(CANARY_ID)
    before = reach(copies / "device.key", copies / "cache.db-keys")
    after = reach(folder / "device.key", folder / "cache.db-keys")
    gone = before.secrets.pop(f"user:{CANARY_ID}/{P}")
    assert AESGCM(gone).decrypt(sealed[:12], sealed[12:], place + b"journal\x00" + key.handle), "it did open"
    assert before.secrets == after.secrets, "everybody else's are there"
    assert gone not in after.keys
    slot = decode((folder / "device.key").read_bytes())
    context = b"EDGEKEYS2" + slot.database_id
    held_it = [found for found in before.nodes if found not in after.nodes]
    assert len(held_it) >= (3 if others else 2), "trunk, branch and leaf on the way to the key"
    for secret in {*after.keys, slot.page_key}:
        assert not [found for found in held_it if opens(secret, found.sealed, context)]
        with pytest.raises(InvalidTag):
            AESGCM(secret).decrypt(sealed[:12], sealed[12:], place + b"journal\x00" + key.handle)
    today = (folder / "cache.db-keys").read_bytes()
    assert not [found for found in held_it if found.sealed in today], "overwritten where they stood"
    shutil.copy(folder / "device.key", copies / "device.key")
    with pytest.raises(KeystoreMismatch):
        Room(copies)


def test_law_4_the_log_is_cut_and_no_page_keeps_an_old_row(tmp_path: Path) -> None:
    wal: list[int] = []

    def look(name: str) -> None:
        if name == "wal":
            wal.append(room.database.wal_bytes())

    with Room(tmp_path, step=look) as room:
        room.consents.give("alice", [P], notice="v1")
        for _ in range(200):
            room.plant("x" * 500)
        with room.database.read() as tx:
            sealed = [content for _, content in tx.events(room.key().handle)]
        assert all(content[:60] in pages(room.database) for content in sealed[::20])
        room.consents.withdraw("alice", [P])
        assert wal == [0]
        assert not [content for content in sealed if content[:60] in pages(room.database)]


def pages(database: Database) -> bytes:
    """Every page of the file as the page key opens it, free ones too."""
    opened = database._opened
    assert opened is not None
    return opened.connection.serialize("main")


def test_law_5_logs_and_reprs_name_nobody(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give(CANARY_ID, [P], notice="v1")
        shown = [
            repr(room.keyring),
            repr(room.key(CANARY_ID)),
            repr(room.keyring.identity),
            repr(room.consents),
        ]
        receipt = room.consents.withdraw(CANARY_ID)
        shown += [receipt.to_json(), repr(receipt), repr(list(room.keyring.denials()))]
    assert not [text for text in shown if CANARY_ID in text]
