"""What can be asked of the cache inside a transaction. All reading SQL of the device is here."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import cast

import apsw

from edge_runtime.cache.records import ChannelState, OutboxItem, OutboxKind
from edge_runtime.cache.schema import PERSONAL_TABLES
from edge_runtime.wire.messages import LaneEntry, Row


class ReadTransaction:
    """A look at the tables; made by `Database.read()`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

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

    def newest_day(self, handle: bytes) -> int | None:
        """The newest day bucket of anything under a handle; None when nothing carries one."""
        sql = (
            "SELECT max(day) FROM (SELECT max(day) AS day FROM journal WHERE handle = ?1"
            " UNION ALL SELECT max(day) FROM personal WHERE handle = ?1)"
        )
        return cast("int | None", self._value(sql, handle))

    def state(self, handle: bytes, slot: bytes) -> bytes | None:
        """The sealed state in a slot of a handle."""
        return _maybe(self._value("SELECT sealed FROM state WHERE handle = ? AND slot = ?", handle, slot))

    def states(self, handle: bytes) -> list[tuple[bytes, bytes]]:
        """(slot, sealed) of everything stored as a state of a handle."""
        sql = "SELECT slot, sealed FROM state WHERE handle = ? ORDER BY slot"
        return [(_bytes(slot), _bytes(sealed)) for slot, sealed in self._connection.execute(sql, (handle,))]

    def personal_row(self, handle: bytes, slot: bytes) -> bytes | None:
        """The sealed server row in a slot of a handle."""
        return _maybe(self._value("SELECT sealed FROM personal WHERE handle = ? AND slot = ?", handle, slot))

    def personal_rows(self, handle: bytes) -> list[tuple[bytes, bytes]]:
        """(slot, sealed) of every server row of a handle."""
        sql = "SELECT slot, sealed FROM personal WHERE handle = ? ORDER BY slot"
        return [(_bytes(slot), _bytes(sealed)) for slot, sealed in self._connection.execute(sql, (handle,))]

    def handles(self) -> set[bytes]:
        """Every handle that any personal row hangs on; one index step per handle, not per row."""
        found: set[bytes] = set()
        for table in (*PERSONAL_TABLES, "trimmed"):
            sql = (
                f"WITH RECURSIVE step(handle) AS (SELECT min(handle) FROM {table} UNION ALL"
                f" SELECT (SELECT min(handle) FROM {table} WHERE handle > step.handle) FROM step"
                " WHERE step.handle IS NOT NULL) SELECT handle FROM step WHERE handle IS NOT NULL"
            )
            found.update(_bytes(handle) for (handle,) in self._connection.execute(sql))
        return found

    # ---- rows about nobody ------------------------------------------------------------------------------

    def row(self, entity: str, view: str, version: int) -> Row | None:
        """The newest row of an entity in a view version, whichever channel brought it."""
        sql = (
            f"SELECT {_ROW} FROM feature WHERE entity = ? AND view = ? AND version = ?"
            " ORDER BY created_us DESC, seq DESC LIMIT 1"
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

    def rows_in_channel(self, channel: str) -> Iterator[tuple[Row, bytes]]:
        """(row, hash) of every row that a channel brought."""
        sql = f"SELECT {_ROW}, hash FROM feature WHERE channel = ?"
        for fields in self._connection.execute(sql, (channel,)):
            yield _row(fields[:-1]), _bytes(fields[-1])

    def channel(self, name: str) -> ChannelState | None:
        """How far this device is in a channel; None when it does not follow it."""
        for cursor, digest in self._connection.execute(
            "SELECT cursor, digest FROM channel WHERE name = ?", (name,)
        ):
            return ChannelState(_int(cursor), int.from_bytes(_bytes(digest), "big"))
        return None

    def channels(self) -> dict[str, ChannelState]:
        """Every channel followed."""
        sql = "SELECT name, cursor, digest FROM channel ORDER BY name"
        return {
            str(name): ChannelState(_int(cursor), int.from_bytes(_bytes(digest), "big"))
            for name, cursor, digest in self._connection.execute(sql)
        }

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

    # ---- sending and spending ---------------------------------------------------------------------------

    def outbox(self, kind: OutboxKind | None = None, limit: int = -1) -> list[OutboxItem]:
        """What waits for the server, oldest first; of one kind, or of all."""
        sql = "SELECT id, kind, payload FROM outbox WHERE ?1 IS NULL OR kind = ?1 ORDER BY n LIMIT ?2"
        return [
            OutboxItem(_bytes(id_), cast("OutboxKind", kind_), _bytes(payload))
            for id_, kind_, payload in self._connection.execute(sql, (kind, limit))
        ]

    def outbox_item(self, kind: OutboxKind, id: bytes) -> bytes | None:
        """The payload of one waiting item."""
        return _maybe(self._value("SELECT payload FROM outbox WHERE kind = ? AND id = ?", kind, id))

    def spent(self, tag: bytes, window: int) -> int:
        """Micro-epsilon spent under a tag in a budget window."""
        return _int(self._value("SELECT spent FROM budget WHERE tag = ? AND win = ?", tag, window) or 0)

    def meta(self, key: str) -> bytes | None:
        """One fact about this database."""
        return _maybe(self._value("SELECT value FROM meta WHERE key = ?", key))

    def _value(self, sql: str, *arguments: str | int | bytes) -> object:
        for fields in self._connection.execute(sql, arguments):
            return fields[0]
        return None


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


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


def _maybe(value: object) -> bytes | None:
    return None if value is None else _bytes(value)
