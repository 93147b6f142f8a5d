"""Consent on the device: what subjects decided, and what the ledger says. `use_gate.py` judges every use.

A give makes a data key; a denial destroys it. So "given" lives and dies with the key, and no copy of the
database can say otherwise. A runtime that never enrolled is its own authority: it numbers decisions itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from edge_runtime.aggregates.facts import UNSURE_DAY, unsure_day
from edge_runtime.cache.database import Database
from edge_runtime.cache.histories import REBUILT
from edge_runtime.clock import Clock
from edge_runtime.consent.deciding import Deciding
from edge_runtime.consent.denying import new_denial
from edge_runtime.consent.erasure import Eraser, Forget
from edge_runtime.consent.lease import Leases
from edge_runtime.consent.ledger_side import LedgerSide
from edge_runtime.consent.permit import Permits
from edge_runtime.consent.receipt import ErasureReceipt, Receipts
from edge_runtime.consent.record import ConsentRecord
from edge_runtime.consent.relearning import Relearning
from edge_runtime.consent.restored import database_is_older, note_opening
from edge_runtime.consent.standing import Standing
from edge_runtime.consent.use_gate import UseGate
from edge_runtime.consent.words import (
    DENIED,
    GPC,
    Declared,
    Permission,
    needs_consent,
    notice_of,
    purposes_of,
    subject_of,
    when_us,
)
from edge_runtime.errors import MalformedRequest
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.vault import no_step
from edge_runtime.wire.messages import LaneEntry
from edge_runtime.wire.receipt import EVERYBODY

__all__ = ["ConsentRecord", "Consents", "Permission"]


class Consents:
    """Decisions of subjects and the gate of law 1. Public as `rt.consent`. Thread-safe.

    Opening finishes what a kill cut short before anything personal can be used.

    Args:
        forget: zeroes what memory holds of (typed subject, purposes) and returns counts, `memory` among them.
        lock: the runtime's own lock, so that a decision and an event never wait for each other in a circle.
        step: called with each of `erasure.POINTS`; for tests that kill there.
    """

    def __init__(
        self,
        catalog: Declared,
        keyring: Keyring,
        database: Database,
        clock: Clock,
        leases: Leases,
        forget: Forget,
        *,
        lock: threading.RLock | None = None,
        step: Callable[[str], None] = no_step,
    ) -> None:
        self._catalog, self._keyring, self._database = catalog, keyring, database
        self._clock, self._leases, self._forget = clock, leases, forget
        self._lock = threading.RLock() if lock is None else lock
        self._receipts = Receipts(keyring, clock, lambda: leases.authority)
        self._eraser = Eraser(keyring, database, clock, forget, self._receipts, step)
        self._standing = Standing(keyring, database)
        self._gate = UseGate(catalog, keyring, database, clock, leases, self._standing, self._lock)
        self._ledger = LedgerSide(keyring, database, clock, self._eraser, self._receipts, self._standing)
        self.permits = Permits(keyring, self._standing, leases, catalog.purposes, self._gate.against)
        self.queued: Callable[[], None] = lambda: None
        """Called when a decision or receipt waits for the server; a hint, nothing depends on it."""
        self.restored = False
        """Whether this opening found an older copy of the database than the root slot had seen."""
        keyring.authority_changed = self._begin_authority
        self._deciding = Deciding(
            catalog, keyring, database, self._eraser, self._standing, self._ledger, lambda: self.queued()
        )
        self.relearning = Relearning(
            *(keyring, database, self._eraser, self._standing, self._ledger, self._deciding),
            *(self._expire, self._on_consent, self._lock),
        )
        """What becomes of the part of the ledger that a restored server has lost."""
        self._recover()

    # ---- the gate ---------------------------------------------------------------------------------------

    def permission(self, subject: str, purpose: str) -> Permission:
        """Whether the personal features of (typed id, purpose) may be used now; see `UseGate.permission`."""
        return self._gate.permission(subject, purpose)

    def access(self, subject: str, purpose: str) -> Permission:
        """Whether the subject may be shown what is held of it (Art. 15); see `UseGate.access`."""
        return self._gate.access(subject, purpose)

    def key(self, subject: str, purpose: str) -> DataKey | None:
        """The key to store under, with permission; None without; see `UseGate.key`."""
        return self._gate.key(subject, purpose)

    # ---- what a subject says ----------------------------------------------------------------------------

    def give(
        self,
        subject: str,
        purposes: Iterable[str],
        *,
        notice: str,
        at: datetime | float | None = None,
        gpc: bool = False,
    ) -> ConsentRecord:
        """Record that a subject gave consent; makes the keys. Giving again renews, and keeps the grant.

        Args:
            notice: version of the text that was shown; a declared one must cover the purposes.
            at: when (aware datetime or Unix seconds); now by default.
            gpc: whether the subject's software sends Global Privacy Control. It is recorded, and purposes
                that sell, share or target are refused instead: they stand in the record's `conflicts`.

        Raises `MalformedRequest` with nothing changed.
        """
        with self._lock:
            typed = subject_of(self._catalog, subject)
            names = purposes_of(self._catalog, purposes)
            text = notice_of(self._catalog, notice, names)
            taken_us = when_us(at, self._clock.now_us())
            self._eraser.finish_pending()
            signals = (GPC,) if gpc else ()
            opted_out = tuple(n for n in names if gpc and self._catalog.purposes[n].uses)
            denials = self._deciding.deny(typed, opted_out, "refused", text, taken_us, signals)
            given = tuple(name for name in names if name not in opted_out)
            if not given:
                ids, grants = tuple(d.id for d in denials), (0,) * len(opted_out)
                return ConsentRecord(typed, opted_out, "refused", text, taken_us, ids, grants, opted_out)
            ids = tuple(self._deciding.give(typed, given, text, taken_us, signals))
            keys = [self._keyring.key(typed, name) for name in given]
            grants = tuple(0 if key is None else key.grant for key in keys)
            return ConsentRecord(typed, given, "given", text, taken_us, ids, grants, opted_out)

    def admit(self, subject: str, purposes: Iterable[str], ticket: bytes) -> ConsentRecord:
        """Take up a consent that stands in the ledger and was given elsewhere, on the backend's word.

        Makes the keys under the ledger's grant; nothing is decided, so nothing is sent. Admitting again is
        harmless, and needed after a restart, with a new ticket.

        Raises:
            NotEnrolled: a standalone runtime has no ledger.
            SyncRefused: `ticket_invalid`, a ticket of another device, subject or purpose.
            MalformedRequest: no such consent stands as far as was synced here. In each case nothing changed.
        """
        with self._lock:
            typed = subject_of(self._catalog, subject)
            names = purposes_of(self._catalog, purposes)
            self._eraser.finish_pending()
            resting = {name: self._catalog.purposes[name].on_disk for name in names}
            keys = self._ledger.take_up(typed, resting, ticket)
            for name in names:
                self._standing.decided(typed, name)
            ids, grants = tuple(key.facts.decision for key in keys), tuple(key.grant for key in keys)
            return ConsentRecord(typed, tuple(names), "given", "", self._clock.now_us(), ids, grants)

    def refuse(
        self,
        subject: str,
        purposes: Iterable[str],
        *,
        notice: str,
        at: datetime | float | None = None,
    ) -> ConsentRecord:
        """Record that a subject refused; what was held under the purposes goes. Arguments as in `give`."""
        with self._lock:
            typed = subject_of(self._catalog, subject)
            names = purposes_of(self._catalog, purposes)
            text = notice_of(self._catalog, notice, names)
            taken_us = when_us(at, self._clock.now_us())
            denials = self._deciding.deny(typed, names, "refused", text, taken_us)
            ids, grants = tuple(d.id for d in denials), (0,) * len(names)
            return ConsentRecord(typed, tuple(names), "refused", text, taken_us, ids, grants)

    def opt_out(self, subject: str) -> ErasureReceipt | None:
        """Heed Global Privacy Control alone: every purpose that sells, shares or targets is denied.

        What asks for consent is refused, what does not is objected to; a purpose that is denied already is
        left as it is. Returns what was erased; None when there was nothing left to deny.
        """
        with self._lock:
            typed, now_us = subject_of(self._catalog, subject), self._clock.now_us()
            open_ = [
                p
                for p in self._catalog.purposes.values()
                if p.uses and self._state(typed, p.name) not in DENIED
            ]
            denials: list[Denial] = []
            for state, asks in (("refused", True), ("objected", False)):
                names = [p.name for p in open_ if p.asks == asks]
                if names:
                    denials += self._deciding.deny(typed, names, state, None, now_us, (GPC,))
            return self._receipts.of(denials) if denials else None

    def withdraw(self, subject: str, purposes: Iterable[str] | None = None) -> ErasureReceipt:
        """Withdraw; erased when this returns. Always accepted, also for somebody unknown (`held none`).

        Args:
            purposes: all that rest on consent, and all that are held, by default.
        """
        with self._lock:
            typed = subject_of(self._catalog, subject)
            held = [key.purpose for key in self._keyring.keys_of(typed)]
            if purposes is None:
                asked = [p.name for p in self._catalog.purposes.values() if needs_consent(p)]
                names = list(dict.fromkeys([*asked, *held]))
            else:
                names = purposes_of(self._catalog, purposes, also=held)
            if not names:
                raise MalformedRequest("purposes", "a catalog with a purpose that rests on consent", "none")
            denials = self._deciding.deny(typed, names, "withdrawn", None, self._clock.now_us())
            return self._receipts.of(denials)

    def object(self, subject: str, purposes: Iterable[str]) -> ErasureReceipt:
        """Object to purposes that rest on another basis than consent (Art. 21); erased when this returns.

        They are not computed, kept or used for the subject any more, until it gives consent to them.

        Raises `MalformedRequest` for a purpose that rests on consent: that is withdrawn.
        """
        with self._lock:
            typed = subject_of(self._catalog, subject)
            names = purposes_of(self._catalog, purposes)
            if any(self._catalog.purposes[name].legal_basis == "consent" for name in names):
                other = "purposes under another basis than consent, which is withdrawn"
                raise MalformedRequest("purposes", other, "one under consent")
            denials = self._deciding.deny(typed, names, "objected", None, self._clock.now_us())
            return self._receipts.of(denials)

    def restrict(self, subject: str, purposes: Iterable[str]) -> ConsentRecord:
        """Keep what is held and use none of it, from now on (Art. 18), whatever the purposes rest on.

        A consent given later, here or elsewhere, lifts it once the ledger has it; on a standalone runtime at
        once. Raises `MalformedRequest` with nothing changed.
        """
        with self._lock:
            typed = subject_of(self._catalog, subject)
            held = [key.purpose for key in self._keyring.keys_of(typed)]
            names = purposes_of(self._catalog, purposes, also=held)
            now_us = self._clock.now_us()
            self._eraser.finish_pending()
            ids = tuple(self._deciding.restrict(typed, names, now_us))
            keys = [self._keyring.key(typed, name) for name in names]
            grants = tuple(0 if key is None else key.grant for key in keys)
            return ConsentRecord(typed, tuple(names), "restricted", "", now_us, ids, grants)

    def leave(self, subject: str) -> None:
        """The subject walks away: keys that were kept in memory only are gone, and what they held."""
        with self._lock:
            typed = subject_of(self._catalog, subject)
            gone = [key.purpose for key in self._keyring.keys_of(typed) if not key.resting]
            if gone:
                self._forget(typed, gone)
                self._keyring.release(typed)

    # ---- what stands ------------------------------------------------------------------------------------

    def state(self, subject: str, purpose: str) -> str:
        """The DPV state of (subject, purpose): given, refused, withdrawn, revoked, expired, …, or unknown.

        Raises `MalformedRequest` for a purpose the catalog does not declare and this device does not hold.
        """
        with self._lock:
            typed = subject_of(self._catalog, subject)
            held = [key.purpose for key in self._keyring.keys_of(typed)]
            return self._state(typed, purposes_of(self._catalog, [purpose], also=held)[0])

    def records(self, subject: str) -> list[ConsentRecord]:
        """What stands for a subject, one record for each purpose with a known state."""
        with self._lock:
            typed = subject_of(self._catalog, subject)
            names = {*self._catalog.purposes, *(key.purpose for key in self._keyring.keys_of(typed))}
            found = [self._record(typed, name) for name in sorted(names)]
            return [record for record in found if record is not None]

    def _state(self, subject: str, purpose: str) -> str:
        key = self._keyring.key(subject, purpose)
        if key is not None:
            return self._standing.barred(key) or "given"
        return self._standing.denied_state(self._keyring.pseudonym(subject), purpose) or "unknown"

    def _record(self, subject: str, purpose: str) -> ConsentRecord | None:
        state, key = self._state(subject, purpose), self._keyring.key(subject, purpose)
        if key is not None:
            facts = key.facts
            one = (facts.notice, facts.at_us, (facts.decision,), (facts.grant,))
            return ConsentRecord(subject, (purpose,), state, *one)
        denial = self._keyring.denial(self._keyring.pseudonym(subject), purpose)
        if denial is not None:
            return ConsentRecord(subject, (purpose,), state, denial.notice, denial.at_us, (denial.id,), (0,))
        return None if state == "unknown" else ConsentRecord(subject, (purpose,), state, "", 0, (), (0,))

    # ---- what the ledger says ---------------------------------------------------------------------------

    def apply_lane(self, entries: Sequence[LaneEntry], upto: int) -> list[ErasureReceipt]:
        """Enforce lane entries; when this returns their denials are unreadable and the position moved.

        Every denial newer than our position is answered by a receipt (erased, or `held none`), queued in the
        transaction that moves the position. Entries at or before our position are ignored.
        """
        with self._lock:
            return self._ledger.apply_lane(entries, upto)

    def recorded(self, decision_id: bytes, seq: int, outcome: str, grant: int) -> None:
        """The ledger has a decision of ours: number it; erase what was collected under a superseded give."""
        with self._lock:
            self._ledger.recorded(decision_id, seq, outcome, grant)

    def rolled_back(self) -> int:
        """This device is an older copy of itself: erase all that rests on consent; the app must ask again.

        A withdrawal that only the newer copy knew must not be undone by the older one. Returns how many keys
        were erased.
        """
        with self._lock:
            return len(self._expire(self._on_consent))

    def erase_everything(self, *, shut_out: bool = False) -> ErasureReceipt:
        """Erase all that is held of everybody, whatever it rests on; each must be asked again.

        For a device that is given away or out of use. Nothing is decided in anybody's name, so nothing is
        sent: what the ledger says of them stands. The receipt names nobody (16 zero bytes).

        Args:
            shut_out: the gate is closed for good; the receipt says so, and answers what waits for us.
        """
        with self._lock:
            return self._receipts.of(self._expire(lambda _: True), EVERYBODY, shut_out=shut_out)

    def _expire(self, which: Callable[[DataKey], bool]) -> list[Denial]:
        """Erase under every key that `which` picks; returns the denials that did it."""
        self._eraser.finish_pending()
        taken = [self._expired(key) for key in self._keyring.every_key() if which(key)]
        done = self._eraser.carry_out(taken, self._standing.bar) if taken else []
        self._standing.tidy()
        return done

    def _on_consent(self, key: DataKey) -> bool:
        purpose = self._catalog.purposes.get(key.purpose)
        return purpose is None or needs_consent(purpose)

    def _expired(self, key: DataKey) -> Denial:
        now_us = self._clock.now_us()
        one = (key.subject, key.purpose, "expired", None, now_us)
        denial = new_denial(self._keyring, self._database, *one)
        return msgspec.structs.replace(denial, taken_here=False, settled=True)

    # ---- opening ----------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Finish erasures, and put back into the outbox what an older copy of the database forgot."""
        with self._lock:
            with self._database.read() as tx:
                same = tx.meta("authority") == self._keyring.authority
                self.restored = not self._keyring.discarded and database_is_older(tx, self._keyring)
            if not same:
                self._begin_authority()
            compare = self.restored or self._keyring.discarded
            self._eraser.finish(compare=compare)
            if self._keyring.enrolled:
                self._deciding.queue_pending_gives(compare=compare)
            if self.restored:
                self._leases.distrust("an older copy of the database was put back")
                self._distrust_budget()
            note_opening(self._database, self._keyring)

    def _distrust_budget(self) -> None:
        """An older copy does not say what was spent since; a rebuilt one says what it does not know."""
        with self._database.write("budget") as tx:
            if tx.meta(REBUILT) is None:
                tx.set_meta(UNSURE_DAY, unsure_day(tx.meta, self._clock.now_us()))

    def _begin_authority(self) -> None:
        """Another identity: nobody answers any more for what the earlier one's server said."""
        with self._database.write("authority") as tx:
            tx.forget_authority()
            tx.set_meta("authority", self._keyring.authority)
