"""A file of any schema before is brought to the newest one, and is then like a file made new."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import apsw
import msgspec
import pytest

from edge_runtime.cache import schema
from edge_runtime.cache.cipher import raw_key
from edge_runtime.cache.database import Database
from edge_runtime.cache.records import ChannelState
from edge_runtime.cache.schema import VERSION
from edge_runtime.errors import StorageFull
from edge_runtime.keys import denial as denials
from edge_runtime.keys.denial import Denial, Evidence
from edge_runtime.wire.messages import LaneEntry, Row
from tests.support.consent_room import die, killed
from tests.support.full_disk import FullDisk

KEY = bytes(range(32))
A, B = b"a" * 16, b"b" * 16
SCHEMAS = Path(__file__).parents[1] / "data" / "schemas"
SCHEMA_1, SCHEMA_2, SCHEMA_3 = ((SCHEMAS / f"schema_{version}.sql").read_text() for version in (1, 2, 3))
DONE = Evidence(1, {"journal": 1}, 1, 2, True, 0x0006_0000_0000_00C0)
"""Its last byte is the one that says in msgpack that there is none."""
ROW = Row(3, "item:x", "stats", 1, 4, 5, 0, False, b"\x81\xa1x\x01")


def denial(id: bytes, evidence: Evidence | None) -> Denial:
    return Denial(id, A, "p", "withdrawn", "n", 1, 2, 3, canary=b"c" * 41, evidence=evidence)


def written_by_1(made: Denial) -> bytes:
    """A denial as schema 1 had it: its evidence was the last of its fields."""
    fields = msgspec.to_builtins(made, builtin_types=(bytes,))
    return msgspec.msgpack.encode(fields[: Denial.__struct_fields__.index("evidence") + 1])


CONTENTS: dict[str, list[tuple[str | int | bytes, ...]]] = {
    "meta": [("lane", (7).to_bytes(8, "big"))],
    "journal": [(4, A, 20, b"event")],
    "trimmed": [(A, 3)],
    "state": [(A, bytes(16), b"covered"), (A, B, b"state" * 2000)],
    "personal": [(A, B, 21, b"row")],
    "feature": [
        (f"item:{n}", "stats", 1, "all", 3, 4, 5, ROW.values, A) for n in ("x", *map(str, range(300)))
    ],
    "channel": [("all", 3, bytes(16))],
    "lane": [(A, "p", 5, "withdrawn", 0, 5)],
    "denial": [(A, written_by_1(denial(A, None))), (B, written_by_1(denial(B, DONE)))],
    "outbox": [(9, "receipt", A, b"receipt")],
    "budget": [(A, 1, 12)],
}
"""Table -> rows, as schema 1 had its columns."""


def connected(path: str) -> apsw.Connection:
    connection = apsw.Connection(path)
    connection.pragma("cipher", "aegis")
    connection.pragma("hexkey", raw_key(KEY).hex())
    connection.pragma("locking_mode", "exclusive")
    return connection


def made_by_schema_1(path: str) -> None:
    """A file as the release before wrote it, with something in every table."""
    connection = connected(path)
    connection.pragma("journal_mode", "wal")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute(SCHEMA_1)
    made = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    )
    assert {name for (name,) in made} == set(CONTENTS), "a table without a row would prove nothing"
    for table, rows in CONTENTS.items():
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO {table} VALUES({marks})", rows)
    connection.pragma("user_version", 1)
    connection.execute("COMMIT")
    connection.close()


def shape(path: str) -> dict[str, object]:
    """Every table's columns and every index, as SQLite sees them."""
    connection = connected(path)
    tables = [str(n) for (n,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found: dict[str, object] = {}
    for table in sorted(tables):
        indexes = connection.execute(f"PRAGMA index_list({table})").fetchall()
        found[table] = (
            connection.execute(f"PRAGMA table_xinfo({table})").fetchall(),
            sorted((index[1:], _columns(connection, str(index[1]))) for index in indexes),
        )
    found["version"] = connection.pragma("user_version")
    connection.close()
    return found


def _columns(connection: apsw.Connection, index: str) -> str:
    sql = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (index,)).fetchall()
    return repr((connection.execute(f"PRAGMA index_xinfo({index})").fetchall(), sql))


def test_an_upgraded_file_is_like_one_made_new(tmp_path: Path) -> None:
    """Columns, their order and defaults, indexes and what they cover."""
    old, new = str(tmp_path / "old.db"), str(tmp_path / "new.db")
    made_by_schema_1(old)
    Database.open(old, KEY).close()
    Database.open(new, KEY).close()
    assert shape(old) == shape(new)
    assert shape(new)["version"] == VERSION


def test_a_file_of_schema_2_is_like_one_made_new_and_knows_of_no_channel_whether_it_is_whole(
    tmp_path: Path,
) -> None:
    """The release before: its channels keep their cursors."""
    old, new = str(tmp_path / "old.db"), str(tmp_path / "new.db")
    connection = connected(old)
    connection.pragma("journal_mode", "wal")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute(SCHEMA_2)
    connection.execute("INSERT INTO channel VALUES('all', 3, ?)", (bytes(16),))
    connection.pragma("user_version", 2)
    connection.execute("COMMIT")
    connection.close()
    database = Database.open(old, KEY)
    with database.read() as tx:
        assert tx.channels() == {"all": ChannelState(3, 0, None)}
    database.close()
    Database.open(new, KEY).close()
    assert shape(old) == shape(new)


def test_a_file_of_schema_3_is_like_one_made_new_and_remembers_no_answer(tmp_path: Path) -> None:
    """The release before: what was spent stands, so what is drawn anew is paid for."""
    old, new = str(tmp_path / "old.db"), str(tmp_path / "new.db")
    connection = connected(old)
    connection.pragma("journal_mode", "wal")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute(SCHEMA_3)
    connection.execute("INSERT INTO budget VALUES(?, 1, 12)", (A,))
    connection.pragma("user_version", 3)
    connection.execute("COMMIT")
    connection.close()
    database = Database.open(old, KEY)
    with database.read() as tx:
        assert tx.answers(A, B) is None
        assert tx.spent(A, 1) == 12
    database.close()
    Database.open(new, KEY).close()
    assert shape(old) == shape(new)


def check_contents(database: Database) -> None:
    with database.read() as tx:
        assert tx.lane_position() == 7
        assert tx.events(A) == [(4, b"event")]
        assert tx.events_dropped(A)
        assert tx.states(A) == [(bytes(16), b"covered"), (B, b"state" * 2000)]
        assert tx.personal_row(A, B) == b"row"
        assert tx.newest_day(A) == 21
        assert tx.days(A) == {"journal": {20: 1}, "state": {0: 2}, "personal": {21: 1}}
        assert tx.row("item:x", "stats", 1) == ROW
        assert len(tx.row_sizes(None, 1000)) == 301
        assert {size.used_day for size in tx.row_sizes(None, 1000)} == {0}
        assert tx.channels()["all"].cursor == 3
        assert tx.lane_entry(A, "p") == LaneEntry(5, A, "p", "withdrawn", 0, 5)
        assert len(tx.denials()) == 2
        assert [denials.decode(body).id for body in tx.open_denials()] == [A]
        assert [(item.id, item.payload) for item in tx.outbox()] == [(A, b"receipt")]
        assert tx.spent(A, 1) == 12


def test_an_upgraded_file_holds_what_it_held(tmp_path: Path) -> None:
    """Days that nobody noted are not known; which denials are finished is read from them."""
    path = str(tmp_path / "cache.db")
    made_by_schema_1(path)
    for _ in range(2):
        database = Database.open(path, KEY)
        check_contents(database)
        database.close()
    database = Database.open(path, KEY)
    with database.write("more") as tx:
        assert tx.append_events([(A, 22, b"next")]) == 5  # the journal's numbers go on
    database.close()


def test_a_denial_that_cannot_be_read_stays_open(tmp_path: Path) -> None:
    path = str(tmp_path / "cache.db")
    made_by_schema_1(path)
    connection = connected(path)
    connection.execute("INSERT INTO denial VALUES(?, ?)", (bytes(16), b"\xc1damaged"))
    connection.close()
    database = Database.open(path, KEY)
    with database.read() as tx:
        assert b"\xc1damaged" in tx.open_denials()
    database.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_law_6_killed_in_the_step_it_is_the_old_file_still(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No half of it: the next opening starts again from the old file."""
    path = str(tmp_path / "cache.db")
    made_by_schema_1(path)
    step = schema.STEPS[1]

    def deadly(connection: apsw.Connection) -> None:
        if when == "after":
            step(connection)
            connection.cache_flush()  # pages of the new shape are in the log
        die()

    with monkeypatch.context() as patch:
        patch.setitem(schema.STEPS, 1, deadly)
        assert killed(lambda: Database.open(path, KEY).close())
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert connected(str(tmp_path / "copy" / "cache.db")).pragma("user_version") == 1
    database = Database.open(path, KEY)
    check_contents(database)
    database.close()


def shrinks(database: Database) -> bool:
    """Whether the file can give free pages back."""
    opened = database._opened
    assert opened is not None
    return bool(opened.connection.pragma("auto_vacuum") == 2)


@pytest.mark.parametrize("made", ["new", "upgraded"])
def test_law_11_what_is_let_go_can_be_given_back_to_the_disk(tmp_path: Path, made: str) -> None:
    """In steps, from a file made new and from one that was upgraded."""
    path = str(tmp_path / "cache.db")
    if made == "upgraded":
        made_by_schema_1(path)
    database = Database.open(path, KEY)
    assert shrinks(database)
    with database.write("rows") as tx:
        for n in range(100):
            one = msgspec.structs.replace(ROW, entity=f"item:{n}", values=bytes(5000))
            tx.put_row("all", one, A, 1)
        full = tx.size()
        tx.let_go_rows([one.place for one in tx.row_sizes(None, 1000)])
        free = tx.size()
        assert free.used_bytes < full.used_bytes / 2
        assert free.file_bytes == full.file_bytes
        assert tx.incremental_vacuum(10) == 10
        assert tx.incremental_vacuum(1_000_000) == (free.file_bytes - free.used_bytes) // 4096 - 10
        assert tx.size() == (free.used_bytes, free.used_bytes)
        assert tx.incremental_vacuum(10) == 0
    database.checkpoint_truncate()
    assert os.path.getsize(path) == free.used_bytes
    database.close()


def test_law_11_a_full_disk_leaves_an_upgraded_file_usable_and_the_next_opening_tries_again(
    tmp_path: Path,
) -> None:
    """However many writes still fit: the old file, or the new one that does not shrink yet, or all of it."""
    (tmp_path / "made").mkdir()
    made_by_schema_1(str(tmp_path / "made" / "cache.db"))
    seen = []
    for room in range(200):
        folder = shutil.copytree(tmp_path / "made", tmp_path / f"room-{room}")
        path, disk = str(folder / "cache.db"), FullDisk()
        disk.room = room
        try:
            database = Database.open(path, KEY, vfs=disk.name)
        except StorageFull:
            seen.append("before")
        else:
            seen.append("shrinks" if shrinks(database) else "does not shrink")
            check_contents(database)
            disk.room = None
            database.close()
        database = Database.open(path, KEY)
        assert shrinks(database)
        check_contents(database)
        database.close()
        if seen[-1] == "shrinks":
            break
    assert list(dict.fromkeys(seen)) == ["before", "does not shrink", "shrinks"]
