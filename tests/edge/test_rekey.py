"""Another page key: the whole file is under it, nothing of it under the old one, and no error loses a row."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import apsw
import pytest

from edge_runtime.cache.cipher import PAGE_BYTES, set_key
from edge_runtime.cache.database import Database
from edge_runtime.errors import DatabaseUnreadable, KeyMismatch, KeyMissing, StorageError, StorageFull
from tests.support.faulty_disk import FaultyDisk

OLD, NEW, OTHER = bytes(range(32)), bytes(range(32, 64)), bytes(32)
A, B = b"a" * 16, b"b" * 16


def filled(folder: Path, rows: int = 200) -> str:
    path = str(folder / "cache.db")
    database = Database.open(path, OLD)
    with database.write("fill") as tx:
        for handle in (A, B):
            tx.append_events([(handle, 1, b"%06d" % n * 100) for n in range(rows)])
        tx.put_state(A, A, 1, b"large" * 4000)
    database.close()
    return path


def check(database: Database, rows: int = 200) -> None:
    with database.read() as tx:
        assert [sealed for _, sealed in tx.events(A)] == [b"%06d" % n * 100 for n in range(rows)]
        assert tx.state(A, A) == b"large" * 4000


def test_everything_is_there_under_the_new_key_and_nothing_opens_under_the_old(tmp_path: Path) -> None:
    path = filled(tmp_path)
    database = Database.open(path, OLD)
    check(database)  # a reader is there
    assert database.page_key == OLD
    database.rekey(NEW)
    assert database.page_key == NEW
    assert database.wal_bytes() == 0
    check(database)
    with database.write("more") as tx:
        tx.set_meta("k", b"v")
    database.close()
    with pytest.raises(KeyMismatch):
        Database.open(path, OLD)
    again = Database.open(path, NEW)
    check(again)
    again.close()


@pytest.mark.parametrize(("page_key", "next_page_key"), [(OLD, NEW), (NEW, OTHER), (OTHER, NEW), (NEW, NEW)])
def test_of_two_keys_the_one_that_fits_is_told(tmp_path: Path, page_key: bytes, next_page_key: bytes) -> None:
    path = filled(tmp_path, rows=3)
    database = Database.open(path, OLD, next_page_key=OTHER)
    assert database.page_key == OLD
    database.rekey(NEW)
    database.close()
    database = Database.open(path, page_key, next_page_key=next_page_key)
    assert database.page_key == NEW
    check(database, rows=3)
    database.close()
    with pytest.raises(KeyMismatch):
        Database.open(path, OLD, next_page_key=OTHER)


def test_law_4_no_page_and_no_log_opens_under_the_old_key(tmp_path: Path) -> None:
    """Free pages too: each page of the new file is put into an old copy where all of them are read."""
    path = filled(tmp_path)
    before = tmp_path / "before.db"
    shutil.copy(path, before)
    database = Database.open(path, OLD)
    with database.write("free") as tx:
        tx.forget(B)
        assert tx.size().used_bytes < tx.size().file_bytes
    database.rekey(NEW)
    with database.read() as look:
        assert look.size().used_bytes < look.size().file_bytes, "no free pages, nothing would be proven"
    database.close()
    old, new = before.read_bytes(), Path(path).read_bytes()
    assert len(new) == len(old)
    opened = []
    for n in range(len(new) // PAGE_BYTES):
        place = slice(n * PAGE_BYTES, (n + 1) * PAGE_BYTES)
        assert new[place] != old[place]
        mixed = bytearray(old)
        mixed[place] = new[place]
        if opens(tmp_path, bytes(mixed)):
            opened.append(n + 1)
    assert opened == []
    assert opens(tmp_path, old)


def opens(folder: Path, content: bytes) -> bool:
    """Whether every page of a file opens under the old key."""
    (folder / "mixed.db").write_bytes(content)
    connection = apsw.Connection(str(folder / "mixed.db"))
    set_key(connection, OLD)
    connection.pragma("locking_mode", "exclusive")
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except (apsw.CorruptError, apsw.NotADBError):
        return False
    finally:
        connection.close()


def test_law_5_a_rekey_makes_no_other_file(tmp_path: Path) -> None:
    """Not even a temporary one: whatever it holds in between stays in memory, or is sealed in the log."""
    path, disk = filled(tmp_path), FaultyDisk()
    database = Database.open(path, OLD, vfs=disk.name)
    with database.write("small cache") as tx:
        tx._connection.pragma("cache_size", 5)  # pages are written before the end
    database.rekey(NEW)
    assert {point.partition(".")[0] for point in disk.points} == {"db", "wal"}
    check(database)
    database.close()


@pytest.mark.parametrize("fault", ["full", "io_error"])
def test_law_6_an_error_in_the_middle_leaves_a_file_that_goes_on_to_work(tmp_path: Path, fault: str) -> None:
    """Under the key that `page_key` says, now and after the next opening."""
    path = filled(tmp_path, rows=20)
    counting = FaultyDisk()
    database = Database.open(path, OLD, vfs=counting.name)
    start = len(counting.points)
    shutil.copy(path, tmp_path / "made.db")
    database.rekey(NEW)
    points = counting.points[start:]
    database.close()
    keys = []
    for n in range(len(points)):
        copy = str(tmp_path / f"{n}.db")
        shutil.copy(tmp_path / "made.db", copy)
        disk = FaultyDisk(points[n] if fault == "io_error" else None, "io_error")
        database = Database.open(copy, OLD, vfs=disk.name)
        if fault == "full":
            disk.room = n
        try:
            database.rekey(NEW)
        except (StorageFull, StorageError):
            assert fault == "io_error" or disk.room == 0
        disk.room = None
        key = database.page_key
        keys.append(key)
        check(database, rows=20)
        with database.write("more") as tx:
            tx.append_events([(A, 1, b"x")])
        database.close()
        again = Database.open(copy, OLD, next_page_key=NEW)
        assert again.page_key == key, points[n]
        with again.read() as look:
            assert len(look.events(A)) == 21
        again.close()
    assert set(keys) == {OLD, NEW}


def test_law_12_a_short_key_is_refused_and_memory_has_none(tmp_path: Path) -> None:
    path = filled(tmp_path, rows=1)
    database = Database.open(path, OLD)
    with pytest.raises(KeyMissing, match="32 bytes, got 31"):
        database.rekey(OLD[:31])
    check(database, rows=1)
    database.close()
    with pytest.raises(KeyMissing, match="32 bytes, got 5"):
        Database.open(path, OLD, next_page_key=b"short")
    memory = Database.open(":memory:", OLD)
    memory.rekey(NEW)
    with memory.write("w") as tx:
        tx.set_meta("k", b"v")
    memory.close()
    assert sorted(os.listdir(tmp_path)) == ["cache.db"]


def test_a_damaged_file_is_not_half_rekeyed(tmp_path: Path) -> None:
    """It is refused where the damage is, and stays under its key."""
    path = filled(tmp_path)
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2 + 7] ^= 1
    Path(path).write_bytes(content)
    database = Database.open(path, OLD)
    with pytest.raises(DatabaseUnreadable):
        database.rekey(NEW)
    assert database.page_key == OLD
    database.close()
    assert Path(path).read_bytes()[PAGE_BYTES:] == content[PAGE_BYTES:]
