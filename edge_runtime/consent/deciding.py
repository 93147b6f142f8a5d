"""What a decision of a subject does: a give makes or renews keys, a denial destroys them, the server is told.

Decisions are numbered here while this device is its own authority, by the ledger once it is enrolled.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.consent import restricting
from edge_runtime.consent.denying import base_of, followed, new_denial
from edge_runtime.consent.erasure import Eraser
from edge_runtime.consent.ledger_side import LedgerSide
from edge_runtime.consent.standing import Standing
from edge_runtime.consent.words import Declared
from edge_runtime.keys.datakey import KeyFacts, Restriction, new_facts
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

    def give(
        self,
        subject: str,
        purposes: Sequence[str],
        notice: str,
        at_us: int,
        signals: tuple[str, ...] = (),
    ) -> list[bytes]:
        """Make or renew the keys, then queue the decisions; returns their ids, in the order of `purposes`."""
        decisions = {purpose: secrets.token_bytes(16) for purpose in purposes}
        base, enrolled = base_of(self._keyring, self._database), self._keyring.enrolled
        held = {p: key for p in purposes if (key := self._keyring.key(subject, p)) is not None}
        after = {p: followed(self._keyring, subject, p) for p in purposes}
        over = set(self._settled_denials(subject))
        for resting in (True, False):
            fresh = [p for p in purposes if p not in held and self._catalog.purposes[p].on_disk == resting]
            facts = [
                self._facts(subject, p, decisions[p], notice, base, at_us, signals, after[p]) for p in fresh
            ]
            if facts:
                self._keyring.create([(subject, one) for one in facts], resting=resting)
        for purpose, key in held.items():
            newer = (notice, base, decisions[purpose])
            self._keyring.renew(key, *newer, pending=enrolled, signals=signals, after=after[purpose])
        if not enrolled:
            self._lift_alone(subject, purposes)
        over -= set(self._settled_denials(subject))
        name, said = self._keyring.pseudonym(subject), (notice, base, at_us, signals)
        told = [Decision(decisions[p], name, p, "given", *said, after=after[p]) for p in purposes if enrolled]
        self._conclude(told, over)
        for purpose in purposes:
            self._standing.decided(subject, purpose)
        return list(decisions.values())

    def _facts(
        self,
        subject: str,
        purpose: str,
        decision: bytes,
        notice: str,
        base: int,
        at_us: int,
        signals: tuple[str, ...],
        after: bytes | None,
    ) -> KeyFacts:
        ordinal, enrolled = self._keyring.next_ordinal(), self._keyring.enrolled
        return new_facts(
            purpose,
            decision,
            notice,
            base=base,
            at_us=at_us,
            grant=self._ledger.live_grant(subject, purpose) if enrolled else ordinal,
            ordinal=ordinal,
            pending=(decision,) if enrolled else (),
            signals=signals,
            after=after,
        )

    def _settled_denials(self, subject: str) -> list[bytes]:
        return [d.id for d in self._keyring.denials_of(self._keyring.pseudonym(subject)) if d.settled]

    def _conclude(self, given: Sequence[Decision], over: Iterable[bytes]) -> None:
        """Queue consents for the server; forget denials that are over."""
        gone = list(over)
        if not given and not gone:
            return
        with self._database.write("give") as tx:
            for decision in given:
                tx.enqueue("decision", decision.id, canonical(decision))
            for id_ in gone:
                tx.drop_denial(id_)
        self._keyring.told((decision.subject, decision.purpose) for decision in given)
        if given:
            self._queued()

    def deny(
        self,
        subject: str,
        purposes: Sequence[str],
        state: str,
        notice: str | None,
        at_us: int,
        signals: tuple[str, ...] = (),
    ) -> list[Denial]:
        """Destroy keys and what they opened; returns a denial for each purpose, standing ones as they are."""
        self._eraser.finish_pending()
        standing = [self._standing_denial(subject, name, state) for name in purposes]
        fresh = [
            new_denial(self._keyring, self._database, subject, name, state, notice, at_us, signals)
            for name, denial in zip(purposes, standing, strict=True)
            if denial is None
        ]
        done = {d.purpose: d for d in self._eraser.carry_out(fresh, self._standing.bar)} if fresh else {}
        self._standing.tidy()
        self._queued()
        return [denial or done[name] for name, denial in zip(purposes, standing, strict=True)]

    def restrict(self, subject: str, purposes: Sequence[str], at_us: int) -> list[bytes]:
        """Keep what is held and let nobody use it, from now on; returns the decisions' ids in order.

        The keystore holds it first, so that an older copy of the database does not forget it; where there is
        no key, nothing is held either, and the database says alone that none may come.
        """
        name, base = self._keyring.pseudonym(subject), base_of(self._keyring, self._database)
        told = []
        for purpose in purposes:
            said, key = Restriction(secrets.token_bytes(16), base, at_us), self._keyring.key(subject, purpose)
            if key is not None:
                self._keyring.restrict(key, said)
            told.append(restricting.decision_of(name, purpose, said, key))
        self._tell_restrictions(told)
        for purpose in purposes:
            self._standing.decided(subject, purpose)
        return [decision.id for decision in told]

    def _tell_restrictions(self, told: Sequence[Decision]) -> None:
        enrolled = self._keyring.enrolled
        with self._database.write("restrict") as tx:
            for decision in told:
                restricting.mark(tx, decision.subject, decision.purpose, decision.base)
                if enrolled:
                    tx.enqueue("decision", decision.id, canonical(decision))
        self._keyring.told((decision.subject, decision.purpose) for decision in told)
        if enrolled:
            self._queued()

    def _lift_alone(self, subject: str, purposes: Sequence[str]) -> None:
        """Without a ledger a new consent lifts a restriction: the subject has nobody else to ask."""
        for purpose in purposes:
            key = self._keyring.key(subject, purpose)
            if key is not None and key.facts.restricted is not None:
                self._keyring.restrict(key, None)
        with self._database.write("lift") as tx:
            for purpose in purposes:
                entry = tx.lane_entry(self._keyring.pseudonym(subject), purpose)
                if entry is not None and entry.state == restricting.RESTRICTED:
                    tx.put_lane([msgspec.structs.replace(entry, state="given", seq=self._keyring.sequence)])

    def queue_pending_gives(self, *, compare: bool) -> None:
        """Put back into the outbox what a crash kept from it.

        Args:
            compare: this database is an older copy: look at every key, not only at those in doubt.
        """
        doubted = [self._keyring.by_pseudonym(*pair) for pair in self._keyring.doubt]
        keys = self._keyring.every_key() if compare else [key for key in doubted if key is not None]
        with self._database.read() as tx:
            waiting = {item.id for item in tx.outbox("decision")} if compare or doubted else set()
        for key in keys:
            facts = key.facts
            missing = [id_ for id_ in facts.pending if id_ not in waiting]
            name = self._keyring.pseudonym(key.subject)
            shown = (facts.notice, facts.base, facts.at_us, facts.signals)
            again = [Decision(id_, name, key.purpose, "given", *shown, after=facts.after) for id_ in missing]
            limits = [] if facts.restricted is None or facts.restricted.id in waiting else [facts.restricted]
            told = [restricting.decision_of(name, key.purpose, said, key) for said in limits]
            followed_by = any(said.id == facts.after for said in limits)  # then it goes before the consents
            if followed_by:
                self._tell_restrictions(told)
            self._conclude(again, ())
            if told and not followed_by:
                self._tell_restrictions(told)
        self._keyring.told(self._keyring.doubt)

    def _standing_denial(self, subject: str, purpose: str, state: str) -> Denial | None:
        """A denial of the same kind that waits to be sent, or stands alone: saying it again adds nothing."""
        if self._keyring.key(subject, purpose) is not None:
            return None
        denial = self._keyring.denial(self._keyring.pseudonym(subject), purpose)
        if denial is None or denial.state != state:
            return None
        denial = self._eraser.proven(denial)
        if denial.evidence is None:
            return None
        waits = denial.taken_here and not denial.settled
        return denial if waits or not self._keyring.identity.enrolled else None
