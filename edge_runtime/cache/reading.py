"""What can be asked of the cache inside a transaction. All reading SQL of the device is here."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NoReturn, cast

import apsw

from edge_runtime.cache.plain_tables import PlainTable
from edge_runtime.cache.process import foreign
from edge_runtime.cache.records import (
    ChannelState,
    FileSize,
    JournalSpan,
    OutboxItem,
    OutboxKind,
    RowPlace,
    RowSize,
)
from edge_runtime.cache.schema import PERSONAL_TABLES
from edge_runtime.wire.messages import LaneEntry, Row


class ReadTransaction:
    """A look at the tables; made by `Database.read()`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._one = connection.cursor()
        """For questions with one answer: making a cursor for each would take a quarter of them."""

    def begin(self) -> None:
        """Begin a snapshot: what is asked until `end` is answered from one commit."""
        self._one.execute("BEGIN")

    def end(self) -> None:
        """Let the snapshot go; nothing was changed."""
        self._one.execute("ROLLBACK")

    def disown(self) -> None:
        """The thread that is in this transaction forked, and this is the child: it ends here, unused."""
        self._connection = cast("apsw.Connection", _Foreign())
        self._one = cast("apsw.Cursor", _Foreign())

    # ---- events and states under a handle ---------------------------------------------------------------

    def events(self, handle: bytes, after: int = 0) -> list[tuple[int, bytes]]:
        """(n, sealed) of the journalled events of a handle after row `after`, in order of arrival."""
        sql = "SELECT n, sealed FROM journal WHERE handle = ? AND n > ? ORDER BY n"
        return [(_int(n), _bytes(sealed)) for n, sealed in self._connection.execute(sql, (handle, after))]

    def newest_event(self, handle: bytes) -> int:
        """The newest `n` in the journal of a handle; 0 when it is empty."""
        return _int(self._value("SELECT coalesce(max(n), 0) FROM journal WHERE handle = ?", handle))

    def newest_row(self) -> int:
        """The newest `n` that any event ever had; 0 before the first."""
        return _int(self._value("SELECT seq FROM sqlite_sequence WHERE name = 'journal'") or 0)

    def events_dropped(self, handle: bytes) -> bool:
        """Whether the journal of a handle is no longer whole."""
        return self._value("SELECT 1 FROM trimmed WHERE handle = ?", handle) is not None

    def journal_span(self, handle: bytes, covered: int) -> JournalSpan:
        """How far the journal of a handle reaches.

        Args:
            covered: the newest row that stored states cover.
        """
        sql = (
            "SELECT coalesce(max(n), 0), max(day), min(day) FILTER (WHERE n <= ?2),"
            " min(day) FILTER (WHERE n > ?2) FROM journal WHERE handle = ?1"
        )
        for newest_n, *days in self._connection.execute(sql, (handle, covered)):
            return JournalSpan(_int(newest_n), *(None if day is None else _int(day) for day in days))
        raise AssertionError("an aggregate has one row")

    def event_sizes(self, handle: bytes, upto: int, after: int, limit: int) -> list[tuple[int, int, int]]:
        """(n, day, bytes) of at most `limit` journal rows of a handle beyond row `after`, up to `upto`."""
        sql = (
            "SELECT n, day, length(sealed) FROM journal WHERE handle = ? AND n > ? AND n <= ?"
            " ORDER BY n LIMIT ?"
        )
        found = self._connection.execute(sql, (handle, after, upto, limit))
        return [(_int(n), _int(day), _int(size)) for n, day, size in found]

    def newest_day(self, handle: bytes) -> int | None:
        """The newest day bucket of anything under a handle; None when none is known."""
        each = " UNION ALL ".join(
            f"SELECT max(day) AS day FROM {table} WHERE handle = ?1" for table in PERSONAL_TABLES
        )
        return cast("int | None", self._value(f"SELECT nullif(max(day), 0) FROM ({each})", handle))

    def days(self, handle: bytes) -> dict[str, dict[int, int]]:
        """table -> day bucket -> rows of a handle; day 0 are those of which no day is known."""
        return {
            table: {
                _int(day): _int(rows)
                for day, rows in self._connection.execute(
                    f"SELECT day, count(*) FROM {table} WHERE handle = ? GROUP BY day", (handle,)
                )
            }
            for table in PERSONAL_TABLES
        }

    def state(self, handle: bytes, slot: bytes) -> bytes | None:
        """The sealed state in a slot of a handle."""
        return _maybe(self._value("SELECT sealed FROM state WHERE handle = ? AND slot = ?", handle, slot))

    def states(self, handle: bytes) -> list[tuple[bytes, bytes]]:
        """(slot, sealed) of everything stored as a state of a handle."""
        sql = "SELECT slot, sealed FROM state WHERE handle = ? ORDER BY slot"
        return [(_bytes(slot), _bytes(sealed)) for slot, sealed in self._connection.execute(sql, (handle,))]

    def state_day(self, handle: bytes, slot: bytes) -> int | None:
        """The day under which a state rests; None when there is none."""
        return cast(
            "int | None", self._value("SELECT day FROM state WHERE handle = ? AND slot = ?", handle, slot)
        )

    def state_days(self, handle: bytes, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        """(slot, day) of at most `limit` rows in the order of their slots, those beyond `after`."""
        sql = "SELECT slot, day FROM state WHERE handle = ? AND slot > ? ORDER BY slot LIMIT ?"
        return [
            (_bytes(slot), _int(day)) for slot, day in self._connection.execute(sql, (handle, after, limit))
        ]

    def personal_row(self, handle: bytes, slot: bytes) -> bytes | None:
        """The sealed server row in a slot of a handle."""
        return _maybe(self._value("SELECT sealed FROM personal WHERE handle = ? AND slot = ?", handle, slot))

    def personal_rows(self, handle: bytes) -> list[tuple[bytes, bytes]]:
        """(slot, sealed) of every server row of a handle."""
        sql = "SELECT slot, sealed FROM personal WHERE handle = ? ORDER BY slot"
        return [(_bytes(slot), _bytes(sealed)) for slot, sealed in self._connection.execute(sql, (handle,))]

    def personal_part(self, handle: bytes, after: bytes, limit: int) -> list[tuple[bytes, int, bytes]]:
        """(slot, day, sealed) of at most `limit` rows in the order of their slots, those beyond `after`."""
        sql = "SELECT slot, day, sealed FROM personal WHERE handle = ? AND slot > ? ORDER BY slot LIMIT ?"
        return [
            (_bytes(slot), _int(day), _bytes(sealed))
            for slot, day, sealed in self._connection.execute(sql, (handle, after, limit))
        ]

    def personal_rows_by_day(self, handle: bytes) -> list[tuple[int, bytes, bytes]]:
        """(day, slot, sealed) of every server row of a handle, oldest day first; day 0 is not known."""
        sql = "SELECT day, slot, sealed FROM personal WHERE handle = ? ORDER BY day, slot"
        return [
            (_int(day), _bytes(slot), _bytes(sealed))
            for day, slot, sealed in self._connection.execute(sql, (handle,))
        ]

    def answers(self, handle: bytes, slot: bytes) -> bytes | None:
        """The sealed answers remembered in a slot of a handle."""
        return _maybe(self._value("SELECT sealed FROM answer WHERE handle = ? AND slot = ?", handle, slot))

    def holds(self, handle: bytes) -> bool:
        """Whether anything hangs on a handle."""
        tables = (*PERSONAL_TABLES, "trimmed", "answer")
        each = " OR ".join(f"EXISTS(SELECT 1 FROM {table} WHERE handle = ?1)" for table in tables)
        return bool(self._value(f"SELECT {each}", handle))

    def handles(self) -> set[bytes]:
        """Every handle that any personal row hangs on; one index step per handle, not per row."""
        found: set[bytes] = set()
        places = [(table, "handle") for table in (*PERSONAL_TABLES, "trimmed", "answer")]
        for table, column in (*places, ("answer", "also"), ("answer", "outcome")):
            sql = (
                f"WITH RECURSIVE step(handle) AS (SELECT min({column}) FROM {table} UNION ALL"
                f" SELECT (SELECT min({column}) FROM {table} WHERE {column} > step.handle) FROM step"
                " WHERE step.handle IS NOT NULL) SELECT handle FROM step WHERE handle IS NOT NULL"
            )
            found.update(_bytes(handle) for (handle,) in self._connection.execute(sql))
        return found

    # ---- rows about nobody ------------------------------------------------------------------------------

    def row(self, entity: str, view: str, version: int) -> Row | None:
        """The newest row of an entity in a view version, whichever channel brought it."""
        sql = (
            f"SELECT {_ROW} FROM feature WHERE entity = ? AND view = ? AND version = ?"
            " ORDER BY event_time_us DESC, created_us DESC, seq DESC LIMIT 1"
        )
        for fields in self._connection.execute(sql, (entity, view, version)):
            return _row(fields)
        return None

    def rows_of_view(self, view: str, version: int) -> Iterator[Row]:
        """Every row of a view version; read it inside the transaction."""
        sql = f"SELECT {_ROW} FROM feature WHERE view = ? AND version = ?"
        for fields in self._connection.execute(sql, (view, version)):
            yield _row(fields)

    def rows(self) -> Iterator[Row]:
        """Every row about nobody; read it inside the transaction."""
        for fields in self._connection.execute(f"SELECT {_ROW} FROM feature"):
            yield _row(fields)

    def row_sizes(self, after: RowPlace | None, limit: int) -> list[RowSize]:
        """At most `limit` rows about nobody in the order of their places, those beyond `after`."""
        sql = (
            "SELECT entity, view, version, channel, event_time_us, used_day, length(vals) FROM feature"
            " WHERE (entity, view, version, channel) > (?, ?, ?, ?) ORDER BY entity, view, version, channel"
            " LIMIT ?"
        )
        found = self._connection.execute(sql, (*(after or ("", "", -1, "")), limit))
        return [
            RowSize(
                RowPlace(str(fields[0]), str(fields[1]), _int(fields[2]), str(fields[3])),
                *map(_int, fields[4:]),
            )
            for fields in found
        ]

    def rows_in_channel(self, channel: str) -> Iterator[tuple[Row, bytes]]:
        """(row, hash) of every row that a channel brought."""
        sql = f"SELECT {_ROW}, hash FROM feature WHERE channel = ?"
        for fields in self._connection.execute(sql, (channel,)):
            yield _row(fields[:-1]), _bytes(fields[-1])

    def places_in_channel(self, channel: str) -> Iterator[tuple[str, str, int, bytes]]:
        """(entity, view, version, hash) of every row that a channel brought."""
        sql = "SELECT entity, view, version, hash FROM feature WHERE channel = ?"
        found = self._connection.execute(sql, (channel,))
        return cast("Iterator[tuple[str, str, int, bytes]]", found)

    def channel(self, name: str) -> ChannelState | None:
        """How far this device is in a channel; None when it does not follow it."""
        sql = "SELECT cursor, digest, whole FROM channel WHERE name = ?"
        for fields in self._connection.execute(sql, (name,)):
            return _channel(*fields)
        return None

    def channels(self) -> dict[str, ChannelState]:
        """Every channel followed."""
        sql = "SELECT name, cursor, digest, whole FROM channel ORDER BY name"
        return {str(name): _channel(*fields) for name, *fields in self._connection.execute(sql)}

    # ---- decisions --------------------------------------------------------------------------------------

    def lane_position(self) -> int:
        """Newest lane position applied here; 0 at first."""
        raw = self.meta("lane")
        return 0 if raw is None else int.from_bytes(raw, "big")

    def lane_entry(self, subject: bytes, purpose: str) -> LaneEntry | None:
        """What the ledger last said of one (pseudonym, purpose)."""
        sql = (
            "SELECT seq, subject, purpose, state, live_grant, denial FROM lane"
            " WHERE subject = ? AND purpose = ?"
        )
        for fields in self._connection.execute(sql, (subject, purpose)):
            return LaneEntry(*fields)
        return None

    def lane_after(self, seq: int) -> list[LaneEntry]:
        """Every (pseudonym, purpose) whose state is of a later ledger position, in order."""
        sql = "SELECT seq, subject, purpose, state, live_grant, denial FROM lane WHERE seq > ? ORDER BY seq"
        return [LaneEntry(*fields) for fields in self._connection.execute(sql, (seq,))]

    def lane_denied_after(self, seq: int) -> list[LaneEntry]:
        """Every (pseudonym, purpose) whose newest denial is of a later ledger position."""
        sql = "SELECT seq, subject, purpose, state, live_grant, denial FROM lane WHERE denial > ?"
        return [LaneEntry(*fields) for fields in self._connection.execute(sql, (seq,))]

    def lane_in_state(self, purpose: str, states: Collection[str]) -> list[LaneEntry]:
        """Every (pseudonym, purpose) that the ledger last said is in one of `states`."""
        marks = ", ".join("?" * len(states))
        sql = (
            "SELECT seq, subject, purpose, state, live_grant, denial FROM lane"
            f" WHERE purpose = ? AND state IN ({marks})"
        )
        return [LaneEntry(*fields) for fields in self._connection.execute(sql, (purpose, *states))]

    def denials(self) -> list[bytes]:
        """The bodies of every denial known here."""
        return [_bytes(body) for (body,) in self._connection.execute("SELECT body FROM denial ORDER BY id")]

    def open_denials(self) -> list[bytes]:
        """The bodies of the denials whose erasure is not finished, whatever the number of all others."""
        sql = "SELECT body FROM denial WHERE open = 1 ORDER BY id"
        return [_bytes(body) for (body,) in self._connection.execute(sql)]

    def denial(self, id: bytes) -> bytes | None:
        """The body of one denial."""
        return _maybe(self._value("SELECT body FROM denial WHERE id = ?", id))

    # ---- sending and spending ---------------------------------------------------------------------------

    def outbox(self, kind: OutboxKind | None = None, limit: int = -1) -> list[OutboxItem]:
        """What waits for the server, oldest first; of one kind, or of all."""
        sql = "SELECT id, kind, payload FROM outbox WHERE ?1 IS NULL OR kind = ?1 ORDER BY n LIMIT ?2"
        return [
            OutboxItem(_bytes(id_), cast("OutboxKind", kind_), _bytes(payload))
            for id_, kind_, payload in self._connection.execute(sql, (kind, limit))
        ]

    def outbox_holding(self, kind: OutboxKind, part: bytes) -> list[OutboxItem]:
        """What waits and holds `part` somewhere in its payload, oldest first; reads out no other."""
        sql = "SELECT id, kind, payload FROM outbox WHERE kind = ? AND instr(payload, ?) ORDER BY n"
        return [
            OutboxItem(_bytes(id_), cast("OutboxKind", kind_), _bytes(payload))
            for id_, kind_, payload in self._connection.execute(sql, (kind, part))
        ]

    def outbox_item(self, kind: OutboxKind, id: bytes) -> bytes | None:
        """The payload of one waiting item."""
        return _maybe(self._value("SELECT payload FROM outbox WHERE kind = ? AND id = ?", kind, id))

    def spent(self, tag: bytes, window: int) -> int:
        """Micro-epsilon spent under a tag in a budget window."""
        return _int(self._value("SELECT spent FROM budget WHERE tag = ? AND win = ?", tag, window) or 0)

    def budget_rows(self) -> int:
        """How many debits and marks of rounds are kept."""
        return _int(self._value("SELECT count(*) FROM budget"))

    def meta(self, key: str) -> bytes | None:
        """One fact about this database."""
        return _maybe(self._value("SELECT value FROM meta WHERE key = ?", key))

    # ---- room -------------------------------------------------------------------------------------------

    def size(self) -> FileSize:
        """Bytes in use and bytes of the file; free pages are what `incremental_vacuum` gives back."""
        pages, free, page_bytes = (
            _int(self._connection.pragma(name)) for name in ("page_count", "freelist_count", "page_size")
        )
        return FileSize((pages - free) * page_bytes, pages * page_bytes)

    # ---- counting ---------------------------------------------------------------------------------------

    def rows_of(self, table: PlainTable) -> int:
        """How many rows a table without handles has."""
        return _int(self._value(f"SELECT count(*) FROM {table.name}"))

    def outbox_counts(self) -> dict[str, int]:
        """Kind -> how many wait."""
        found = self._connection.execute("SELECT kind, count(*) FROM outbox GROUP BY kind")
        return {str(kind): _int(count) for kind, count in found}

    def hashes_in_channel(self, channel: str) -> Iterator[bytes]:
        """The hash of every row that a channel brought."""
        for (row_hash,) in self._connection.execute("SELECT hash FROM feature WHERE channel = ?", (channel,)):
            yield _bytes(row_hash)

    # ---- soundness --------------------------------------------------------------------------------------

    def faults(self, limit: int, *, indexes: bool = False) -> list[str]:
        """What SQLite finds wrong, reading every page once; at most `limit` lines, none when all is well.

        Args:
            indexes: also compare every index with its table, which takes about twice as long.
        """
        pragma = "integrity_check" if indexes else "quick_check"
        found = [str(line) for (line,) in self._connection.execute(f"PRAGMA {pragma}({limit:d})")]
        lines = [part for text in found for part in text.splitlines() if part and part != "ok"]
        return [line for line in lines if not line.startswith("***")][:limit]

    def _value(self, sql: str, *arguments: str | int | bytes) -> object:
        return self._one.execute(sql, arguments).get


class _Foreign:
    """Stands where a connection stood that is another process's."""

    def __getattr__(self, name: str) -> NoReturn:
        raise foreign("database")


_ROW = "seq, entity, view, version, event_time_us, created_us, vals"


def _row(fields: tuple[object, ...]) -> Row:
    seq, entity, view, version, event_time_us, created_us, values = fields
    return Row(
        _int(seq),
        str(entity),
        str(view),
        _int(version),
        _int(event_time_us),
        _int(created_us),
        0,
        False,
        _bytes(values),
    )


def _channel(cursor: object, digest: object, whole: object) -> ChannelState:
    told = None if whole is None else bool(whole)
    return ChannelState(_int(cursor), int.from_bytes(_bytes(digest), "big"), told)


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


def _maybe(value: object) -> bytes | None:
    return None if value is None else _bytes(value)
