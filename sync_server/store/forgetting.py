"""SQL that makes evidence anonymous: whom a step was about goes, what was said stays.

Salt, pseudonym and the author's ids go from a pair's steps; then no leaf can be opened any more, and the
device receipts that name the subject go with them. What the ledger hashes is not touched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, Protocol

from edge_runtime.wire.seal import personal_channel
from sync_server.store.ledger import FENCE

_IDLE: Final = (
    "SELECT e.subject, e.purpose FROM evidence e LEFT JOIN lane l"
    " ON l.subject = e.subject AND l.purpose = e.purpose"
    " WHERE e.salt != x'' AND coalesce(l.grant_seq, 0) = 0"
)
_ANSWERS: Final = "SELECT a.receipt FROM answers a JOIN denials d ON d.seq = a.denial WHERE d.subject"
_UNHEARD: Final = (
    "SELECT 1 FROM devices d"
    " WHERE d.revoked_us IS NULL AND d.lane_acked < l.seq AND d.enrolled_us <= e.recorded_us"
)


class Chapter(Protocol):
    """What the rows stand on."""

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        ...


class ForgettingRows:
    """Evidence that is no longer needed, inside one transaction."""

    def __init__(self, chapter: Chapter) -> None:
        self._execute = chapter.execute

    def expired(self, before_us: int, limit: int) -> list[tuple[bytes, str]]:
        """At most `limit` pairs without a live grant whose newest step was recorded before then."""
        return self._execute(
            f"{_IDLE} GROUP BY e.subject, e.purpose HAVING max(e.recorded_us) < ? LIMIT ?",
            (before_us, limit),
        ).fetchall()

    def idle(self, subject: bytes) -> list[str]:
        """The subject's purposes with evidence and without a live grant."""
        found = self._execute(f"{_IDLE} AND e.subject = ? GROUP BY e.purpose", (subject,))
        return sorted(row[1] for row in found)

    def live(self, subject: bytes) -> list[str]:
        """The subject's purposes under a live grant: evidence of these is still needed."""
        found = self._execute(
            "SELECT purpose FROM lane WHERE subject = ? AND grant_seq != 0 ORDER BY purpose", (subject,)
        )
        return [row[0] for row in found]

    def revocations_of(self, subject: bytes) -> list[str]:
        """Ids of the subject's revocations."""
        found = self._execute("SELECT id FROM revocations WHERE subject = ? ORDER BY id", (subject,))
        return [row[0] for row in found]

    def forget(self, subject: bytes, purpose: str) -> int:
        """Make the pair's steps anonymous; returns how many there were. Its lane entry stays, as a fence."""
        pair = (subject, purpose)
        steps = self._execute(
            "UPDATE evidence SET subject = x'', salt = x'', decision = NULL,"
            " actor = CASE WHEN actor = 'api' THEN 'api' ELSE 'device' END"
            " WHERE subject = ? AND purpose = ?",
            pair,
        ).rowcount
        denials = self._execute("SELECT seq FROM denials WHERE subject = ? AND purpose = ?", pair).fetchall()
        self._execute("UPDATE denials SET subject = x'' WHERE subject = ? AND purpose = ?", pair)
        self._execute(
            "UPDATE revocations SET subject = x'',"
            " actor = CASE WHEN actor = 'api' THEN 'api' ELSE 'device' END"
            " WHERE subject = ? AND NOT EXISTS"
            " (SELECT 1 FROM denials d WHERE d.revocation = revocations.id AND d.subject != x'')",
            (subject,),
        )
        for (seq,) in denials:
            self._execute(
                "DELETE FROM receipts WHERE id IN (SELECT receipt FROM answers WHERE denial = ?)"
                f" AND id NOT IN ({_ANSWERS} != x'' AND a.receipt = receipts.id)",
                (seq,),
            )
        self._execute(
            "DELETE FROM channels WHERE channel = ?"
            " AND NOT EXISTS (SELECT 1 FROM placements WHERE channel = channels.id)",
            (personal_channel(subject, purpose),),
        )
        return int(steps)

    def drop_replies_about(self, token: str) -> None:
        """Forget kept replies in which the subject's printed pseudonym stands."""
        self._execute("DELETE FROM idempotency WHERE instr(body, CAST(? AS BLOB)) > 0", (token,))

    def drop_fences(self, before_us: int, limit: int) -> int:
        """Drop at most `limit` lane entries of forgotten pairs that nobody has to hear any more.

        Those are what every device that was enrolled then has acknowledged, or was shut out; and what was
        recorded before `before_us`, whoever has not heard it. The newest of them becomes the fence: a device
        from before it, and a consent that saw less, are refused without a pair (see `fence`).
        """
        found = self._execute(
            "SELECT l.subject, l.purpose, l.seq, e.recorded_us"
            " FROM lane l JOIN evidence e ON e.seq = l.seq WHERE e.salt = x'' AND l.grant_seq = 0"
            f" AND (e.recorded_us < ? OR NOT EXISTS ({_UNHEARD})) LIMIT ?",
            (before_us, limit),
        ).fetchall()
        for subject, purpose, _, _ in found:
            self._execute("DELETE FROM lane WHERE subject = ? AND purpose = ?", (subject, purpose))
        if found:
            newest, at_us = max((seq, at_us) for _, _, seq, at_us in found)
            if newest > self.fence()[0]:
                raw = f"{newest} {at_us}".encode()
                self._execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (FENCE, raw))
        return len(found)

    def fence(self) -> tuple[int, int]:
        """(newest step whose lane entry was dropped, when it was recorded); zeros for none."""
        row = self._execute("SELECT value FROM meta WHERE key = ?", (FENCE,)).fetchone()
        if row is None:
            return 0, 0
        seq, at_us = bytes(row[0]).split()
        return int(seq), int(at_us)
