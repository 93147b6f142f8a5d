"""What can be changed in the cache inside a transaction. All writing SQL of the device is here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, cast

import apsw

from edge_runtime.cache.fetched_rows import FetchedRows
from edge_runtime.cache.plain_tables import PlainTable, Value
from edge_runtime.cache.records import LET_GO, OutboxKind, Placed, RowPlace, TableKey
from edge_runtime.cache.schema import PACKED, PERSONAL_TABLES
from edge_runtime.wire.messages import LaneEntry, Row

# Parameters by number, and short: of a statement run for many rows, apsw looks at the text for each.
_UPSERT: Final = (
    "INSERT INTO feature(entity, view, version, channel, seq, event_time_us, created_us, vals, hash,"
    " used_day) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO UPDATE SET seq = ?5,"
    " event_time_us = ?6, created_us = ?7, vals = ?8, hash = ?9, used_day = ?10 WHERE"
)
_NEWER: Final = "(?6, ?7, ?5) >= (event_time_us, created_us, seq)"
_PUT_ROW: Final = f"{_UPSERT} {_NEWER}"
_PUT_ROWS: Final = f"{_UPSERT} CASE WHEN {_NEWER} THEN leaves(?11, hash) ELSE NOT leaves(?11, ?9) END"


class WriteTransaction(FetchedRows):
    """Changes that become durable together; made by `Database.write()`."""

    # ---- events and states under a handle ---------------------------------------------------------------

    def append_events(self, rows: Iterable[tuple[bytes, int, bytes]]) -> int:
        """Append (handle, day, sealed) events in order; returns the `n` of the first, 0 for none."""
        before = self._value("SELECT seq FROM sqlite_sequence WHERE name = 'journal'") or 0
        assert isinstance(before, int)
        self._connection.executemany("INSERT INTO journal(handle, day, sealed) VALUES(?, ?, ?)", rows)
        after = self._value("SELECT seq FROM sqlite_sequence WHERE name = 'journal'") or 0
        return before + 1 if after != before else 0

    def drop_events(self, handle: bytes, upto: int, keep_from_day: int | None = None) -> int:
        """Drop a handle's events up to row `upto`, except those of `keep_from_day` and later."""
        sql = "DELETE FROM journal WHERE handle = ?1 AND n <= ?2 AND (?3 IS NULL OR day < ?3)"
        self._connection.execute(sql, (handle, upto, keep_from_day))
        dropped = self._connection.changes()
        if dropped:
            self.mark_trimmed(handle, upto)
        return dropped

    def drop_some_events(self, handle: bytes, upto: int, keep_from_day: int, limit: int) -> int:
        """As `drop_events`, at most `limit` of them, in order; returns how many."""
        sql = (
            "DELETE FROM journal WHERE n IN (SELECT n FROM journal"
            " WHERE handle = ? AND n <= ? AND day < ? ORDER BY n LIMIT ?)"
        )
        self._connection.execute(sql, (handle, upto, keep_from_day, limit))
        dropped = self._connection.changes()
        if dropped:
            self.mark_trimmed(handle, upto)
        return dropped

    def drop_events_at(self, handle: bytes, rows: Sequence[int]) -> int:
        """Drop these journal rows of a handle; returns how many were there."""
        before = self._connection.total_changes()
        sql = "DELETE FROM journal WHERE handle = ? AND n = ?"
        self._connection.executemany(sql, ((handle, n) for n in rows))
        dropped = self._connection.total_changes() - before
        if dropped:
            self.mark_trimmed(handle, max(rows))
        return dropped

    def mark_trimmed(self, handle: bytes, upto: int) -> None:
        """The journal of a handle does not tell all that came up to row `upto`."""
        sql = "INSERT INTO trimmed(handle, n) VALUES(?, ?) ON CONFLICT DO UPDATE SET n = max(n, excluded.n)"
        self._connection.execute(sql, (handle, upto))

    def drop_trimmed(self, handle: bytes) -> bool:
        """Nothing is missing in the journal of a handle any more; whether something was."""
        self._connection.execute("DELETE FROM trimmed WHERE handle = ?", (handle,))
        return self._connection.changes() > 0

    def put_state(self, handle: bytes, slot: bytes, day: int, sealed: bytes) -> None:
        """Store a session state, replacing the one in its slot.

        Args:
            day: of the newest event in it, days since 1970; 0 for what is no state or has no day.
        """
        sql = (
            "INSERT INTO state(handle, slot, day, sealed) VALUES(?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET day = excluded.day, sealed = excluded.sealed"
        )
        self._connection.execute(sql, (handle, slot, day, sealed))

    def stamp_state(self, handle: bytes, slot: bytes, day: int) -> None:
        """Say under which day a state rests."""
        self._connection.execute(
            "UPDATE state SET day = ? WHERE handle = ? AND slot = ?", (day, handle, slot)
        )

    def drop_state(self, handle: bytes, slot: bytes) -> bool:
        """Delete the session state in a slot; whether there was one."""
        self._connection.execute("DELETE FROM state WHERE handle = ? AND slot = ?", (handle, slot))
        return self._connection.changes() > 0

    def put_personal_row(self, handle: bytes, slot: bytes, day: int, sealed: bytes) -> None:
        """Store a server row of a subject, replacing the one in its slot."""
        self.put_personal_rows(handle, [(slot, day, sealed)])

    def put_personal_rows(self, handle: bytes, rows: Iterable[tuple[bytes, int, bytes]]) -> None:
        """Store (slot, day, sealed) server rows of a subject, each replacing the one in its slot."""
        sql = (
            "INSERT INTO personal(handle, slot, day, sealed) VALUES(?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET day = excluded.day, sealed = excluded.sealed"
        )
        # a list: being resumed for each row from inside the statement would cost a generator dearly
        self._connection.executemany(sql, [(handle, slot, day, sealed) for slot, day, sealed in rows])

    def delete_personal_row(self, handle: bytes, slot: bytes) -> bool:
        """Delete a server row of a subject; whether there was one."""
        self._connection.execute("DELETE FROM personal WHERE handle = ? AND slot = ?", (handle, slot))
        return self._connection.changes() > 0

    def forget(self, handle: bytes) -> dict[str, int]:
        """Delete everything that hangs on a handle: table -> rows. Samples that `ANALYZE` took go too."""
        counts = {}
        for table in PERSONAL_TABLES:
            self._connection.execute(f"DELETE FROM {table} WHERE handle = ?", (handle,))
            counts[table] = self._connection.changes()
        counts["answer"] = self.drop_answers(handle)
        self._connection.execute("DELETE FROM trimmed WHERE handle = ?", (handle,))
        self._forget_samples()
        return counts

    def _forget_samples(self) -> None:
        """Statistics of tables hold keys of some of their rows; we make none, but somebody may have."""
        sql = "SELECT name FROM sqlite_schema WHERE name GLOB 'sqlite_stat[0-9]'"
        for (name,) in self._connection.execute(sql).fetchall():
            self._connection.execute(f"DELETE FROM {name}")

    def forget_unknown(self, known: Collection[bytes]) -> dict[str, int]:
        """Delete everything that hangs on a handle not among `known`: table -> rows."""
        totals = dict.fromkeys((*PERSONAL_TABLES, "answer"), 0)
        for handle in self.handles() - set(known):
            for table, rows in self.forget(handle).items():
                totals[table] += rows
        return totals

    def put_answer(self, handle: bytes, slot: bytes, also: bytes, outcome: bytes, sealed: bytes) -> None:
        """Remember the noised answers in a slot of a handle, replacing those remembered there.

        Args:
            also, outcome: handles of the other keys that seal them; of fewer keys, one of those again.
        """
        sql = (
            "INSERT INTO answer(handle, slot, also, outcome, sealed) VALUES(?, ?, ?, ?, ?) ON CONFLICT DO"
            " UPDATE SET also = excluded.also, outcome = excluded.outcome, sealed = excluded.sealed"
        )
        self._connection.execute(sql, (handle, slot, also, outcome, sealed))

    def drop_answers(self, handle: bytes, *, of_its_values: bool = False) -> int:
        """Forget the answers that are sealed under a handle's key, alone or with another; returns the rows.

        Args:
            of_its_values: only those that were drawn from values under this handle.
        """
        where = "handle = ?1" if of_its_values else "handle = ?1 OR also = ?1 OR outcome = ?1"
        self._connection.execute(f"DELETE FROM answer WHERE {where}", (handle,))
        return self._connection.changes()

    # ---- rows about nobody ------------------------------------------------------------------------------

    def put_row(self, channel: str, row: Row, hash: bytes, day: int) -> Placed:
        """Store a row that a channel brought, unless the one held there is newer; a stub is a row too.

        Newer is the later event time, of equal ones the later created, then the higher seq.

        Args:
            day: today, days since 1970: when it was last brought.
        """
        before = self._hash(channel, row.entity, row.view, row.version)
        times = row.event_time_us, row.created_us
        place = row.entity, row.view, row.version, channel
        self._connection.execute(_PUT_ROW, (*place, row.seq, *times, row.values, hash, day))
        return Placed(self._connection.changes() > 0, before)

    def put_rows(
        self, channel: str, rows: Sequence[Row], hashes: Sequence[bytes], day: int
    ) -> tuple[int, list[bytes]]:
        """As `put_row` one after another; returns how many were stored, and the hashes that do not stand.

        Those are of the rows that were replaced, and of those that were not stored.
        """
        gone = list[bytes]()
        into, before = apsw.pyobject(gone), self._connection.total_changes()
        columns = [
            (
                *(row.entity, row.view, row.version, channel, row.seq),
                *(row.event_time_us, row.created_us, row.values, hash, day, into),
            )
            for row, hash in zip(rows, hashes, strict=True)
        ]
        self._connection.executemany(_PUT_ROWS, columns)
        return self._connection.total_changes() - before, gone

    def touch_rows(self, rows: Iterable[tuple[str, str, int]], day: int) -> None:
        """Note that rows of these (entity, view, version) were read on `day`; an earlier day changes none."""
        sql = (
            "UPDATE feature SET used_day = ?4"
            " WHERE entity = ?1 AND view = ?2 AND version = ?3 AND used_day < ?4"
        )
        self._connection.executemany(sql, ((*row, day) for row in rows))

    def let_go_rows(self, places: Iterable[RowPlace]) -> int:
        """Drop the values of rows about nobody; times and hash stay, stubs as they are. Returns how many."""
        sql = (
            "UPDATE feature SET vals = ?5 WHERE entity = ?1 AND view = ?2 AND version = ?3 AND channel = ?4"
            " AND length(vals) > length(?5)"
        )
        before = self._connection.total_changes()
        self._connection.executemany(sql, ((*place, LET_GO) for place in places))
        return self._connection.total_changes() - before

    def delete_row(self, channel: str, entity: str, view: str, version: int) -> bytes | None:
        """Delete a row of a channel; returns its hash, None when it was not there."""
        old = self._hash(channel, entity, view, version)
        if old is not None:
            sql = "DELETE FROM feature WHERE entity = ? AND view = ? AND version = ? AND channel = ?"
            self._connection.execute(sql, (entity, view, version, channel))
        return old

    def set_channel(self, name: str, cursor: int, digest: int, *, stays_whole: bool = False) -> None:
        """Move a channel's cursor and digest, or begin to follow it.

        Args:
            stays_whole: whether what was known of `ChannelState.whole` is known still.
        """
        sql = (
            "INSERT INTO channel(name, cursor, digest) VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE"
            " SET cursor = excluded.cursor, digest = excluded.digest, whole = iif(?4, whole, NULL)"
        )
        self._connection.execute(sql, (name, cursor, digest.to_bytes(16, "big"), stays_whole))

    def set_whole(self, name: str, whole: bool | None) -> None:
        """Say of a channel that is followed whether it is whole; see `ChannelState.whole`."""
        self._connection.execute("UPDATE channel SET whole = ? WHERE name = ?", (whole, name))

    def clear_channel(self, name: str) -> int:
        """Delete the rows a channel brought (before a replacing snapshot); the cursor stays."""
        self._connection.execute("DELETE FROM feature WHERE channel = ?", (name,))
        return self._connection.changes()

    def drop_channel(self, name: str) -> int:
        """Delete a channel's rows and cursor; returns the rows removed."""
        removed = self.clear_channel(name)
        self._connection.execute("DELETE FROM channel WHERE name = ?", (name,))
        return removed

    def forget_channels(self) -> None:
        """Delete every row about nobody, and every channel's cursor."""
        self._connection.execute("DELETE FROM feature")
        self._connection.execute("DELETE FROM channel")

    # ---- decisions --------------------------------------------------------------------------------------

    def set_lane_position(self, position: int) -> None:
        """Everything up to this lane position is enforced here."""
        self.set_meta("lane", position.to_bytes(8, "big"))

    def put_lane(self, entries: Iterable[LaneEntry]) -> None:
        """Store what the ledger says of each (subject, purpose); an older position never replaces a newer."""
        sql = (
            "INSERT INTO lane(seq, subject, purpose, state, live_grant, denial) VALUES(?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET seq = excluded.seq, state = excluded.state,"
            " live_grant = excluded.live_grant, denial = excluded.denial WHERE excluded.seq >= lane.seq"
        )
        rows = [(e.seq, e.subject, e.purpose, e.state, e.grant, e.denial) for e in entries]
        self._connection.executemany(sql, rows)

    def drop_lane(self, pairs: Iterable[tuple[bytes, str]]) -> None:
        """Forget what the ledger said of these (pseudonym, purpose)."""
        self._connection.executemany("DELETE FROM lane WHERE subject = ? AND purpose = ?", list(pairs))

    def put_denial(self, id: bytes, body: bytes, open: bool) -> None:
        """Store a denial, replacing what was known of it.

        Args:
            open: whether the erasure it asks for is still to be finished.
        """
        sql = (
            "INSERT INTO denial(id, body, open) VALUES(?, ?, ?)"
            " ON CONFLICT DO UPDATE SET body = excluded.body, open = excluded.open"
        )
        self._connection.execute(sql, (id, body, int(open)))

    def drop_denial(self, id: bytes) -> None:
        """Forget a denial that a newer decision replaced."""
        self._connection.execute("DELETE FROM denial WHERE id = ?", (id,))

    def forget_authority(self) -> None:
        """Drop everything that an earlier identity's server said or was to be told: nobody answers for it.

        Spent budget and other facts stay.
        """
        for table in ("feature", "channel", "lane", "denial", "outbox"):
            self._connection.execute(f"DELETE FROM {table}")
        self._connection.execute("DELETE FROM meta WHERE key IN ('lane', 'lease', 'sync.restores')")

    # ---- sending and spending ---------------------------------------------------------------------------

    def enqueue(self, kind: OutboxKind, id: bytes, payload: bytes) -> None:
        """Queue something for the server; the same (kind, id) again only takes the new payload."""
        sql = (
            "INSERT INTO outbox(kind, id, payload) VALUES(?, ?, ?)"
            " ON CONFLICT DO UPDATE SET payload = excluded.payload"
        )
        self._connection.execute(sql, (kind, id, payload))

    def settle(self, id: bytes, kind: OutboxKind | None = None) -> bool:
        """The server has it: drop an item from the outbox; whether it was there."""
        self._connection.execute("DELETE FROM outbox WHERE id = ?1 AND (?2 IS NULL OR kind = ?2)", (id, kind))
        return self._connection.changes() > 0

    def debit(self, tag: bytes, window: int, amount: int) -> None:
        """Spend `amount` micro-epsilon under a tag in a budget window."""
        sql = (
            "INSERT INTO budget(tag, win, spent) VALUES(?, ?, ?)"
            " ON CONFLICT DO UPDATE SET spent = spent + excluded.spent"
        )
        self._connection.execute(sql, (tag, window, amount))

    def drop_budget_before(self, window: int) -> int:
        """Forget what was spent in windows that are over."""
        self._connection.execute("DELETE FROM budget WHERE win < ?", (window,))
        return self._connection.changes()

    def set_meta(self, key: str, value: bytes) -> None:
        """Store one fact about this database."""
        sql = "INSERT INTO meta(key, value) VALUES(?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
        self._connection.execute(sql, (key, value))

    def drop_meta(self, key: str) -> None:
        """Forget one fact."""
        self._connection.execute("DELETE FROM meta WHERE key = ?", (key,))

    # ---- a database that is rebuilt ---------------------------------------------------------------------

    def put_event(self, n: int, handle: bytes, day: int, sealed: bytes) -> None:
        """Put an event back under the number it had; what has that number stays."""
        sql = "INSERT OR IGNORE INTO journal(n, handle, day, sealed) VALUES(?, ?, ?, ?)"
        self._connection.execute(sql, (n, handle, day, sealed))

    def set_newest_row(self, n: int) -> None:
        """No event gets a number up to `n` any more."""
        self._connection.execute("DELETE FROM sqlite_sequence WHERE name = 'journal'")
        self._connection.execute("INSERT INTO sqlite_sequence(name, seq) VALUES('journal', ?)", (n,))

    def put_plain(self, table: PlainTable, rows: Iterable[Sequence[Value]]) -> int:
        """Put rows back as they were, returns how many; what stands under the same key stays."""
        columns = [column.name for column in table.columns]
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT OR IGNORE INTO {table.name}({', '.join(columns)}) VALUES({marks})"
        before = self._connection.total_changes()
        self._connection.executemany(sql, rows)
        return self._connection.total_changes() - before

    def clear_plain(self, table: PlainTable) -> None:
        """Delete every row of a table."""
        self._connection.execute(f"DELETE FROM {table.name}")

    # ---- room -------------------------------------------------------------------------------------------

    def incremental_vacuum(self, pages: int) -> int:
        """Give at most `pages` free pages at the end of the file back to the disk; returns how many.

        A file that was made without `auto_vacuum = incremental` keeps them.
        """
        before = self._connection.pragma("page_count")
        for _ in self._connection.execute(f"PRAGMA incremental_vacuum({pages:d})"):
            pass
        after = self._connection.pragma("page_count")
        assert isinstance(before, int)
        assert isinstance(after, int)
        return before - after

    def pack(self, table: str, after: TableKey | None, limit: int, limit_bytes: int) -> TableKey | None:
        """Write neighbouring rows of a table anew, in order, so that they stand close on its pages.

        Rows that became shorter, or went, leave holes that only their neighbours can fill; a page counts as
        used for one row as for twenty.

        Args:
            table: one of `PACKED`.
            after: the key that the last call returned; None to begin.
            limit, limit_bytes: at most so many rows, and no further one beyond so many bytes.

        Returns the key of the last row, None when none was left.
        """
        names = PACKED[table]
        key, marks, width = ", ".join(names), ", ".join("?" * len(names)), len(names)
        where = "" if after is None else f"WHERE ({key}) > ({marks})"
        sql = f"SELECT {key}, * FROM {table} {where} ORDER BY {key} LIMIT {limit:d}"
        found, rows, size = self._connection.execute(sql, after or ()), [], 0
        for row in found:
            rows.append(row)
            size += sum(len(one) for one in row[width:] if isinstance(one, (bytes, str)))
            if size >= limit_bytes:
                break
        found.close()
        if not rows:
            return None
        first, last = rows[0][:width], rows[-1][:width]
        sql = f"DELETE FROM {table} WHERE ({key}) >= ({marks}) AND ({key}) <= ({marks})"
        self._connection.execute(sql, (*first, *last))
        columns = ", ".join("?" * (len(rows[0]) - width))
        sql = f"INSERT INTO {table} VALUES({columns})"
        self._connection.executemany(sql, (row[width:] for row in rows))
        return cast("TableKey", last)

    def _hash(self, channel: str, entity: str, view: str, version: int) -> bytes | None:
        sql = "SELECT hash FROM feature WHERE entity = ? AND view = ? AND version = ? AND channel = ?"
        found = self._value(sql, entity, view, version, channel)
        assert found is None or isinstance(found, bytes)
        return found
