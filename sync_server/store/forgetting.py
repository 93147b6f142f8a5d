"""SQL that makes evidence anonymous: whom a step was about goes, what was said stays.

Salt, pseudonym and the author's ids go from a pair's steps; then no leaf can be opened any more, and the
device receipts that name the subject go with them. A device's word that it erased everything names nobody and
answers for others too: it stays. What the ledger hashes is not touched.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, takewhile
from typing import Final, NamedTuple, Protocol

from edge_runtime.wire.seal import personal_channel
from sync_server.store.ledger import FENCE, fence_of

_NAMELESS: Final = "CASE WHEN actor = 'api' THEN 'api' ELSE 'device' END"
FORGETTING_TABLES: Final = """
CREATE TABLE fences (
    seq INTEGER PRIMARY KEY      -- a step without evidence that is still its pair's state in the lane
);
"""


class Chapter(Protocol):
    """What the rows stand on."""

    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        ...


class Unheard(NamedTuple):
    """How far devices are in the lane."""

    acked: list[int]
    """Positions at which any stands, in order."""
    since: list[int]
    """For each, where the lane stood when the first of those that are no further was enrolled."""

    def by(self, seq: int) -> bool:
        """Whether a device that was there before `seq` has not acknowledged it."""
        behind = bisect_left(self.acked, seq)
        return behind > 0 and self.since[behind - 1] < seq


class ForgettingRows:
    """Evidence that is no longer needed, inside one transaction."""

    def __init__(self, chapter: Chapter) -> None:
        self._execute = chapter.execute

    def old_steps(self, after: int, before_us: int, limit: int) -> list[tuple[int, bytes, str]]:
        """(seq, subject, purpose) of at most `limit` steps after `after` that are not forgotten, in order, up
        to the first that was recorded at `before_us` or later."""
        found = self._execute(
            "SELECT seq, subject, purpose, salt, recorded_us FROM evidence"
            " WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        ).fetchall()
        old = takewhile(lambda row: row[4] < before_us, found)
        return [
            (seq, subject, purpose) for seq, subject, purpose, salt, _ in old if salt or seq == found[-1][0]
        ]

    def over(self, subject: bytes, purpose: str, before_us: int) -> bool:
        """Whether the pair has evidence, no live grant, and nothing that was recorded since `before_us`."""
        newest = self._execute(
            "SELECT recorded_us FROM evidence WHERE subject = ? AND purpose = ? ORDER BY seq DESC LIMIT 1",
            (subject, purpose),
        ).fetchone()
        return (
            bool(subject)
            and newest is not None
            and newest[0] < before_us
            and purpose not in self.live(subject)
        )

    def idle(self, subject: bytes) -> list[str]:
        """The subject's purposes with evidence and without a live grant."""
        found = self._execute(
            "SELECT DISTINCT purpose FROM evidence WHERE subject = ? ORDER BY purpose", (subject,)
        ).fetchall()
        live = self.live(subject)
        return [purpose for (purpose,) in found if purpose not in live]

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
        self._execute(
            "INSERT OR IGNORE INTO fences SELECT seq FROM lane WHERE subject = ? AND purpose = ?", pair
        )
        steps = self._execute(
            "UPDATE evidence SET subject = x'', salt = x'', decision = NULL,"
            f" actor = {_NAMELESS} WHERE subject = ? AND purpose = ?",
            pair,
        ).rowcount
        denials = self._execute(
            "SELECT seq, revocation FROM denials WHERE subject = ? AND purpose = ?", pair
        ).fetchall()
        for seq, revocation in denials:
            self._execute("UPDATE denials SET subject = x'' WHERE seq = ?", (seq,))
            self._execute(
                f"UPDATE revocations SET subject = x'', actor = {_NAMELESS} WHERE id = ? AND NOT EXISTS"
                " (SELECT 1 FROM denials d WHERE d.revocation = revocations.id AND d.subject != x'')",
                (revocation,),
            )
            self._execute(  # a receipt may answer denials of the subject for other purposes too
                "DELETE FROM receipts WHERE id IN"
                " (SELECT receipt FROM answers WHERE denial = ? AND kind != 'wiped')"
                " AND NOT EXISTS (SELECT 1 FROM denials d JOIN answers a ON a.denial = d.seq"
                " WHERE d.subject = ? AND a.receipt = receipts.id)",
                (seq, subject),
            )
        self._execute(
            "DELETE FROM channels WHERE channel = ?"
            " AND NOT EXISTS (SELECT 1 FROM placements WHERE channel = channels.id)",
            (personal_channel(subject, purpose),),
        )
        return int(steps)

    def events_wait(self, subject: bytes) -> bool:
        """Whether somebody has not acknowledged yet what it is to be told about the subject."""
        return (
            self._execute("SELECT 1 FROM events WHERE subject = ? LIMIT 1", (subject,)).fetchone() is not None
        )

    def drop_events(self, subject: bytes, before_us: int) -> None:
        """Give up what was to be told about the subject before then, and never was acknowledged."""
        old = (subject, before_us)
        self._execute(
            "DELETE FROM deliveries WHERE event IN (SELECT seq FROM events WHERE subject = ? AND at_us < ?)",
            old,
        )
        self._execute("DELETE FROM events WHERE subject = ? AND at_us < ?", old)

    def drop_replies_about(self, token: str) -> None:
        """Forget kept replies in which the subject's printed pseudonym stands."""
        self._execute("DELETE FROM idempotency WHERE instr(body, CAST(? AS BLOB)) > 0", (token,))

    def drop_fences(self, before_us: int, limit: int) -> int:
        """Drop at most `limit` lane entries of forgotten pairs that nobody has to hear any more.

        Those are what every device that was enrolled then has acknowledged, or was shut out; and what was
        recorded before `before_us`, whoever has not heard it. The newest of them becomes the fence: a device
        from before it, and a consent that saw less, are refused without a pair (see `ledger.FENCE`).

        An objection or a restriction stays: nothing else keeps devices still to come from what needs no
        consent.
        """
        self._execute("DELETE FROM fences WHERE seq NOT IN (SELECT seq FROM lane)")  # said anew since
        waiting = self._execute(
            "SELECT l.subject, l.purpose, l.seq, e.recorded_us FROM fences f"
            " JOIN lane l ON l.seq = f.seq JOIN evidence e ON e.seq = f.seq"
            " WHERE l.state NOT IN ('objected', 'restricted') ORDER BY f.seq LIMIT ?",
            (limit,),
        ).fetchall()
        unheard = self._unheard() if waiting else None
        found = [row for row in waiting if row[3] < before_us or unheard is None or not unheard.by(row[2])]
        for subject, purpose, seq, _ in found:
            self._execute("DELETE FROM lane WHERE subject = ? AND purpose = ?", (subject, purpose))
            self._execute("DELETE FROM fences WHERE seq = ?", (seq,))
        if found:
            newest = max(row[2] for row in found)
            if newest > fence_of(self._execute):
                self._execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (FENCE, str(newest).encode()))
        return len(found)

    def _unheard(self) -> Unheard:
        """What the devices that are not shut out have acknowledged."""
        found = self._execute(
            "SELECT lane_acked, min(enrolled_lane) FROM devices WHERE revoked_us IS NULL"
            " GROUP BY lane_acked ORDER BY lane_acked"
        ).fetchall()
        return Unheard([acked for acked, _ in found], [*accumulate((first for _, first in found), min)])
