"""SQL of a restored store: what it keeps of the ledger, what is missing, and who was heard about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

RESTORE_TABLES: Final = """
-- ---- restores --------------------------------------------------------------------------------------
CREATE TABLE restores (
    at_us INTEGER PRIMARY KEY,   -- when this store was made from a backup
    incarnation BLOB NOT NULL,   -- of the server from then on
    kept INTEGER NOT NULL,       -- ledger steps that are those of before
    known INTEGER NOT NULL,      -- of these, the ones from the backup itself: answers to later ones are lost
    until_us INTEGER NOT NULL,   -- no lease of before runs longer
    opened_us INTEGER,           -- since when it gives and serves again
    opened_by TEXT               -- journal | devices | time | operator
);
CREATE TABLE recalled (
    device_id TEXT PRIMARY KEY,  -- who told this incarnation what it knew of the one before
    at_us INTEGER NOT NULL,
    upto INTEGER NOT NULL,       -- newest ledger position that it knew
    denials INTEGER NOT NULL     -- recorded on its word
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class RestoreRow:
    """One restore of this store."""

    at_us: int
    incarnation: bytes
    kept: int
    known: int
    until_us: int
    opened_us: int | None
    opened_by: Literal["journal", "devices", "time", "operator"] | None


@dataclass(frozen=True, slots=True)
class RecalledRow:
    """What one device told after a restore."""

    device_id: str
    at_us: int
    upto: int
    denials: int


class _Transaction(Protocol):
    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor: ...


class RestoreRows:
    """The restores' part of a transaction."""

    def __init__(self, tx: _Transaction) -> None:
        self._tx = tx

    def latest(self) -> RestoreRow | None:
        """The restore that began the present incarnation; None for a store that was never restored."""
        row = self._tx.execute(
            "SELECT at_us, incarnation, kept, known, until_us, opened_us, opened_by FROM restores"
            " ORDER BY at_us DESC LIMIT 1"
        ).fetchone()
        return None if row is None else RestoreRow(*row)

    def begin(self, row: RestoreRow) -> None:
        """A new incarnation begins: nobody was heard yet, and every lease of before may still run."""
        self._tx.execute(
            "INSERT INTO restores VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row.at_us, row.incarnation, row.kept, row.known, row.until_us, row.opened_us, row.opened_by),
        )
        self._tx.execute("DELETE FROM recalled")
        self._tx.execute("DELETE FROM device_tokens")  # one that was used since the backup would serve again

    def leases_may_run(self, until_us: int) -> None:
        """Every device may have been granted a lease after the backup: until then it counts as live."""
        self._tx.execute(
            "UPDATE devices SET lease_until_us = max(lease_until_us, ?), limits = '{}'"
            " WHERE wiped_us IS NULL",
            (until_us,),
        )

    def open(self, at_us: int, by: str) -> None:
        """The present incarnation gives and serves from now on."""
        self._tx.execute(
            "UPDATE restores SET opened_us = ?, opened_by = ?"
            " WHERE at_us = (SELECT max(at_us) FROM restores)",
            (at_us, by),
        )

    def close(self) -> None:
        """It does so no more: something that it should have known is missing."""
        self._tx.execute(
            "UPDATE restores SET opened_us = NULL, opened_by = NULL"
            " WHERE at_us = (SELECT max(at_us) FROM restores)"
        )

    def heard(self, row: RecalledRow) -> None:
        """A device told everything."""
        self._tx.execute(
            "INSERT OR REPLACE INTO recalled VALUES (?, ?, ?, ?)",
            (row.device_id, row.at_us, row.upto, row.denials),
        )

    def was_heard(self, device_id: str) -> bool:
        """Whether a device told everything to this incarnation."""
        found = self._tx.execute("SELECT 1 FROM recalled WHERE device_id = ?", (device_id,))
        return found.fetchone() is not None

    def first_owed(self, device_id: str) -> int | None:
        """The first denial that a device has not answered, as far as is known here."""
        found = self._tx.execute(
            "SELECT min(d.seq) FROM targets t JOIN denials d ON d.revocation = t.revocation"
            " WHERE t.device_id = ? AND t.erased_us IS NULL",
            (device_id,),
        ).fetchone()[0]
        return None if found is None else int(found)

    def unheard(self, now_us: int) -> tuple[int, int]:
        """How many unheard devices may still use what was denied, and when the last of them no longer may."""
        row = self._tx.execute(
            "SELECT count(*), coalesce(max(lease_until_us), 0) FROM devices WHERE revoked_us IS NULL"
            " AND lease_until_us > ? AND device_id NOT IN (SELECT device_id FROM recalled)",
            (now_us,),
        ).fetchone()
        return int(row[0]), int(row[1])

    def told_on_word_of(self, limit: int) -> list[RecalledRow]:
        """The devices on whose word most denials were recorded."""
        found = self._tx.execute(
            "SELECT device_id, at_us, upto, denials FROM recalled WHERE denials > 0"
            " ORDER BY denials DESC, device_id LIMIT ?",
            (limit,),
        )
        return [RecalledRow(*row) for row in found]

    def count_recorded(self, actor: str) -> int:
        """Ledger steps by this actor."""
        found = self._tx.execute("SELECT count(*) FROM evidence WHERE actor = ?", (actor,))
        return int(found.fetchone()[0])

    def count_lost(self) -> int:
        """Ledger steps of which only the number is left."""
        return int(self._tx.execute("SELECT count(*) FROM evidence WHERE state = 'lost'").fetchone()[0])

    def put_device(self, values: Sequence[object]) -> None:
        """A device as the journal knows it: (device_id, public_key, patterns, enrolled_us, enrolled_lane,
        revoked_us, why).

        What the store itself knows of its contact, lane and lease stays.
        """
        self._tx.execute(
            "INSERT INTO devices (device_id, public_key, patterns, enrolled_us, enrolled_lane, contact_us,"
            " lane_acked, counter, lease_until_us, revoked_us, revoked_why)"
            " VALUES (?, ?, ?, ?, ?, NULL, 0, 0, 0, ?, ?)"
            " ON CONFLICT (device_id) DO UPDATE SET public_key = excluded.public_key,"
            " patterns = excluded.patterns, revoked_us = coalesce(devices.revoked_us, excluded.revoked_us),"
            " revoked_why = coalesce(devices.revoked_why, excluded.revoked_why)",
            values,
        )
