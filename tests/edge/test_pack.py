"""Closing the holes that shorter rows leave: nothing changes but the number of pages."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.cache.database import Database
from edge_runtime.cache.records import LET_GO, RowPlace
from edge_runtime.wire.messages import Row


def _database() -> Database:
    return Database.open(":memory:", bytes(32))


def _fill(database: Database, count: int, size: int) -> list[RowPlace]:
    with database.write("test") as tx:
        for n in range(count):
            mixed = n * 7919 % count
            row = Row(n, f"item:{mixed:06}", "v", 1, n, n, 0, False, bytes([n % 251]) * size)
            tx.put_row("all", row, mixed.to_bytes(16, "big"), n % 50)
    return [RowPlace(f"item:{n:06}", "v", 1, "all") for n in range(count)]


def _pack_all(database: Database, table: str, limit: int = 100, limit_bytes: int = 1 << 18) -> int:
    after, calls = None, 0
    while True:
        with database.write("pack") as tx:
            after = tx.pack(table, after, limit, limit_bytes)
        calls += 1
        if after is None:
            return calls


def test_rows_that_lost_their_values_free_pages_only_when_packed() -> None:
    """Why there is a `pack`: 300 bytes a row let go, all of them, and not one page is free."""
    database = _database()
    places = _fill(database, 4_000, 300)
    with database.read() as tx:
        full = tx.size().used_bytes
    with database.write("test") as tx:
        assert tx.let_go_rows(places) == 4_000
    with database.read() as tx:
        assert tx.size().used_bytes == full
    _pack_all(database, "feature")
    with database.read() as tx:
        assert tx.size().used_bytes < full / 2
        assert all(row.values == LET_GO for row in tx.rows())
    database.close()


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 900)), max_size=60),
    st.integers(1, 20),
    st.integers(1, 2_000),
)
def test_packing_changes_no_row(rows: list[tuple[int, int]], limit: int, limit_bytes: int) -> None:
    """Of any of its tables, whatever the size of a unit."""
    database = _database()
    with database.write("test") as tx:
        for n, size in rows:
            handle, slot = bytes([n % 3]) * 16, bytes([n]) * 16
            tx.put_row(f"c{n % 2}", Row(n, f"e:{n}", "v", 1, n, n, 0, False, bytes(size)), slot, n)
            tx.put_personal_row(handle, slot, n, bytes(size))
            tx.put_state(handle, slot, n, bytes(size))
    before = _contents(database)
    for table in ("feature", "personal", "state"):
        _pack_all(database, table, limit, limit_bytes)
    assert _contents(database) == before
    database.close()


def _contents(database: Database) -> list[object]:
    connection = database._connection()
    return [
        connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("feature", "personal", "state")
    ]


def test_law_11_a_unit_takes_no_more_rows_or_bytes_than_it_was_told() -> None:
    database = _database()
    _fill(database, 300, 1_000)
    assert _pack_all(database, "feature", 50, 1 << 30) == 7  # the last finds none
    assert _pack_all(database, "feature", 1_000, 10_000) > 25
    database.close()


@pytest.mark.parametrize("reopened", [True, False])
def test_law_6_a_unit_that_does_not_end_changes_nothing(tmp_path: Path, reopened: bool) -> None:
    path = str(tmp_path / "c.db")
    database = Database.open(path, bytes(32))
    _fill(database, 300, 100)
    before = _contents(database)
    with suppress(KeyError), database.write("pack") as tx:
        assert tx.pack("feature", None, 100, 1 << 20) is not None
        raise KeyError
    if reopened:
        database.close()
        database = Database.open(path, bytes(32))
    assert _contents(database) == before
    database.close()
