"""The consent office: decisions, revocations and receipts, each one transaction with what has to follow it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.clock import Clock
from sync_server.consent import ledger, merkle, receipts, statement
from sync_server.consent.decisions import API, Proposal, RecordedDecision, device_actor, record
from sync_server.consent.progress import Progress, enforced_us, progress
from sync_server.consent.revocations import Revoking, erase_rows, revoke
from sync_server.devices.authority import Authority
from sync_server.devices.entropy import Entropy
from sync_server.errors import Problem
from sync_server.settings import HOUR_US, Settings
from sync_server.store.protocol import ReadTx, Store, WriteTx
from sync_server.store.records import DENIALS, GIVEN, DecisionState, RevocationRow, StoredReceipt, Target


class ConsentOffice:
    """What the API's doors and the device session call about consent."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        clock: Clock,
        settings: Settings,
        entropy: Entropy,
        purposes: Callable[[], Iterable[str]],
    ) -> None:
        """`purposes` gives the active catalog's purposes, for revocations of all of them."""
        self._store, self._authority, self._clock = store, authority, clock
        self._settings, self._entropy, self._purposes = settings, entropy, purposes

    # ---- decisions ---------------------------------------------------------------------------------------

    def decide(self, tx: WriteTx, proposal: Proposal) -> RecordedDecision:
        """Record a decision in the caller's transaction; a denial erases and finds its targets as well.

        Call `settle()` after the commit.
        """
        now_us = self._clock.now_us()
        if proposal.state == GIVEN:
            return record(tx, proposal, now_us=now_us, salt=self._salt())
        before = tx.decision_state(proposal.subject, proposal.purpose)
        repeat = self._repeated(tx, proposal)
        if repeat is not None:
            return repeat
        if _anything_to_erase(before, proposal.state):
            return self._revoke(tx, [proposal], "subject")[1][0]
        step = record(tx, proposal, now_us=now_us, salt=self._salt())
        erase_rows(tx, proposal.subject, proposal.purpose, step.seq)
        return step

    def from_device(self, device_id: str, decision: m.Decision) -> RecordedDecision:
        """Record a decision taken on a device; the same id again gets the same answer.

        Raises `WireFailure`: `malformed` for a state that nobody can say, `overloaded` when the device records
        more consents in an hour than the settings allow.
        """
        if decision.state != GIVEN and decision.state not in DENIALS:
            raise WireFailure("malformed", "expected a state that can be said")
        actor = device_actor(device_id)
        proposal = Proposal(
            *(decision.subject, decision.purpose, decision.state, decision.notice, decision.base),
            *(decision.at_us, actor, decision.id),
        )
        with self._store.write("decision") as tx:
            if proposal.base > tx.lane_head():  # a future base would get around a later denial
                raise WireFailure("malformed", "expected a base that the lane has reached")
            if proposal.state == GIVEN and self._repeated(tx, proposal) is None:
                self._check_rate(tx, actor)
            recorded = self.decide(tx, proposal)
        self.settle()
        return recorded

    # ---- revocations -------------------------------------------------------------------------------------

    def revoke(
        self,
        tx: WriteTx,
        subject: bytes,
        purposes: Sequence[str] | None,
        initiator: Literal["subject", "controller"],
        notice: str,
    ) -> tuple[RevocationRow, dict[str, object]]:
        """Revoke in the caller's transaction; returns the revocation and its signed statement.

        `purposes` None is every purpose that the catalog has or anybody ever decided on: the same list for
        every subject, so that it tells nothing. Call `settle()` after the commit.
        """
        named = sorted({*self._purposes(), *tx.decided_purposes()} if purposes is None else set(purposes))
        if not named:
            raise Problem("no_catalog", "there is no purpose to revoke yet")
        state, base = ("withdrawn" if initiator == "subject" else "revoked"), tx.lane_head()
        now_us = self._clock.now_us()
        proposals = [Proposal(subject, p, state, notice, base, now_us, API) for p in named]
        row, _ = self._revoke(tx, proposals, initiator)
        return row, self._accepted(tx, row)

    def settle(self) -> None:
        """Follow up on what was committed: the server's own keys are gone by now, and it says so.

        Also at every start: whatever a kill left over is finished here.
        """
        with self._store.read() as reading:
            waiting = reading.unerased_revocations()
        if not waiting:
            return
        with self._store.write("erased", durable=False) as tx:
            for revocation_id in waiting:
                tx.server_erased(revocation_id, self._clock.now_us())
                tx.complete(revocation_id, self._clock.now_us())

    def recover(self) -> None:
        """Finish, at a start, every follow-up that a kill interrupted."""
        self.settle()
        with self._store.write("completed", durable=False) as tx:
            for revocation_id in tx.uncompleted_revocations():
                tx.complete(revocation_id, self._clock.now_us())

    def receive(self, device_id: str, body: bytes, signature: bytes) -> bytes:
        """Take in a device's signed receipt; returns its id. Raises `WireFailure` as `receipts.accept`."""
        with self._store.write("receipt", durable=True) as tx:
            device = tx.device(device_id)
            if device is None:
                raise WireFailure("unknown_device", "no such device is enrolled")
            taken = receipts.accept(tx, device, body, signature, now_us=self._clock.now_us())
        if taken.revocations:
            with self._store.write("completed", durable=False) as tx:
                for revocation_id in taken.revocations:
                    tx.complete(revocation_id, self._clock.now_us())
        return taken.id

    # ---- looking -----------------------------------------------------------------------------------------

    def progress(self, tx: ReadTx, row: RevocationRow) -> Progress:
        """Where the revocation stands now."""
        return progress(row, tx.targets(row.id), tx.answers(row.id), self._clock.now_us())

    def enforced_us(self, target: Target) -> int | None:
        """When one target could no longer use the data; None when it still may."""
        return enforced_us(target, self._clock.now_us())

    def completion(self, tx: ReadTx, row: RevocationRow) -> dict[str, object]:
        """The signed completion; raises `Problem("not_completed")` before every target answered."""
        standing = self.progress(tx, row)
        if standing.completed_us is None:
            raise Problem("not_completed", state=standing.state)
        proven, head = self._proven(tx, row)
        answers = tx.answers(row.id)
        devices = []
        for target in tx.targets(row.id):
            device = tx.device(target.device_id)
            ids = sorted({a.receipt for a in answers if a.device_id == target.device_id})
            held = [r for r in map(tx.receipt, ids) if r is not None]
            key = b"" if device is None else device.public_key
            devices.append(statement.DeviceProof(target, self.enforced_us(target), key, held))
        return statement.completed(self._authority.signing, row, proven, head, standing, devices)

    def head(self, tx: ReadTx) -> ledger.Head:
        """The ledger's signed head now."""
        return self._head(tx, tx.lane_head(), self._clock.now_us())

    # ---- within ------------------------------------------------------------------------------------------

    def _revoke(
        self, tx: WriteTx, proposals: Sequence[Proposal], initiator: Literal["subject", "controller"]
    ) -> tuple[RevocationRow, list[RecordedDecision]]:
        now_us = self._clock.now_us()
        name = "rev-" + base64.b32encode(self._entropy(15)).decode().lower()
        salts = [self._salt() for _ in proposals]
        due_us = now_us + self._settings.erasure_due_us
        return revoke(tx, Revoking(name, initiator, proposals, salts, due_us), now_us=now_us)

    def _accepted(self, tx: ReadTx, row: RevocationRow) -> dict[str, object]:
        proven, head = self._proven(tx, row)
        return statement.accepted(self._authority.signing, row, proven, head)

    def _proven(self, tx: ReadTx, row: RevocationRow) -> tuple[list[statement.Proven], ledger.Head]:
        """The denials with their proofs, under the head as it was when they were recorded."""
        denials = tx.denials(row.id)
        size = denials[-1].seq
        steps = [step for step in (tx.evidence(d.seq) for d in denials) if step is not None]
        proven = [
            statement.Proven(step, merkle.inclusion(step.seq - 1, size, tx.ledger_node)) for step in steps
        ]
        return proven, self._head(tx, size, row.accepted_us)

    def _head(self, tx: ReadTx, size: int, time_us: int) -> ledger.Head:
        authority = self._authority
        return ledger.sign_head(authority.signing, size, tx.ledger_node, time_us, authority.incarnation)

    def _repeated(self, tx: ReadTx, proposal: Proposal) -> RecordedDecision | None:
        if proposal.decision is None:
            return None
        old = tx.evidence_of_decision(proposal.actor, proposal.decision)
        return None if old is None else RecordedDecision(old.seq, old.outcome, old.grant, repeated=True)

    def _check_rate(self, tx: ReadTx, actor: str) -> None:
        """Law 11: whoever holds a device cannot open channels of subjects without end."""
        since_us = self._clock.now_us() - HOUR_US
        if tx.count_by_actor(actor, since_us) >= self._settings.device_gives_per_hour:
            raise WireFailure("overloaded", "too many decisions from one device in an hour")

    def _salt(self) -> bytes:
        return self._entropy(ledger.SALT_BYTES)


def _anything_to_erase(before: DecisionState, state: str) -> bool:
    """A first refusal, of what was never given, waits for nobody: no copy could exist."""
    return not (state == "refused" and before.grant == 0)
