"""What the ledger says, enforced here: its lane, and its answers to our own decisions."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.clock import Clock
from edge_runtime.consent import restricting
from edge_runtime.consent.denying import base_of, knows, new_denial
from edge_runtime.consent.erasure import Eraser
from edge_runtime.consent.receipt import ErasureReceipt, Receipts
from edge_runtime.consent.standing import Standing
from edge_runtime.consent.words import GIVEN
from edge_runtime.errors import MalformedRequest, NotEnrolled, SyncRefused
from edge_runtime.keys.datakey import DataKey, KeyFacts, new_facts
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import Decision, LaneEntry
from edge_runtime.wire.ticket import check as check_ticket


class LedgerSide:
    """Applies lane entries and acknowledgements. The consent room's lock guards every call."""

    def __init__(
        self,
        keyring: Keyring,
        database: Database,
        clock: Clock,
        eraser: Eraser,
        receipts: Receipts,
        standing: Standing,
    ) -> None:
        self._keyring, self._database, self._clock = keyring, database, clock
        self._eraser, self._receipts, self._standing = eraser, receipts, standing

    def apply_lane(self, entries: Sequence[LaneEntry], upto: int) -> list[ErasureReceipt]:
        """Enforce lane entries; when this returns their denials are unreadable and the position moved.

        Every denial newer than our position is answered by a receipt (erased, or `held none`), queued in the
        transaction that moves the position. Entries at or before our position are ignored.
        """
        with self._database.read() as tx:
            position = tx.lane_position()
        # each entry is the present state of its pair: of several only the newest counts
        latest = {(e.subject, e.purpose): e for e in sorted(entries, key=lambda e: e.seq) if e.seq > position}
        new = list(latest.values())
        self._eraser.finish_pending()
        doomed = [d for entry in new if (d := self._denial_of(entry)) is not None]
        if doomed:
            # denials first: nothing else of this frame counts before they are carried out
            self._carry_out(doomed)
        self._number(new, position)
        answered = [entry for entry in new if entry.denial > position]
        denials = [self._proven(entry) for entry in answered]
        with self._database.write("lane") as tx:
            tx.put_lane(new)
            receipts = [self._answer(tx, e, denial) for e, denial in zip(answered, denials, strict=True)]
            tx.set_lane_position(max(upto, position))
        self._standing.learn(new)
        return receipts

    def answer_again(self, entries: Iterable[LaneEntry]) -> None:
        """Queue once more the answers to the newest denials of these pairs: the server has lost them."""
        answered = [(entry, self._proven(entry)) for entry in entries]
        with self._database.write("answer_again") as tx:
            for entry, denial in answered:
                self._answer(tx, entry, denial)

    def recorded(self, decision_id: bytes, seq: int, outcome: str, grant: int) -> None:
        """The ledger has a decision of ours: number it; erase what was collected under a superseded give."""
        with self._database.read() as tx:
            payload = tx.outbox_item("decision", decision_id)
        if payload is None:
            return
        decision = msgspec.msgpack.decode(payload, type=Decision)
        if decision.state in GIVEN:
            self._grant_recorded(decision, outcome, grant)
        elif decision.state == restricting.RESTRICTED:
            self._restriction_recorded(decision, seq)
        else:
            self._denial_recorded(decision, seq)
        with self._database.write("recorded") as tx:
            tx.settle(decision_id, "decision")

    def live_grant(self, subject: str, purpose: str) -> int:
        """The grant that the ledger has for a typed subject, as far as was heard; 0 with a newer denial."""
        pseudonym = self._keyring.pseudonym(subject)
        with self._database.read() as tx:
            entry = tx.lane_entry(pseudonym, purpose)
        denial = self._keyring.denial(pseudonym, purpose)
        if entry is None or entry.grant <= entry.denial or entry.state not in GIVEN:
            return 0
        if denial is not None and (not denial.settled or denial.seq == 0 or denial.seq > entry.grant):
            return 0
        return entry.grant

    def take_up(self, subject: str, resting: Mapping[str, bool], ticket: bytes) -> list[DataKey]:
        """The keys of a typed subject under the ledger's own grants, made where they were not held yet.

        Args:
            resting: purpose -> whether its key may rest on disk.
            ticket: the backend's word for these purposes; see `Consents.admit` for what is raised.
        """
        grants = {purpose: self._ticketed_grant(subject, purpose, ticket) for purpose in resting}
        for on_disk in (True, False):
            fresh = [p for p in grants if resting[p] == on_disk and self._keyring.key(subject, p) is None]
            if fresh:
                facts = [(subject, self._taken_up(purpose, grants[purpose])) for purpose in fresh]
                self._keyring.create(facts, resting=on_disk)
        keys = [key for purpose in grants if (key := self._keyring.key(subject, purpose)) is not None]
        for key in keys:
            if key.grant == 0 and not key.facts.pending:  # made under a declared basis, before any decision
                self._keyring.set_grant(key, grants[key.purpose])
        return keys

    def _taken_up(self, purpose: str, grant: int) -> KeyFacts:
        return new_facts(
            purpose,
            secrets.token_bytes(16),
            "",
            base=base_of(self._keyring, self._database),
            at_us=self._clock.now_us(),
            grant=grant,
            ordinal=self._keyring.next_ordinal(),
        )

    def _ticketed_grant(self, subject: str, purpose: str, ticket: bytes) -> int:
        identity = self._keyring.identity
        if identity.server_key is None:
            raise NotEnrolled("a ticket is for a device of a server; enrol first")
        pseudonym = self._keyring.pseudonym(subject)
        try:
            check_ticket(identity.server_key, ticket, identity.device_id, pseudonym, purpose, None)
        except WireFailure as failure:
            raise SyncRefused(failure.code, failure.reason) from None
        grant = self.live_grant(subject, purpose)
        if grant == 0:
            raise MalformedRequest("purposes", f"a consent to {purpose} in the ledger, synced here", "none")
        return grant

    def _grant_recorded(self, decision: Decision, outcome: str, grant: int) -> None:
        key = self._keyring.by_pseudonym(decision.subject, decision.purpose)
        if key is None or decision.id not in key.facts.pending:
            return
        if outcome != "superseded":
            if not self._ended_since(key, grant):
                self._keyring.set_grant(key, grant, decision.id)
                self._standing.decided(key.subject, key.purpose)
            return
        if key.grant and grant == key.grant:
            # a restriction stood there that we had not seen: the grant lives on, so what is held is kept
            self._keyring.set_grant(key, grant, decision.id)
            return
        # a denial stood in the ledger that we had not seen: its lane entry is still to come
        denial = self._denial(key, "withdrawn")
        came = msgspec.structs.replace(denial, taken_here=False, settled=True)
        self._carry_out([came])

    def _ended_since(self, key: DataKey, grant: int) -> bool:
        """Carry out the denial that a key waited with, where it is newer than the grant that it gets.

        Then it was not the one that the key's decision followed: another device said that once more, under
        its id but in its own name. What was answered for it before spoke of less, so it is answered anew.
        """
        with self._database.read() as tx:
            entry = tx.lane_entry(self._keyring.pseudonym(key.subject), key.purpose)
        if entry is None or entry.denial <= grant:
            return False
        self._carry_out([self._ending(key, entry)])
        self.answer_again([entry])
        return True

    def _restriction_recorded(self, decision: Decision, seq: int) -> None:
        with self._database.write("recorded") as tx:
            restricting.mark(tx, decision.subject, decision.purpose, seq)
        key = self._keyring.by_pseudonym(decision.subject, decision.purpose)
        if key is None:
            return
        if key.facts.restricted is not None and key.facts.restricted.id == decision.id:
            self._keyring.restrict(key, None)
        self._standing.decided(key.subject, key.purpose)

    def _denial_recorded(self, decision: Decision, seq: int) -> None:
        kept = [d for d in self._keyring.denials_of(decision.subject) if d.id == decision.id]
        if not kept:
            return
        numbered = msgspec.structs.replace(self._eraser.proven(kept[0]), seq=seq, settled=True)
        self._keyring.remember([numbered])
        stands = any(d.id == decision.id for d in self._keyring.denials_of(decision.subject))
        with self._database.write("recorded") as tx:
            self._eraser.queue_receipt(tx, numbered)
            if stands:
                self._eraser.store(tx, numbered)
            else:  # the subject has given again since
                tx.drop_denial(numbered.id)

    def _denial_of(self, entry: LaneEntry) -> Denial | None:
        """The denial by which a lane entry ends our key; None when the key stays."""
        key = self._keyring.by_pseudonym(entry.subject, entry.purpose) if entry.denial else None
        if key is None:
            return None
        # what the key's own decision had seen cannot end it; before the ledger numbers it, that is its base
        if entry.denial <= (key.grant or key.facts.base):
            return None
        # our own denial, which the key's decision followed: it waits, barred, for the ledger's word on that
        if not key.grant and knows(self._keyring, key, entry.decision):
            return None
        return self._ending(key, entry)

    def _ending(self, key: DataKey, entry: LaneEntry) -> Denial:
        """The denial of a lane entry, as what ends our key."""
        # the denial lies behind the present state: what came after it is not for this key
        state = "revoked" if entry.state in (*GIVEN, "restricted") else entry.state
        denial = self._denial(key, state)
        return msgspec.structs.replace(denial, seq=entry.denial, settled=True, taken_here=False)

    def _number(self, entries: Iterable[LaneEntry], position: int) -> None:
        """Give a carried-out denial that had no number the one that the lane brings."""
        for entry in entries:
            if entry.denial <= position:
                continue
            denial = self._keyring.denial(entry.subject, entry.purpose)
            if denial is None or denial.seq or not denial.settled:
                continue
            self._keyring.remember([msgspec.structs.replace(denial, seq=entry.denial)])

    def _proven(self, entry: LaneEntry) -> Denial | None:
        denial = self._keyring.denial(entry.subject, entry.purpose)
        return None if denial is None else self._eraser.proven(denial)

    def _answer(self, tx: WriteTransaction, entry: LaneEntry, denial: Denial | None) -> ErasureReceipt:
        """The receipt for a denial in the lane: of what it, or our own withdrawal before it, removed here."""
        if denial is not None and denial.evidence is not None and denial.seq in (0, entry.denial):
            self._eraser.store(tx, denial)
            return self._eraser.queue_receipt(tx, msgspec.structs.replace(denial, seq=entry.denial))
        receipt = self._receipts.held_none(entry.subject, entry.purpose, entry.denial)
        self._eraser.queue(tx, receipt)
        return receipt

    def _denial(self, key: DataKey, state: str) -> Denial:
        now_us = self._clock.now_us()
        return new_denial(self._keyring, self._database, key.subject, key.purpose, state, None, now_us)

    def _carry_out(self, denials: Sequence[Denial]) -> None:
        self._eraser.carry_out(denials, self._standing.bar)
        self._standing.tidy()
