"""SQL for whoever walks the whole ledger, and of the signing keys' places in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from edge_runtime.wire.messages import LaneEntry
from sync_server.store.records import Evidence

LEDGER_TABLES: Final = """
-- ---- ledger ----------------------------------------------------------------------------------------
CREATE TABLE ledger_keys (
    public_key BLOB PRIMARY KEY, -- a key that signs heads
    since INTEGER NOT NULL       -- how many leaves there were at its first start: earlier ones end here
) WITHOUT ROWID;
"""

EVIDENCE: Final = (
    "seq, subject, purpose, state, outcome, notice, base, actor, decision, at_us, recorded_us,"
    " grant_seq, salt, leaf, notice_hash, registry, signals"
)
FENCE: Final = "erased_denial"
"""In `meta`: a seq in decimal digits; see `store.forgetting`."""
_PAGE: Final = 1_000


class Chapter(Protocol):
    """What the rows stand on."""

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        ...


class LedgerRows:
    """The ledger from its first row to its last, inside one transaction."""

    def __init__(self, chapter: Chapter) -> None:
        self._execute = chapter.execute

    def steps(self, after: int = 0) -> Iterator[Evidence]:
        """Every row of evidence with a seq after `after`, in order."""
        while True:
            found = self._execute(
                f"SELECT {EVIDENCE} FROM evidence WHERE seq > ? ORDER BY seq LIMIT ?", (after, _PAGE)
            ).fetchall()
            for row in found:
                yield evidence_of(row)
            if len(found) < _PAGE:
                return
            after = found[-1][0]

    def leaves(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """At most `limit` (seq, leaf) after `after`, in order."""
        return self._execute(
            "SELECT seq, leaf FROM evidence WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
        ).fetchall()

    def nodes(self) -> Iterator[tuple[int, int, bytes]]:
        """Every kept subtree hash as (level, place, hash), in the order in which appending made them."""
        return self._execute(
            "SELECT level, place, hash FROM ledger_nodes ORDER BY (place + 1) << level, level"
        )

    def lane(self) -> Iterator[LaneEntry]:
        """Every pair's present state, in lane order."""
        found = self._execute(
            "SELECT seq, subject, purpose, state, grant_seq, denial FROM lane ORDER BY seq, subject, purpose"
        )
        return (LaneEntry(*row) for row in found)

    def denials(self) -> Iterator[tuple[int, str | None, bytes, str]]:
        """(seq, revocation, subject, purpose) of every denial; None for a revocation that is not there."""
        return self._execute(
            "SELECT d.seq, r.id, d.subject, d.purpose FROM denials d"
            " LEFT JOIN revocations r ON r.id = d.revocation ORDER BY d.seq"
        )

    def without_denial(self) -> list[str]:
        """Revocations that denied nothing."""
        return [
            row[0]
            for row in self._execute(
                "SELECT id FROM revocations r WHERE NOT EXISTS"
                " (SELECT 1 FROM denials d WHERE d.revocation = r.id) ORDER BY id"
            )
        ]

    def replies(self) -> Iterator[bytes]:
        """The bodies that are kept under idempotency keys."""
        return (bytes(row[0]) for row in self._execute("SELECT body FROM idempotency ORDER BY created_us"))

    def fence(self) -> int:
        """The newest step whose evidence and lane entry were erased; 0 for none."""
        return fence_of(self._execute)

    def keys(self) -> dict[bytes, int]:
        """Signing key -> how many leaves there were when it first signed."""
        return dict(self._execute("SELECT public_key, since FROM ledger_keys").fetchall())

    def note_key(self, public_key: bytes, size: int) -> None:
        """This key signs from now on; only its first time counts."""
        self._execute("INSERT OR IGNORE INTO ledger_keys VALUES (?, ?)", (public_key, size))


def fence_of(execute: Callable[[str, Sequence[object]], sqlite3.Cursor]) -> int:
    """The newest step whose lane entry was dropped; 0 for none."""
    row = execute("SELECT value FROM meta WHERE key = ?", (FENCE,)).fetchone()
    return 0 if row is None else int(row[0])


def evidence_of(row: Any) -> Evidence:
    """A row of `EVIDENCE`."""
    return Evidence(*(*row[:-1], tuple(row[-1].split())))
