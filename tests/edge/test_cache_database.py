"""The encrypted file opens only with its key, for one process, and a refusal leaves it as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from edge_runtime.cache.cipher import raw_key
from edge_runtime.cache.database import Database
from edge_runtime.cache.schema import SCHEMA, VERSION
from edge_runtime.errors import (
    CipherMissing,
    DatabaseInUse,
    DatabaseTooNew,
    DatabaseUnreadable,
    KeyMismatch,
    KeyMissing,
    RuntimeClosed,
    StorageFull,
)
from tests.support.consent_room import die, killed
from tests.support.forensics import bytes_of, plaintext_hits

KEY = bytes(range(32))
OTHER = bytes(32)


def filled(folder: Path, rows: int = 50) -> str:
    path = str(folder / "cache.db")
    database = Database.open(path, KEY)
    with database.write("fill") as tx:
        tx.append_events([(b"h" * 16, 1, b"canary-%d" % n) for n in range(rows)])
    database.close()
    return path


def crashed(folder: Path) -> str:
    """A database whose write-ahead log was not moved into the file: its process was killed."""
    path = str(folder / "cache.db")

    def work() -> None:
        database = Database.open(path, KEY)
        with database.write("fill") as tx:
            tx.append_events([(b"h" * 16, 1, b"canary")] * 9)
        die()

    assert killed(work)
    assert os.path.getsize(path + "-wal") > 0
    return path


def events(path: str) -> int:
    database = Database.open(path, KEY)
    with database.read() as tx:
        count = len(tx.events(b"h" * 16))
    database.close()
    return count


@pytest.mark.parametrize("make", [filled, crashed])
def test_law_12_a_wrong_key_is_a_key_mismatch_and_touches_nothing(tmp_path: Path, make: object) -> None:
    path = filled(tmp_path) if make is filled else crashed(tmp_path)
    before = bytes_of(tmp_path)
    with pytest.raises(KeyMismatch):
        Database.open(path, OTHER)
    assert bytes_of(tmp_path) == before
    assert events(path) > 0


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda raw: raw[:3000], DatabaseUnreadable),
        (lambda raw: raw[:5000], DatabaseUnreadable),
        (lambda raw: raw[:4096], DatabaseUnreadable),
        (lambda raw: b"", DatabaseUnreadable),
        (lambda raw: b"SQLite format 3\x00" + bytes(8176), DatabaseUnreadable),
        (lambda raw: b"GIF89a" * 2048, KeyMismatch),
    ],
)
def test_law_12_truncated_and_foreign_files_are_refused_untouched(
    tmp_path: Path, damage: object, kind: type[Exception]
) -> None:
    path = filled(tmp_path, rows=500)
    assert callable(damage)
    Path(path).write_bytes(damage(Path(path).read_bytes()))
    before = bytes_of(tmp_path)
    with pytest.raises(kind):
        Database.open(path, KEY, create=False)
    assert bytes_of(tmp_path) == before


def test_law_12_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    path = str(tmp_path / "cache.db")

    def work() -> None:
        Database.open(path, KEY).close()
        newer = apsw.Connection(path)
        newer.pragma("cipher", "aegis")
        newer.pragma("hexkey", raw_key(KEY).hex())
        newer.pragma("locking_mode", "exclusive")
        newer.pragma("user_version", 99)
        die()  # so that the log is still beside the file: not even a checkpoint may happen

    assert killed(work)
    before = bytes_of(tmp_path)
    with pytest.raises(DatabaseTooNew):
        Database.open(path, KEY)
    assert bytes_of(tmp_path) == before


def test_a_second_opening_in_this_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = filled(tmp_path)
    database = Database.open(path, KEY)
    link = str(tmp_path / "other-name.db")
    os.link(path, link)
    for name in (path, link):
        with pytest.raises(DatabaseInUse):
            Database.open(name, KEY)
    with database.write("more") as tx:
        tx.append_events([(b"h" * 16, 1, b"x")])
    database.close()
    assert events(path) == 51


def test_a_second_process_gets_database_in_use(tmp_path: Path) -> None:
    path = filled(tmp_path)
    database = Database.open(path, KEY)
    code = (
        "import sys; from edge_runtime.cache.database import Database\n"
        "from edge_runtime.errors import DatabaseInUse\n"
        "try: Database.open(sys.argv[1], bytes(range(32)))\n"
        "except DatabaseInUse: sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 7
    with database.write("more") as tx:
        tx.append_events([(b"h" * 16, 1, b"x")])
    database.close()


def test_law_5_without_the_cipher_nothing_opens_and_no_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(apsw, "mc_version")
    with pytest.raises(CipherMissing):
        Database.open(str(tmp_path / "cache.db"), KEY)
    assert list(tmp_path.iterdir()) == []


def test_law_5_file_and_log_hold_no_plain_text(tmp_path: Path) -> None:
    crashed(tmp_path)
    assert plaintext_hits(tmp_path, ["canary", "CREATE TABLE"]) == {}


def test_a_database_in_memory_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = Database.open(":memory:", KEY)
    with database.write("w") as tx:
        tx.append_events([(b"h" * 16, 1, b"x")])
    assert not database.checkpoint_truncate()
    database.close()
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_made_that_nobody_asked_for(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing):
        Database.open(str(tmp_path / "cache.db"), KEY, create=False)
    assert list(tmp_path.iterdir()) == []


def test_law_6_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    assert events(crashed(tmp_path)) == 9


def test_law_11_a_full_disk_undoes_the_last_write_and_keeps_the_earlier(tmp_path: Path) -> None:
    path = filled(tmp_path)
    database = Database.open(path, KEY)
    opened = database._opened
    assert opened is not None
    pages = opened.connection.pragma("page_count")
    opened.connection.pragma("max_page_count", pages)
    with pytest.raises(StorageFull), database.write("too much") as tx:
        tx.append_events([(b"h" * 16, 1, bytes(20_000))] * 3)
    with database.read() as tx:
        assert len(tx.events(b"h" * 16)) == 50
    database.close()


def test_an_exception_inside_a_write_undoes_it(tmp_path: Path) -> None:
    database = Database.open(str(tmp_path / "cache.db"), KEY)
    with pytest.raises(ZeroDivisionError), database.write("w") as tx:
        tx.append_events([(b"h" * 16, 1 // (tx.append_events([(b"h" * 16, 1, b"x")]) - 1), b"y")])
    with pytest.raises(RuntimeError, match="inside write"), database.write("a"), database.write("b"):
        pass
    with database.read() as tx:
        assert tx.handles() == set()
    database.close()
    database.close()
    with pytest.raises(RuntimeClosed), database.read():
        pass


def test_a_flipped_bit_is_never_wrong_data(tmp_path: Path) -> None:
    path = filled(tmp_path, rows=300)
    whole = Path(path).read_bytes()
    refused = 0
    for place in range(100, len(whole), len(whole) // 40):
        broken = tmp_path / "broken.db"
        broken.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            database = Database.open(str(broken), KEY)
        except (KeyMismatch, DatabaseUnreadable):
            refused += 1
            continue
        try:
            with database.read() as tx:
                assert [sealed for _, sealed in tx.events(b"h" * 16)] == [
                    b"canary-%d" % n for n in range(300)
                ]
        except DatabaseUnreadable:
            refused += 1
        database.close()
    assert refused > 10


def test_swapped_pages_are_refused(tmp_path: Path) -> None:
    path = filled(tmp_path, rows=300)
    raw = Path(path).read_bytes()
    pages = [raw[at : at + 4096] for at in range(0, len(raw), 4096)]
    pages[-1], pages[-2] = pages[-2], pages[-1]
    Path(path).write_bytes(b"".join(pages))
    with pytest.raises(DatabaseUnreadable):
        events(path)


def test_the_key_is_taken_raw_and_not_stretched_like_a_passphrase(tmp_path: Path) -> None:
    path = filled(tmp_path)
    for key, opens in ((raw_key(KEY).hex(), True), (KEY.hex(), False)):
        connection = apsw.Connection(path)
        connection.pragma("cipher", "aegis")
        connection.pragma("hexkey", key)
        if opens:
            assert connection.pragma("user_version") == VERSION
        else:
            with pytest.raises(apsw.NotADBError):
                connection.pragma("user_version")
        connection.close()


def test_every_column_has_its_note() -> None:
    for line in SCHEMA.splitlines():
        if line.startswith("  ") and not line.strip().startswith(("PRIMARY KEY", "UNIQUE")):
            assert "-- " in line, line


def test_a_copy_opens_elsewhere_with_the_same_key(tmp_path: Path) -> None:
    path = filled(tmp_path)
    shutil.copy(path, tmp_path / "copy.db")
    assert events(str(tmp_path / "copy.db")) == 50
