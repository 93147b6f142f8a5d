"""The consent office: decisions and revocations as the API asks for them, and what they prove."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from edge_runtime.wire.messages import LedgerHead
from sync_server.catalog.purpose_leases import PurposeLeases, unleased
from sync_server.clock import Clock
from sync_server.consent import ledger, merkle, stating
from sync_server.consent.consent_receipt import Decided, consent_receipt
from sync_server.consent.decisions import API, Proposal, RecordedDecision, record, repeated
from sync_server.consent.progress import Enforced, Progress, enforced, progress
from sync_server.consent.record_id import claimed_seq, names, record_id
from sync_server.consent.revocations import Revoking, erase_rows, revoke
from sync_server.consent.root import links
from sync_server.consent.signals import heeded, opt_outs
from sync_server.consent.signed_document import SignedDocument
from sync_server.devices.authority import Authority
from sync_server.devices.entropy import Entropy
from sync_server.errors import Problem
from sync_server.events.telling import notice
from sync_server.settings import Settings
from sync_server.store.protocol import ReadTx, Store, WriteTx
from sync_server.store.records import DENIALS, GIVEN, DecisionState, Evidence, RevocationRow, Target


class ConsentOffice:
    """What the API's doors call about consent. Devices hand theirs up through `sync.desk`."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        clock: Clock,
        settings: Settings,
        entropy: Entropy,
        purposes: Callable[[], Iterable[str]],
        leases: Callable[[], PurposeLeases] = dict,
    ) -> None:
        """`purposes` gives the active catalog's purposes, for revocations of all of them; `leases` the lease
        of each, over every registered catalog."""
        self._store, self._authority, self._clock = store, authority, clock
        self._settings, self._entropy = settings, entropy
        self._purposes, self._leases = purposes, leases

        self.check_gives: Callable[[], None] = lambda: None
        """Raises `Problem` (`catching_up`, `journal`) while nothing may be given."""

    # ---- decisions ---------------------------------------------------------------------------------------

    def decide(self, tx: WriteTx, proposal: Proposal) -> RecordedDecision:
        """Record a decision in the caller's transaction; a denial erases and finds its targets as well.

        A `given` against the subject's Global Privacy Control is recorded as `refused`. Raises what
        `check_gives` raises, for a `given` alone.
        """
        now_us, proposal = self._clock.now_us(), heeded(tx, proposal)
        if proposal.state == GIVEN and repeated(tx, proposal) is None:
            self.check_gives()
        if proposal.state not in DENIALS:
            return record(tx, proposal, now_us=now_us, salt=self._salt())
        before = tx.decision_state(proposal.subject, proposal.purpose)
        repeat = repeated(tx, proposal)
        if repeat is not None:
            return repeat
        unseen = unleased(self._leases(), [proposal.purpose])  # then data needs no consent to be there
        if unseen or _anything_to_erase(before, proposal.state):
            return self._revoke(tx, [proposal], "subject")[1][0]
        step = record(tx, proposal, now_us=now_us, salt=self._salt())
        erase_rows(tx, proposal.subject, proposal.purpose, step.seq)
        return step

    def opt_out(
        self, tx: WriteTx, subject: bytes, notice: str, signals: tuple[str, ...]
    ) -> list[RecordedDecision]:
        """Deny every purpose that sells, shares or targets and is not denied yet; returns those denials."""
        done, now_us = [], self._clock.now_us()
        for purpose, state in opt_outs(tx).items():
            if tx.decision_state(subject, purpose).state not in DENIALS:
                base = tx.lane_head()
                done.append(
                    self.decide(
                        tx, Proposal(subject, purpose, state, notice, base, now_us, API, signals=signals)
                    )
                )
        return done

    # ---- revocations -------------------------------------------------------------------------------------

    def revoke(
        self,
        tx: WriteTx,
        subject: bytes,
        purposes: Sequence[str] | None,
        initiator: Literal["subject", "controller"],
        notice: str,
        callback_urls: Sequence[str] = (),
    ) -> tuple[RevocationRow, dict[str, object]]:
        """Revoke in the caller's transaction; returns the revocation and its signed statement.

        `purposes` None is every purpose that the catalog has or anybody ever decided on: the same list for
        every subject, so that it tells nothing.
        """
        named = sorted({*self._purposes(), *tx.decided_purposes()} if purposes is None else set(purposes))
        if not named:
            raise Problem("no_catalog", "there is no purpose to revoke yet")
        state, base = ("withdrawn" if initiator == "subject" else "revoked"), tx.lane_head()
        now_us = self._clock.now_us()
        proposals = [Proposal(subject, p, state, notice, base, now_us, API) for p in named]
        row, _ = self._revoke(tx, proposals, initiator, callback_urls)
        return row, self._accepted(tx, row)

    def withdraw_record(self, tx: WriteTx, name: str) -> RevocationRow | None:
        """Revoke for the subject and purpose of the record of that name, unless that was done since.

        Returns the revocation that ended it, now or before. None: there is no such record, so that nothing
        stands under its name; or a denial ended it for which nobody had to be asked.
        """
        step = self.record_named(tx, name)
        if step is None or step.erased:
            return None
        later = tx.decision_state(step.subject, step.purpose).denial
        if later >= step.seq:
            return tx.revocation_since(step.subject, step.purpose, step.seq)
        return self.revoke(tx, step.subject, [step.purpose], "subject", "")[0]

    def settle(self) -> None:
        """Say, after a commit, that the server's own keys are gone, if they are.

        Called after every commit that moved the lane, and at every start, for what a kill left over.
        """
        with self._store.read() as reading:
            waiting = reading.unerased_revocations()
            keys_left = reading.pending_key_erasures()
        if keys_left or not waiting:
            return
        with self._store.write("erased", durable=False) as tx:
            for revocation_id in waiting:
                tx.server_erased(revocation_id, self._clock.now_us())
                tx.complete(revocation_id, self._clock.now_us())
                notice(tx, revocation_id, self._clock.now_us())

    # ---- looking -----------------------------------------------------------------------------------------

    def record_id(self, step: Evidence) -> str:
        """The name under which the API shows a step."""
        return record_id(self._authority.digest_key, step.seq, step.leaf)

    def record_named(self, tx: ReadTx, name: str) -> Evidence | None:
        """The step of that name; None when there is none."""
        seq = claimed_seq(name)
        step = None if seq is None else tx.evidence(seq)
        if step is None or not names(self._authority.digest_key, name, step.seq, step.leaf):
            return None
        return step

    def receipt(self, tx: ReadTx, step: Evidence) -> SignedDocument:
        """The signed receipt of a decision, with its proof under the ledger's present head.

        Raises `Problem("evidence_erased")`: nobody can say any more whom it was about.
        """
        if step.erased:
            raise Problem("evidence_erased")
        head = self.head(tx)
        inclusion = merkle.inclusion(step.seq - 1, head.size, tx.ledger_node)
        decided = Decided(self.record_id(step), step, inclusion, head)
        registry, notice = tx.registry.named(step.registry), tx.registry.notice(step.notice)
        authority = self._authority
        return consent_receipt(authority.signing, decided, registry, notice, authority.chain)

    def progress(self, tx: ReadTx, row: RevocationRow) -> Progress:
        """Where the revocation stands now."""
        recipients = tx.recipients.answers(row.id)
        return progress(row, tx.targets(row.id), tx.answers(row.id), self._clock.now_us(), recipients)

    def enforced(self, target: Target) -> Enforced | None:
        """From when one target could no longer use the data, and by what; None when it still may."""
        return enforced(target, self._clock.now_us())

    def outcome(self, tx: ReadTx, row: RevocationRow) -> dict[str, object]:
        """What is signed when nobody is waited for any more: that all answered, or who is overdue.

        Raises `Problem("not_completed")` before.
        """
        standing = self.progress(tx, row)
        if standing.state not in ("completed", "partially_completed"):
            raise Problem("not_completed", state=standing.state)
        proven, head = self._proven(tx, row)
        answers = tx.answers(row.id)
        answered, owing = list[stating.DeviceProof](), list[stating.DeviceProof]()
        for target in tx.targets(row.id):
            ids = sorted({a.receipt for a in answers if a.device_id == target.device_id})
            proof = self._device_proof(tx, target, ids)
            (answered if target.erased_us is not None else owing).append(proof)
        key, assurance = self._authority.signing, self._settings.key_assurance
        onward = tx.recipients.answers(row.id)
        if standing.state == "completed":
            done = (answered, onward, assurance)
            return self._led(stating.completed(key, row, proven, head, standing, *done))
        named = (answered, owing, onward, assurance)
        return self._led(stating.partially_completed(key, row, proven, head, standing, *named))

    def _device_proof(self, tx: ReadTx, target: Target, receipts: Sequence[bytes]) -> stating.DeviceProof:
        device = tx.device(target.device_id)
        held = [r for r in map(tx.receipt, receipts) if r is not None]
        key = b"" if device is None else device.public_key
        keys = tx.device_keys(target.device_id)
        why = None if device is None or not device.revoked else device.revoked_why or "revoked"
        return stating.DeviceProof(target, self.enforced(target), key, held, keys, why)

    def head(self, tx: ReadTx) -> LedgerHead:
        """The ledger's signed head now."""
        return self._head(tx, tx.lane_head(), self._clock.now_us())

    # ---- within ------------------------------------------------------------------------------------------

    def _revoke(
        self,
        tx: WriteTx,
        proposals: Sequence[Proposal],
        initiator: Literal["subject", "controller"],
        callback_urls: Sequence[str] = (),
    ) -> tuple[RevocationRow, list[RecordedDecision]]:
        now_us = self._clock.now_us()
        name = "rev-" + base64.b32encode(self._entropy(15)).decode().lower()
        salts = [self._salt() for _ in proposals]
        due_us = now_us + self._settings.erasure_due_us
        wanted = Revoking(name, initiator, proposals, salts, due_us, callback_urls)
        return revoke(tx, wanted, self._leases(), self._settings.lease_bound_us, now_us=now_us)

    def _accepted(self, tx: ReadTx, row: RevocationRow) -> dict[str, object]:
        proven, head = self._proven(tx, row)
        return self._led(stating.accepted(self._authority.signing, row, proven, head))

    def _led(self, document: dict[str, object]) -> dict[str, object]:
        """With the keys that lead to the one that signed it."""
        return document | {"succession": msgspec.to_builtins(links(self._authority.chain))}

    def _proven(self, tx: ReadTx, row: RevocationRow) -> tuple[list[stating.Proven], LedgerHead]:
        """The denials with their proofs, under the head as it was when they were recorded."""
        denials = tx.denials(row.id)
        size = denials[-1].seq
        steps = [step for step in (tx.evidence(d.seq) for d in denials) if step is not None]
        proven = [
            stating.Proven(step, merkle.inclusion(step.seq - 1, size, tx.ledger_node)) for step in steps
        ]
        return proven, self._head(tx, size, row.accepted_us)

    def _head(self, tx: ReadTx, size: int, time_us: int) -> LedgerHead:
        authority = self._authority
        return ledger.sign_head(authority.signing, size, tx.ledger_node, time_us, authority.incarnation)

    def _salt(self) -> bytes:
        return self._entropy(ledger.SALT_BYTES)


def _anything_to_erase(before: DecisionState, state: str) -> bool:
    """A first refusal, of what was never given, waits for nobody: no copy could exist."""
    return not (state == "refused" and before.grant == 0)
