"""What the hot set is chosen from, and what it keeps out of a channel. Rows about nobody only."""

from __future__ import annotations

from typing import Final

from sync_server.store.records import HeatRow, RowState
from sync_server.store.rows import RowReads, RowWrites

_COLUMNS: Final = "r.id, r.entity, r.view, r.version, r.event_time_us, r.use, r.used_us"
_CHANNEL: Final = "(SELECT id FROM channels WHERE channel = ?)"


class HeatReads(RowReads):
    """Questions of the hot set."""

    def rows_in(self, channel: str, after: int, limit: int) -> list[HeatRow]:
        """At most `limit` rows that stand in the channel, by seq, from the one after `after`."""
        found = self.execute(
            f"SELECT p.seq, {_COLUMNS}, p.bytes FROM placements p JOIN rows r ON r.id = p.row"
            f" WHERE p.channel = {_CHANNEL} AND p.seq > ? AND p.deleted = 0 ORDER BY p.seq LIMIT ?",
            (channel, after, limit),
        )
        return [HeatRow(True, *row) for row in found]

    def rows_kept_out(self, channel: str, after: int, limit: int) -> list[HeatRow]:
        """At most `limit` rows that the channel's budget keeps out, by id, from the one after `after`."""
        found = self.execute(
            f"SELECT d.row, {_COLUMNS}, length(CAST(r.entity AS BLOB)) + length(r.payload)"
            f" FROM demoted d JOIN rows r ON r.id = d.row WHERE d.channel = {_CHANNEL} AND d.row > ?"
            " ORDER BY d.row LIMIT ?",
            (channel, after, limit),
        )
        return [HeatRow(False, *row) for row in found]

    def importances(self) -> dict[tuple[str, str], float]:
        """(view key, entity) -> importance 0..1, of those that somebody set; entity "" is the whole view."""
        found = self.execute("SELECT view, entity, value FROM importance")
        return {(view, entity): value for view, entity, value in found}

    def count_importances(self) -> int:
        """How many are set."""
        return int(self.execute("SELECT count(*) FROM importance").fetchone()[0])


class HeatWrites(HeatReads, RowWrites):
    """Changes of the hot set."""

    def demote(self, row: RowState, channel: str, now_us: int) -> bool:
        """Take a row out of a channel that is over its budget; False when it does not stand there.

        Publishes go on changing it; it comes back by `promote`, or belongs elsewhere one day.
        """
        state = self.channel_state(channel)
        standing = self.channels_of(row.entity, row.view, row.version)
        if channel not in standing:
            return False
        self.execute("INSERT INTO demoted VALUES (?, ?, ?)", (row.id, state.id, now_us))
        self.count_demoted(state, 1)
        self.move_row(row, standing, now_us)
        return True

    def promote(self, row: RowState, channel: str, now_us: int) -> bool:
        """Let a row back into a channel whose budget kept it out; False when it did not."""
        state = self.channel_state(channel)
        gone = self.execute("DELETE FROM demoted WHERE row = ? AND channel = ?", (row.id, state.id))
        if gone.rowcount != 1:
            return False
        self.count_demoted(state, -1)
        standing = self.channels_of(row.entity, row.view, row.version)
        self.move_row(row, [*standing, channel], now_us)
        return True

    def set_importance(self, view: str, entity: str, value: float | None) -> None:
        """Set the importance of a row, or of a whole view (entity ""); None: as nobody said anything."""
        if value is None:
            self.execute("DELETE FROM importance WHERE view = ? AND entity = ?", (view, entity))
        else:
            self.execute("INSERT OR REPLACE INTO importance VALUES (?, ?, ?)", (view, entity, value))
