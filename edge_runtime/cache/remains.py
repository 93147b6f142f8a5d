"""What can still be read of a damaged database. Everything that raises for one unreadable page goes on here.

Rows are looked up through the indexes and read around gaps; nothing is judged. A table that was not read from
one end to the other is not whole, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeVar

import apsw

from edge_runtime.cache.gaps import Gap, Scan, Unreadable, readable
from edge_runtime.cache.plain_tables import PLAIN_TABLES, Value

T = TypeVar("T")
Fields = tuple[Value, ...]

ANY_ROW: Final = Gap(1, 1 << 62)
"""Numbers that a row of the journal can have."""
_ANY_SLOT: Final = Gap(0, (1 << 128) - 1)
SLOT_PROBES: Final = 62
ROW_PROBES: Final = 4_096
"""How often a scan starts somewhere in a gap: among what hangs on a handle, among all rows of the journal."""

_SCARS: Final = (apsw.CorruptError, apsw.NotADBError, apsw.IOError, apsw.CantOpenError, apsw.SQLError)
"""What SQLite raises where a page cannot be read, whether its seal is broken or its sector; the last one
where the page was in the list of tables."""


class Sealed(NamedTuple):
    """A sealed row in a slot of a handle."""

    slot: bytes
    day: int
    sealed: bytes


class EventRow(NamedTuple):
    """A row of the journal."""

    n: int
    handle: bytes
    day: int
    sealed: bytes


class Remains:
    """A damaged database, open to be looked at; None for one in which nothing can be read.

    Attributes:
        version: its schema.
        log_cut: whether commits that were acknowledged lie where nothing reaches them: what is read is the
            database as it was some time before.
    """

    def __init__(self, connection: apsw.Connection | None, *, version: int, log_cut: bool) -> None:
        self._connection, self.version, self.log_cut = connection, version, log_cut

    # ---- under a handle ---------------------------------------------------------------------------------

    def numbers(self, handle: bytes, left: list[Gap]) -> Iterator[int]:
        """The numbers of a handle's rows in the journal, as the index has them; `left` as in `readable`."""
        sql = (
            "SELECT n FROM journal INDEXED BY journal_by_handle"
            " WHERE handle = ? AND n BETWEEN ? AND ? ORDER BY n"
        )

        def number(fields: Fields) -> tuple[int, None]:
            return _int(fields[0]), None

        scan = self._scan(sql, lambda low, high: (handle, low, high), number)
        return (n for n, _ in readable(scan, ANY_ROW, left, SLOT_PROBES))

    def event(self, n: int) -> EventRow | None:
        """A row of the journal by its number; None when it is not there. Raises `Unreadable`."""
        for fields in self._rows("SELECT n, handle, day, sealed FROM journal WHERE n = ?", (n,)):
            return _event(fields)[1]
        return None

    def events(self, left: list[Gap]) -> Iterator[EventRow]:
        """Every row of the journal that can be reached, whoever's; `left` as in `readable`."""
        sql = "SELECT n, handle, day, sealed FROM journal NOT INDEXED WHERE n BETWEEN ? AND ? ORDER BY n"
        scan = self._scan(sql, lambda low, high: (low, high), _event)
        return (row for _, row in readable(scan, ANY_ROW, left, ROW_PROBES))

    def sealed(self, table: str, handle: bytes, left: list[Gap]) -> Iterator[Sealed]:
        """Every row of `state` or `personal` under a handle that can be reached; `left` as in `readable`."""
        day = "0" if table == "state" and self.version < 2 else "day"
        of_handle = "WHERE handle = ? AND slot BETWEEN ? AND ? ORDER BY slot"
        sql = f"SELECT slot, {day}, sealed FROM {table} {of_handle}"

        def between(low: int, high: int) -> Fields:
            return handle, low.to_bytes(16, "big"), high.to_bytes(16, "big")

        return (row for _, row in readable(self._scan(sql, between, _sealed), _ANY_SLOT, left, SLOT_PROBES))

    def trimmed(self, handle: bytes) -> int | None:
        """Up to which row a handle's journal was let go; None if never. Raises `Unreadable`."""
        for (n,) in self._rows("SELECT n FROM trimmed WHERE handle = ?", (handle,)):
            return _int(n)
        return None

    # ---- the rest ---------------------------------------------------------------------------------------

    def newest_row(self) -> int | None:
        """The newest number that any event ever had; None when that cannot be read."""
        try:
            for (n,) in self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'journal'", ()):
                return _int(n)
        except Unreadable:
            return None
        return 0

    def fact(self, key: str) -> bytes | None:
        """One fact of `meta`; None when it is not there. Raises `Unreadable`."""
        for (value,) in self._rows("SELECT value FROM meta WHERE key = ?", (key,)):
            return _bytes(value)
        return None

    def plain(self, name: str, whole: set[str]) -> Iterator[Fields]:
        """Rows of a table without handles, from both ends up to what cannot be read; some perhaps twice.

        Args:
            whole: gets `name` when the table was read from one end to the other.
        """
        table = PLAIN_TABLES[name]
        if table.since > self.version:
            whole.add(name)
            return
        asked = f"SELECT {', '.join(table.columns_of(self.version))} FROM {name} ORDER BY "
        orders = (", ".join(table.key), ", ".join(f"{column} DESC" for column in table.key))
        for order in orders:
            try:
                for fields in self._rows(asked + order, ()):
                    if not table.takes(fields):
                        raise Unreadable  # another table stands where this one was looked for
                    yield fields
            except Unreadable:
                continue
            whole.add(name)
            return

    # ---- asking -----------------------------------------------------------------------------------------

    def _scan(
        self, sql: str, between: Callable[[int, int], Fields], row: Callable[[Fields], tuple[int, T]]
    ) -> Scan[T]:
        def scan(low: int, high: int, backwards: bool) -> Iterator[tuple[int, T]]:
            for fields in self._rows(f"{sql}{' DESC' if backwards else ''}", between(low, high)):
                yield row(fields)

        return scan

    def _rows(self, sql: str, arguments: Fields) -> Iterator[Fields]:
        """The rows of one question, up to what cannot be read."""
        if self._connection is None:
            raise Unreadable
        try:
            yield from self._connection.execute(sql, arguments)
        except _SCARS:
            raise Unreadable from None


def _event(fields: Fields) -> tuple[int, EventRow]:
    n, handle, day, sealed = fields
    return _int(n), EventRow(_int(n), _bytes(handle), _int(day), _bytes(sealed))


def _sealed(fields: Fields) -> tuple[int, Sealed]:
    slot, day, sealed = fields
    return int.from_bytes(_bytes(slot), "big"), Sealed(_bytes(slot), _int(day), _bytes(sealed))


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise Unreadable
    return value


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise Unreadable
    return value
