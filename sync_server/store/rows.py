"""Feature rows: current state, one row per (entity, view, version), wherever it stands."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from edge_runtime.wire.messages import Row
from sync_server.store.keys import KeyDatabase
from sync_server.store.payload import open_payload, seal_payload
from sync_server.store.placements import PlacementReads, PlacementWrites
from sync_server.store.records import RowState

_COLUMNS: Final = (
    "id, entity, view, version, event_time_us, created_us, grant_seq, deleted, payload, subject, purpose,"
    " lineage, use, used_us"
)


class RowReads(PlacementReads):
    """Questions about rows."""

    def row_state(self, entity: str, view: str, version: int) -> RowState | None:
        """What is there of one row, deletes included; None when nothing was ever written."""
        found = self.execute(
            f"SELECT {_COLUMNS} FROM rows WHERE entity = ? AND view = ? AND version = ?",
            (entity, view, version),
        ).fetchone()
        return None if found is None else self._state(found)

    def rows_of_entity(self, entity: str) -> list[RowState]:
        """Every row about one entity (as its rows are keyed), deletes left out."""
        found = self.execute(
            f"SELECT {_COLUMNS} FROM rows WHERE entity = ? AND deleted = 0 ORDER BY view, version", (entity,)
        )
        return [self._state(row) for row in found]

    def rows_of_subject(self, subject: bytes, after: int, limit: int) -> list[RowState]:
        """At most `limit` personal rows of a subject by id, from the one after `after`; deletes left out."""
        found = self.execute(
            f"SELECT {_COLUMNS} FROM rows WHERE subject = ? AND id > ? AND deleted = 0 ORDER BY id LIMIT ?",
            (subject, after, limit),
        )
        return [self._state(row) for row in found]

    def rows_after(self, row_id: int, limit: int) -> list[RowState]:
        """At most `limit` rows by id, from the one after `row_id`, deletes included."""
        found = self.execute(f"SELECT {_COLUMNS} FROM rows WHERE id > ? ORDER BY id LIMIT ?", (row_id, limit))
        return [self._state(row) for row in found]

    def count_rows(self) -> int:
        """Rows held, deletes left out."""
        return int(self.execute("SELECT count(*) FROM rows WHERE deleted = 0").fetchone()[0])

    def _state(self, found: tuple[Any, ...]) -> RowState:
        id_, entity, view, version, event_us, created_us, grant, deleted, payload = found[:9]
        subject, purpose, lineage, use, used_us = found[9:]
        values = payload
        if subject is not None:
            values = open_payload(self._keys, (entity, view, version, subject, purpose, grant), payload)
        return RowState(
            *(id_, entity, view, version, event_us, created_us, bool(deleted), values, grant),
            *(subject, purpose, len(payload), lineage, use, used_us),
        )


class RowWrites(RowReads, PlacementWrites):
    """Changes of rows."""

    def __init__(self, connection: sqlite3.Connection, keys: KeyDatabase, digest_key: bytes) -> None:
        super().__init__(connection, keys, digest_key)
        self._lineages: Counter[int] = Counter()

    def put_row(
        self, channel: str, row: Row, subject: bytes | None = None, purpose: str | None = None
    ) -> int:
        """Make `row` the current state of its (entity, view, version), in `channel` only; returns its seq."""
        standing = self.row_state(row.entity, row.view, row.version)
        self.write_row(standing, row, (channel,), subject, purpose)
        return self.channel_state(channel).seq

    def write_row(
        self,
        standing: RowState | None,
        row: Row,
        channels: Sequence[str],
        subject: bytes | None = None,
        purpose: str | None = None,
        *,
        lineage: int = 0,
        use: float = 0,
    ) -> None:
        """Make `row` the current state of its (entity, view, version), standing in exactly `channels`.

        Args:
            standing: what `row_state` said in this transaction.
            row: its `seq` is ignored; a delete carries no values.
            subject, purpose: of a personal row, whose payload is then sealed under (subject, purpose, grant).
            lineage: the job that wrote it; 0 for not known.
            use: decayed count at the row's created time.
        """
        payload = seal_payload(self._keys, row, subject, purpose)
        now_us = row.created_us
        state = (row.event_time_us, now_us, row.grant, row.deleted, payload, lineage, use, now_us)
        if standing is None:
            row_id = self._insert(row, subject, purpose, state)
        else:
            row_id = standing.id
            self._lineages[standing.lineage] -= 1
            self._update(standing, subject, purpose, state)
        self._lineages[lineage] += 1
        size, new = _size(row.entity, len(payload)), standing is None
        self.place(row_id, row, size, channels, now_us, changed=True, new=new)

    def move_row(self, standing: RowState, channels: Sequence[str], now_us: int) -> None:
        """Let a row that is not deleted stand in exactly `channels`; the row itself stays as it is."""
        assert not standing.deleted
        row = Row(
            *(0, standing.entity, standing.view, standing.version, standing.event_time_us),
            *(standing.created_us, standing.grant, False, standing.values),
        )
        size = _size(standing.entity, standing.stored_bytes)
        self.place(standing.id, row, size, channels, now_us, changed=False)

    def drop_personal(self, subject: bytes, purpose: str) -> int:
        """Remove every row of the pair, tombstones too; its channel starts anew. Returns how many rows."""
        rows = self.execute(
            "SELECT id, lineage FROM rows WHERE subject = ? AND purpose = ?", (subject, purpose)
        ).fetchall()
        self.drop_placements(row_id for row_id, _ in rows)
        self._lineages.subtract(lineage for _, lineage in rows)
        self.execute("DELETE FROM rows WHERE subject = ? AND purpose = ?", (subject, purpose))
        return len(rows)

    def drop_deletes(self, before_us: int, limit: int = 1_000_000) -> int:
        """Forget at most `limit` deletes older than `before_us`; cursors below them then get a snapshot.

        Returns how many: rows that were deleted, and places that rows left.
        """
        left = self.drop_left(before_us, limit)
        if left == limit:  # rows after their last place
            return left
        old = self.execute(
            "SELECT id, lineage FROM rows WHERE deleted = 1 AND created_us < ?"
            " AND NOT EXISTS (SELECT 1 FROM placements WHERE row = rows.id) LIMIT ?",
            (before_us, limit),
        ).fetchall()
        self._lineages.subtract(lineage for _, lineage in old)
        self.execute_many("DELETE FROM rows WHERE id = ?", [(row_id,) for row_id, _ in old])
        return max(left, len(old))

    def drop_keyless(self) -> int:
        """Remove personal rows whose key is gone, as after a restore of the main store; returns how many."""
        triples = self.execute(
            "SELECT DISTINCT subject, purpose, grant_seq FROM rows WHERE subject IS NOT NULL AND deleted = 0"
        ).fetchall()
        pairs = {(s, p) for s, p, grant in triples if self._keys.find(s, p, grant) is None}
        return sum(self.drop_personal(subject, purpose) for subject, purpose in sorted(pairs))

    def settle_rows(self) -> frozenset[str]:
        """Write heads, sequences and counts, when the transaction ends; returns the channels that moved."""
        self.execute_many(
            "UPDATE lineages SET rows = rows + ? WHERE id = ?",
            [(change, lineage) for lineage, change in self._lineages.items() if change and lineage],
        )
        return self.settle_channels()

    def _insert(self, row: Row, subject: bytes | None, purpose: str | None, state: tuple[object, ...]) -> int:
        made = self.execute(
            "INSERT INTO rows (entity, view, version, subject, purpose, event_time_us, created_us, grant_seq,"
            " deleted, payload, lineage, use, used_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row.entity, row.view, row.version, subject, purpose, *state),
        )
        assert made.lastrowid is not None
        return made.lastrowid

    def _update(
        self, standing: RowState, subject: bytes | None, purpose: str | None, state: tuple[object, ...]
    ) -> None:
        """Whose a row is changes only when its view's purpose did; its index is left alone otherwise."""
        columns = (
            "event_time_us = ?, created_us = ?, grant_seq = ?, deleted = ?, payload = ?, lineage = ?,"
            " use = ?, used_us = ?"
        )
        if (standing.subject, standing.purpose) == (subject, purpose):
            self.execute(f"UPDATE rows SET {columns} WHERE id = ?", (*state, standing.id))
            return
        self.execute(
            f"UPDATE rows SET {columns}, subject = ?, purpose = ? WHERE id = ?",
            (*state, subject, purpose, standing.id),
        )


def _size(entity: str, payload_bytes: int) -> int:
    return len(entity.encode()) + payload_bytes
