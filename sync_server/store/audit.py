"""SQL of the audit log: append-only, each row hashed with the one before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sync_server.access.chain import FIRST, AuditEntry, AuditRow, chained
from sync_server.store.aggregates import Statements

AUDIT_TABLES: Final = """
-- ---- the audit log ---------------------------------------------------------------------------------
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,     -- dense; the oldest go first, the newest stays
    at_us INTEGER NOT NULL,      -- the first of the calls that this row counts
    last_us INTEGER NOT NULL,    -- the last of them
    count INTEGER NOT NULL,
    actor TEXT NOT NULL,         -- bootstrap | token:<id> | oidc:<keyed hash> | nobody
    name TEXT NOT NULL,          -- of the token
    method TEXT NOT NULL,
    route TEXT NOT NULL,         -- as in the route table, never a path
    outcome TEXT NOT NULL,       -- changed | answered | refused | failed
    status INTEGER NOT NULL,
    code TEXT NOT NULL,          -- of the problem; empty for none
    resource TEXT NOT NULL,      -- id of what it was about; empty for none; never a subject
    hash BLOB NOT NULL           -- SHA-256 over the hash before it and this row
);
CREATE TRIGGER audit_stands BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_ends_at_its_front BEFORE DELETE ON audit
WHEN OLD.seq <> (SELECT min(seq) FROM audit) OR OLD.seq = (SELECT max(seq) FROM audit)
BEGIN SELECT RAISE(ABORT, 'only the oldest go, and never the newest'); END;
"""

_ENTRY: Final = "at_us, last_us, count, actor, name, method, route, outcome, status, code, resource"


class AuditRows:
    """The audit log inside one transaction of the store; it neither begins nor ends one."""

    def __init__(self, tx: Statements) -> None:
        self._db = tx

    def append(self, entries: Iterable[AuditEntry]) -> None:
        """Write entries after all others."""
        newest = self._db.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        seq, digest = (0, FIRST) if newest is None else newest
        for entry in entries:
            seq += 1
            digest = chained(digest, seq, entry)
            self._db.execute(
                "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (seq, *entry, digest),
            )

    def after(self, seq: int, limit: int) -> list[AuditRow]:
        """Rows after `seq`, the oldest first."""
        found = self._db.execute(
            f"SELECT seq, hash, {_ENTRY} FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)
        )
        return [AuditRow(row[0], AuditEntry(*row[2:]), row[1]) for row in found]

    def before(self, seq: int, limit: int) -> list[AuditRow]:
        """Rows before `seq`, the newest first."""
        found = self._db.execute(
            f"SELECT seq, hash, {_ENTRY} FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?", (seq, limit)
        )
        return [AuditRow(row[0], AuditEntry(*row[2:]), row[1]) for row in found]

    def drop(self, before_us: int, limit: int) -> int:
        """Forget rows from the front whose calls were all before then, at most `limit`; returns how many.

        The newest stays, so that numbers and hashes go on from it.
        """
        kept = self._db.execute(
            "SELECT seq FROM audit WHERE last_us >= ? ORDER BY seq LIMIT 1", (before_us,)
        ).fetchone()
        first, last = self._db.execute("SELECT min(seq), max(seq) FROM audit").fetchone()
        if first is None:
            return 0
        end = min(last if kept is None else kept[0], first + limit)
        return self._db.execute("DELETE FROM audit WHERE seq < ?", (end,)).rowcount
