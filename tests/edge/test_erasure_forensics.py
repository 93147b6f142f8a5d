"""Who takes the disk, before or after, finds nothing personal in plain text, and after an erasure no key."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge_runtime.cache.database import Database
from edge_runtime.errors import KeystoreMismatch
from edge_runtime.keys.keystore import open_sealed
from edge_runtime.keys.slot import decode
from tests.support.consent_room import P, Room
from tests.support.forensics import plaintext_hits

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
        secret = room.key(CANARY_ID).record().secret
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
        page_key = room.keyring.page_key
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


def test_law_4_old_copies_of_everything_but_the_slot_do_not_open_what_was_erased(tmp_path: Path) -> None:
    folder, copies = tmp_path / "device", tmp_path / "copies"
    folder.mkdir()
    with Room(folder) as room:
        room.consents.give(CANARY_ID, [P], notice="v1")
        key = room.plant(CANARY_VALUE, CANARY_ID)
        with room.database.read() as tx:
            sealed = tx.events(key.handle)[0][1]
    shutil.copytree(folder, copies)
    with Room(folder) as room:
        room.consents.withdraw(CANARY_ID)
    shutil.copy(folder / "device.key", copies / "device.key")
    with pytest.raises(KeystoreMismatch):
        Room(copies)
    slot = decode((folder / "device.key").read_bytes())
    assert slot.old_root is None
    with pytest.raises(KeystoreMismatch):
        open_sealed(msgspec.structs.replace(slot, revision=0), (copies / "cache.db-keys").read_bytes())
    for name, secret in msgspec.structs.asdict(slot).items():
        if isinstance(secret, bytes) and len(secret) == 32:
            with pytest.raises(InvalidTag):
                AESGCM(secret).decrypt(sealed[:12], sealed[12:], key._place("journal", key.handle))
            assert name in ("page_key", "root")


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
        shown += [receipt.to_json(), repr(receipt), repr(room.keyring.denials())]
    assert not [text for text in shown if CANARY_ID in text]
