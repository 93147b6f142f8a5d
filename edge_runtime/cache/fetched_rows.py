"""Rows that this device asked for, beside those that channels bring: what can be changed of the two apart.

Rows about nobody stand under `ON_DEMAND` in the place of a channel. Sealed ones stand in slots of their own,
one byte longer than the others.
"""

from __future__ import annotations

from typing import Final

from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.records import LET_GO, ON_DEMAND
from edge_runtime.wire.messages import Row

FETCHED_SLOT_BYTES: Final = 17
"""Length of the slot of a sealed row that was asked for; every other slot has 16."""


class FetchedRows(ReadTransaction):
    """Changes that tell rows on demand from rows of channels."""

    def clear_personal_rows(self, handle: bytes, *, fetched: bool = False) -> int:
        """Delete every row that the channel of a handle brought, and where it stands; returns how many.

        Args:
            fetched: also those that were asked for.
        """
        sql = "DELETE FROM personal WHERE handle = ? AND (? OR length(slot) != ?)"
        self._connection.execute(sql, (handle, fetched, FETCHED_SLOT_BYTES))
        return self._connection.changes()

    def clear_fetched(self, handle: bytes) -> int:
        """Delete every sealed row of a handle that was asked for; returns how many."""
        sql = "DELETE FROM personal WHERE handle = ? AND length(slot) = ?"
        self._connection.execute(sql, (handle, FETCHED_SLOT_BYTES))
        return self._connection.changes()

    def delete_older_fetched(self, row: Row) -> bool:
        """A channel says that a row about nobody is gone: so is the one asked for, unless it is newer."""
        sql = (
            "DELETE FROM feature WHERE entity = ? AND view = ? AND version = ? AND channel = ?"
            " AND (event_time_us, created_us, seq) <= (?, ?, ?)"
        )
        place = (row.entity, row.view, row.version, ON_DEMAND)
        self._connection.execute(sql, (*place, row.event_time_us, row.created_us, row.seq))
        return self._connection.changes() > 0

    def trim_fetched(self, limit: int) -> list[tuple[str, str, int]]:
        """Keep at most `limit` rows about nobody that were asked for; returns (entity, view, version) gone.

        First those go that were not used for longest; of one day, those whose values went before.
        """
        held = self._value("SELECT count(*) FROM feature WHERE channel = ?", ON_DEMAND)
        assert isinstance(held, int)
        if held <= limit:
            return []
        sql = (
            "SELECT entity, view, version FROM feature WHERE channel = ?"
            " ORDER BY used_day, vals != ?, max(event_time_us, created_us) LIMIT ?"
        )
        found = self._connection.execute(sql, (ON_DEMAND, LET_GO, held - limit)).fetchall()
        gone = [(str(entity), str(view), int(str(version))) for entity, view, version in found]
        self._connection.executemany(
            "DELETE FROM feature WHERE entity = ? AND view = ? AND version = ? AND channel = ?",
            [(*place, ON_DEMAND) for place in gone],
        )
        return gone

    def trim_fetched_of(self, handle: bytes, limit: int) -> int:
        """Keep at most `limit` sealed rows of a handle that were asked for, those of the newest days.

        What stands for a row that was not there bears no day, and goes first.
        """
        counted = "SELECT count(*) FROM personal WHERE handle = ? AND length(slot) = ?"
        held = self._value(counted, handle, FETCHED_SLOT_BYTES)
        assert isinstance(held, int)
        if held <= limit:
            return 0
        sql = (
            "DELETE FROM personal WHERE handle = ?1 AND slot IN (SELECT slot FROM personal"
            " WHERE handle = ?1 AND length(slot) = ?2 ORDER BY day LIMIT ?3)"
        )
        self._connection.execute(sql, (handle, FETCHED_SLOT_BYTES, held - limit))
        return self._connection.changes()
