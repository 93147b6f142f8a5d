"""What a decision of a subject does: a give makes or renews keys, a denial destroys them, the server is told.

Decisions are numbered here while this device is its own authority, by the ledger once it is enrolled.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from edge_runtime.cache.database import Database
from edge_runtime.consent.denying import base_of, new_denial
from edge_runtime.consent.erasure import Eraser
from edge_runtime.consent.ledger_side import LedgerSide
from edge_runtime.consent.standing import Standing
from edge_runtime.consent.words import Declared
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire.messages import Decision
from edge_runtime.wire.seal import canonical


class Deciding:
    """Carries decisions out. The consent room's lock guards every call.

    Args:
        queued: called when a decision waits for the server.
    """

    def __init__(
        self,
        catalog: Declared,
        keyring: Keyring,
        database: Database,
        eraser: Eraser,
        standing: Standing,
        ledger: LedgerSide,
        queued: Callable[[], None],
    ) -> None:
        self._catalog, self._keyring, self._database = catalog, keyring, database
        self._eraser, self._standing, self._ledger, self._queued = eraser, standing, ledger, queued

    def give(self, subject: str, purpose: str, notice: str, at_us: int) -> bytes:
        """Make or renew one key, then queue the decision; returns its id."""
        decision, base = secrets.token_bytes(16), base_of(self._keyring, self._database)
        pending = self._keyring.identity.enrolled
        key = self._keyring.key(subject, purpose)
        if key is not None:
            self._keyring.renew(key, notice, base, decision, pending=pending)
        else:
            ordinal = self._keyring.next_ordinal()
            grant = self._ledger.live_grant(subject, purpose) if pending else ordinal
            self._keyring.create(
                subject,
                purpose,
                decision,
                notice,
                base,
                at_us,
                grant,
                resting=self._catalog.purposes[purpose].on_disk,
                ordinal=ordinal,
                pending=pending,
            )
        if pending:
            pseudonym = self._keyring.pseudonym(subject)
            self._queue_give(Decision(decision, pseudonym, purpose, "given", notice, base, at_us))
        self._standing.decided(subject, purpose)
        return decision

    def deny(
        self, subject: str, purposes: Sequence[str], state: str, notice: str | None, at_us: int
    ) -> list[Denial]:
        """Destroy keys and what they opened; returns a denial for each purpose, standing ones as they are."""
        self._eraser.finish_pending()
        standing = [self._standing_denial(subject, name, state) for name in purposes]
        fresh = [
            new_denial(self._keyring, self._database, subject, name, state, notice, at_us)
            for name, denial in zip(purposes, standing, strict=True)
            if denial is None
        ]
        done = {d.purpose: d for d in self._eraser.carry_out(fresh, self._standing.bar)} if fresh else {}
        self._standing.tidy()
        self._queued()
        return [denial or done[name] for name, denial in zip(purposes, standing, strict=True)]

    def queue_pending_gives(self) -> None:
        """Put back into the outbox what an older copy of the database forgot."""
        with self._database.read() as tx:
            waiting = {item.id for item in tx.outbox("decision")}
        keys = self._keyring.keys()
        for key in keys:
            for decision in key.pending:
                if decision not in waiting:
                    who = self._keyring.pseudonym(key.subject)
                    told = (who, key.purpose, "given", key.notice, key.base, key.at_us)
                    self._queue_give(Decision(decision, *told))

    def _standing_denial(self, subject: str, purpose: str, state: str) -> Denial | None:
        """A denial of the same kind that waits to be sent, or stands alone: saying it again adds nothing."""
        if self._keyring.key(subject, purpose) is not None:
            return None
        denial = self._keyring.denial(self._keyring.pseudonym(subject), purpose)
        if denial is None or denial.state != state or denial.evidence is None:
            return None
        waits = denial.taken_here and not denial.settled
        return denial if waits or not self._keyring.identity.enrolled else None

    def _queue_give(self, decision: Decision) -> None:
        with self._database.write("give") as tx:
            tx.enqueue("decision", decision.id, canonical(decision))
        self._queued()
