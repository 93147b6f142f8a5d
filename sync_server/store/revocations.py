"""Revocations: what was denied, who is waited for, and who answered with which receipt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sync_server.journal.record import Revoked
from sync_server.store.chapter import Chapter
from sync_server.store.records import (
    UNLEASED_US,
    Answer,
    AnswerKind,
    Denial,
    RevocationRow,
    StoredReceipt,
    Target,
)

_TARGET = "revocation, device_id, position, lease_bound_us, acked_us, erased_us, late, cold_start"
_REVOCATION = (
    "id, subject, initiator, actor, accepted_us, due_us, server_erased_us, server_rows, completed_us"
)


class RevocationReads(Chapter):
    """Questions about revocations."""

    def revocation(self, revocation_id: str) -> RevocationRow | None:
        """One revocation."""
        row = self.execute(f"SELECT {_REVOCATION} FROM revocations WHERE id = ?", (revocation_id,)).fetchone()
        return None if row is None else RevocationRow(*row)

    def revocations(self, limit: int, after: RevocationRow | None = None) -> list[RevocationRow]:
        """At most `limit` revocations, newest first; those older than `after`."""
        start = (2**63 - 1, "") if after is None else (after.accepted_us, after.id)
        found = self.execute(
            f"SELECT {_REVOCATION} FROM revocations WHERE accepted_us <= ? AND (accepted_us, id) < (?, ?)"
            " ORDER BY accepted_us DESC, id DESC LIMIT ?",
            (start[0], *start, limit),
        )
        return [RevocationRow(*row) for row in found]

    def revocation_since(self, subject: bytes, purpose: str, seq: int) -> RevocationRow | None:
        """The revocation that was the first to deny the pair at or after `seq`."""
        row = self.execute(
            "SELECT revocation FROM denials WHERE subject = ? AND purpose = ? AND seq >= ?"
            " ORDER BY seq LIMIT 1",
            (subject, purpose, seq),
        ).fetchone()
        return None if row is None else self.revocation(row[0])

    def denials_of_subject(self, subject: bytes, after: int, limit: int) -> list[Denial]:
        """At most `limit` denials of a subject by ledger seq, from the one after `after`."""
        found = self.execute(
            "SELECT seq, revocation, subject, purpose FROM denials WHERE subject = ? AND seq > ?"
            " ORDER BY seq LIMIT ?",
            (subject, after, limit),
        )
        return [Denial(*row) for row in found]

    def denials(self, revocation_id: str) -> list[Denial]:
        """What the revocation denied, in ledger order."""
        found = self.execute(
            "SELECT seq, revocation, subject, purpose FROM denials WHERE revocation = ? ORDER BY seq",
            (revocation_id,),
        )
        return [Denial(*row) for row in found]

    def denials_of_pair(self, subject: bytes, purpose: str, upto: int) -> list[Denial]:
        """The pair's denials with seq <= `upto`: a receipt for a newer one answers them too."""
        found = self.execute(
            "SELECT seq, revocation, subject, purpose FROM denials"
            " WHERE subject = ? AND purpose = ? AND seq <= ? ORDER BY seq",
            (subject, purpose, upto),
        )
        return [Denial(*row) for row in found]

    def target(self, revocation_id: str, device_id: str) -> Target | None:
        """One target."""
        row = self.execute(
            f"SELECT {_TARGET} FROM targets WHERE revocation = ? AND device_id = ?",
            (revocation_id, device_id),
        ).fetchone()
        return None if row is None else _target(row)

    def targets(self, revocation_id: str) -> list[Target]:
        """Every target, by device id."""
        found = self.execute(
            f"SELECT {_TARGET} FROM targets WHERE revocation = ? ORDER BY device_id", (revocation_id,)
        )
        return [_target(row) for row in found]

    def targets_page(
        self, revocation_id: str, after: str, limit: int
    ) -> list[tuple[Target, AnswerKind, str | None]]:
        """At most `limit` targets with a device id after `after`, by device id, with what each answered, or
        would have if it answers nothing but `held none`, and why it was shut out.

        Targets are added and never go, so that who walks the pages misses none that was there at the start.
        """
        found = self.execute(
            f"SELECT {_TARGET}, coalesce((SELECT a.kind FROM denials d JOIN answers a ON a.denial = d.seq"
            " WHERE d.revocation = targets.revocation AND a.device_id = targets.device_id"
            " ORDER BY a.kind = 'held_none', a.kind DESC LIMIT 1), 'held_none'),"
            " (SELECT coalesce(revoked_why, 'revoked') FROM devices WHERE devices.device_id ="
            " targets.device_id AND revoked_us IS NOT NULL)"
            " FROM targets WHERE revocation = ? AND device_id > ? ORDER BY device_id LIMIT ?",
            (revocation_id, after, limit),
        )
        return [(_target(row[:-2]), row[-2], row[-1]) for row in found]

    def answers(self, revocation_id: str) -> list[Answer]:
        """Which receipts answer the revocation's denials."""
        found = self.execute(
            "SELECT a.denial, a.device_id, a.receipt, a.kind FROM answers a"
            " JOIN denials d ON d.seq = a.denial WHERE d.revocation = ? ORDER BY a.device_id, a.denial",
            (revocation_id,),
        )
        return [Answer(*row) for row in found]

    def answer(self, denial: int, device_id: str) -> Answer | None:
        """What the device said to one denial."""
        row = self.execute(
            "SELECT denial, device_id, receipt, kind FROM answers WHERE denial = ? AND device_id = ?",
            (denial, device_id),
        ).fetchone()
        return None if row is None else Answer(*row)

    def answered(self, revocation_id: str, device_id: str) -> bool:
        """Whether the device's receipts answer every denial of the revocation."""
        return (
            self.execute(
                "SELECT 1 FROM denials d WHERE d.revocation = ? AND NOT EXISTS"
                " (SELECT 1 FROM answers a WHERE a.denial = d.seq AND a.device_id = ?) LIMIT 1",
                (revocation_id, device_id),
            ).fetchone()
            is None
        )

    def receipt(self, receipt_id: bytes) -> StoredReceipt | None:
        """One stored receipt."""
        row = self.execute(
            "SELECT id, device_id, body, signature, received_us FROM receipts WHERE id = ?", (receipt_id,)
        ).fetchone()
        return None if row is None else StoredReceipt(*row)

    def unerased_revocations(self) -> list[str]:
        """Revocations after whose commit the server's keys may still stand."""
        found = self.execute("SELECT id FROM revocations WHERE server_erased_us IS NULL ORDER BY id")
        return [row[0] for row in found]

    def count_revocations(self, now_us: int) -> dict[str, int]:
        """`accepted` revocations, and `targets`, `unanswered`, `overdue` among their targets."""
        row = self.execute(
            "SELECT (SELECT count(*) FROM revocations), count(*), count(*) FILTER (WHERE erased_us IS NULL),"
            " count(*) FILTER (WHERE erased_us IS NULL AND due_us <= ?)"
            " FROM targets JOIN revocations ON revocations.id = targets.revocation",
            (now_us,),
        ).fetchone()
        return dict(zip(("accepted", "targets", "unanswered", "overdue"), row, strict=True))


class RevocationWrites(RevocationReads):
    """Changes of revocations."""

    def add_revocation(self, row: RevocationRow, denials: Sequence[Denial]) -> None:
        """Store a revocation and what it denied."""
        self.execute(
            "INSERT INTO revocations VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                *(row.id, row.subject, row.initiator, row.actor, row.accepted_us, row.due_us),
                *(row.server_erased_us, row.server_rows),
            ),
        )
        self.execute_many(
            "INSERT INTO denials VALUES (?, ?, ?, ?)",
            [(d.seq, d.revocation, d.subject, d.purpose) for d in denials],
        )
        self.told.append(Revoked(row, tuple(denials)))

    def add_live_targets(
        self, revocation_id: str, position: int, now_us: int, limits: str, wait_us: int | None
    ) -> None:
        """Every device whose lease may still run becomes a target: any could hold session features.

        Args:
            limits: of those alone whose newest lease said this of shorter ones; see `limits_in_force`.
            wait_us: how long after its newest lease the purposes are locked there, by our clock, drift and
                margin included; None: as long as any lease of it runs.
        """
        end = "max(:now, leased_us + :wait, unlimited_us)"
        self.execute(
            "INSERT INTO targets SELECT :revocation, device_id, :position,"
            f" {'lease_until_us' if wait_us is None else end}, NULL, NULL, 0, cold_start"
            " FROM devices WHERE lease_until_us > :now AND wiped_us IS NULL AND limits = :limits",
            {
                "revocation": revocation_id,
                "position": position,
                "now": now_us,
                "limits": limits,
                "wait": wait_us,
            },
        )

    def add_every_target(self, revocation_id: str, position: int) -> None:
        """Every device becomes a target, lease or not: only its answer ends its use of the purposes."""
        self.execute(
            "INSERT INTO targets SELECT ?, device_id, ?, ?, NULL, NULL, 0, cold_start FROM devices"
            " WHERE wiped_us IS NULL",
            (revocation_id, position, UNLEASED_US),
        )

    def add_late_target(self, revocation_id: str, device_id: str, position: int, at_us: int) -> None:
        """A device that was not live at commit held some after all."""
        self.execute(
            "INSERT OR IGNORE INTO targets SELECT ?, device_id, ?, ?, ?, NULL, 1, cold_start FROM devices"
            " WHERE device_id = ?",
            (revocation_id, position, at_us, at_us, device_id),
        )

    def add_unheard_targets(self, device_id: str, acked: int) -> None:
        """A device that nobody waited for may have held some of what was denied after `acked`."""
        self.execute(
            "INSERT OR IGNORE INTO targets SELECT d.revocation, v.device_id, max(d.seq), ?, NULL, NULL, 1,"
            " v.cold_start FROM denials d, devices v WHERE v.device_id = ? AND d.seq > ?"
            " GROUP BY d.revocation",
            (UNLEASED_US, device_id, acked),
        )

    def wiped_answers(self, device_id: str, receipt: bytes, at_us: int) -> list[str]:
        """The receipt answers everything that still waits for the device; returns those revocations."""
        owing = "SELECT revocation FROM targets WHERE device_id = ? AND erased_us IS NULL"
        found = [row[0] for row in self.execute(owing, (device_id,))]
        self.execute(
            "INSERT OR IGNORE INTO answers SELECT seq, ?, ?, 'wiped' FROM denials"
            f" WHERE revocation IN ({owing})",
            (device_id, receipt, device_id),
        )
        self.execute(
            "UPDATE targets SET erased_us = ? WHERE device_id = ? AND erased_us IS NULL", (at_us, device_id)
        )
        return found

    def server_erased(self, revocation_id: str, at_us: int) -> None:
        """This server's own copies are unreadable."""
        self.execute(
            "UPDATE revocations SET server_erased_us = ? WHERE id = ? AND server_erased_us IS NULL",
            (at_us, revocation_id),
        )

    def complete(self, revocation_id: str, at_us: int) -> bool:
        """Mark it completed, anew if a late holder reopened it; False while somebody still owes an answer."""
        found = self.execute(
            "UPDATE revocations SET completed_us = ?1 WHERE id = ?2 AND server_erased_us IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM targets WHERE revocation = ?2 AND erased_us IS NULL)"
            " AND NOT EXISTS (SELECT 1 FROM recipient_answers WHERE revocation = ?2 AND answered_us IS NULL)",
            (at_us, revocation_id),
        )
        return found.rowcount == 1

    def add_receipt(self, receipt: StoredReceipt) -> bool:
        """Store a verified receipt; False when it was there."""
        return (
            self.execute(
                "INSERT OR IGNORE INTO receipts VALUES (?, ?, ?, ?, ?)",
                (receipt.id, receipt.device_id, receipt.body, receipt.signature, receipt.received_us),
            ).rowcount
            == 1
        )

    def add_answer(self, answer: Answer) -> None:
        """The receipt answers the denial; a device's first one stays, but erasing outranks holding none."""
        self.execute(
            "INSERT INTO answers VALUES (?, ?, ?, ?) ON CONFLICT (denial, device_id) DO UPDATE"
            " SET receipt = excluded.receipt, kind = excluded.kind"
            " WHERE answers.kind = 'held_none' AND excluded.kind = 'erased'",
            (answer.denial, answer.device_id, answer.receipt, answer.kind),
        )

    def target_erased(self, revocation_id: str, device_id: str, at_us: int) -> None:
        """The device answered everything; whoever erased also stopped using."""
        self.execute(
            "UPDATE targets SET erased_us = coalesce(erased_us, ?), acked_us = coalesce(acked_us, ?)"
            " WHERE revocation = ? AND device_id = ?",
            (at_us, at_us, revocation_id, device_id),
        )


def _target(row: tuple[Any, ...]) -> Target:
    revocation, device_id, position, bound_us, acked_us, erased_us, late, cold_start = row
    return Target(revocation, device_id, position, bound_us, acked_us, erased_us, bool(late), cold_start)
