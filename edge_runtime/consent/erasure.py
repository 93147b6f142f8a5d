"""Erasing: the steps from a denial to its receipt, in the one order in which a kill at any point is safe.

1. `denied`: the denial is committed; from here it is finished, whatever happens.
2. `silenced`: memory is zeroed.
3. `slot_both`: the root slot holds the old and a new root.
4. `keystore`: the keystore is rewritten under the new root, without the keys, with the denial.
5. `slot_new`: the slot holds the new root alone and counts one up: every copy of the old keystore is dead.
6. `rows`: the rows are deleted.
7. `wal`: the write-ahead log is cut to nothing.
8. `canary`: a sealed sample no longer opens.
9. `receipt`: what was done is recorded, and queued for the server.

`finish` runs at opening and completes what a kill cut short, and what an older copy of the database forgot.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from edge_runtime.aggregates.unsent import drop_dead, drop_unsent
from edge_runtime.cache.database import Database
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.clock import Clock
from edge_runtime.keys import denial as denials_of
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.denial import Denial, Evidence
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire import codec, seal
from edge_runtime.wire.messages import Decision, ReceiptNote
from edge_runtime.wire.receipt import Receipt, open_receipt, receipt_bytes

POINTS: Final = (
    "begin",
    "denied",
    "silenced",
    "slot_both",
    "keystore",
    "slot_new",
    "rows",
    "wal",
    "canary",
    "receipt",
)
"""Every point at which the `step` hook is called, in order."""

Forget = Callable[[str, Sequence[str]], Mapping[str, int]]
"""Zero what memory holds of (typed subject, purposes); returns counts, at least `memory`."""


@dataclass(frozen=True)
class ErasureReceipt:
    """A device's signed statement of what a denial removed here. `body` is what the signature covers."""

    receipt: Receipt
    body: bytes
    signature: bytes
    public_key: bytes

    @classmethod
    def sign(cls, keyring: Keyring, receipt: Receipt) -> ErasureReceipt:
        """Sign with the device's key."""
        key, body = keyring.signing_key(), receipt_bytes(receipt)
        return cls(receipt, body, seal.sign(key, seal.RECEIPT, body), seal.public_bytes(key))

    def verify(self) -> Receipt:
        """Check the signature; raises `WireFailure("bad_signature")`."""
        return open_receipt(self.body, self.signature, self.public_key)

    def note(self) -> ReceiptNote:
        """The message that carries it to the server."""
        return ReceiptNote(receipt=self.body, signature=self.signature)

    def to_json(self) -> str:
        """For people and files: the statement, with bytes in hex, and how to check it."""
        fields = msgspec.structs.asdict(self.receipt)
        shown = {name: _shown(value) for name, value in fields.items()}
        proof = {
            "body": self.body.hex(),
            "signature": self.signature.hex(),
            "public_key": self.public_key.hex(),
        }
        return json.dumps({**shown, "proof": proof}, indent=2, sort_keys=True)


def _shown(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value


class Eraser:
    """Carries denials out. The consent room's lock guards every call.

    Args:
        forget: zeroes memory; called before any key goes.
        cold_start: what receipts say of cold starts.
        step: called with the name of each of `POINTS` as it is passed; for tests that kill there.
    """

    def __init__(
        self,
        keyring: Keyring,
        database: Database,
        clock: Clock,
        forget: Forget,
        cold_start: Callable[[], Literal["server", "lease", "standalone"]],
        step: Callable[[str], None],
    ) -> None:
        self._keyring, self._database, self._clock = keyring, database, clock
        self._forget, self._cold_start, self._step = forget, cold_start, step
        self._unfinished = False

    # ---- the steps --------------------------------------------------------------------------------------

    def carry_out(self, denials: Sequence[Denial], bar: Callable[[DataKey], None]) -> list[Denial]:
        """Run every step for `denials`; returns them with their evidence.

        Args:
            bar: called for each doomed key once its denial is committed: nobody may use it any more.
        """
        self._step("begin")
        self._unfinished = True
        doomed = {d.id: key for d in denials if (key := self._keyring.by_pseudonym(*d.pair)) is not None}
        denials = [self._with_canary(d, doomed.get(d.id)) for d in denials]
        with self._database.write("denial") as tx:
            for denial in denials:
                self.store(tx, denial)
                self._announce(tx, denial)
        for key in doomed.values():
            bar(key)
        self._step("denied")
        memory = self._silence(doomed.values())
        self._step("silenced")
        denials = self._keyring.destroy(denials, self._step)
        rows = self._delete_rows({d.id: doomed[d.id].handle for d in denials if d.id in doomed})
        counts = {d.id: Counter(rows.get(d.id, {})) for d in denials}
        for denial_id, key in doomed.items():
            counts[denial_id].update(memory.pop(key.subject, {}))
        return self._conclude(denials, counts)

    def finish(self) -> list[Denial]:
        """Complete every erasure that was cut short, and those that this database does not know of.

        Returns the denials completed. Called at opening, before anything personal can be used.
        """
        known = self._known()
        for denial in known.values():
            self._keyring.saw_ordinal(denial.ordinal)
        self._merge(known)
        remembered = {d.id: d for d in self._keyring.denials() if d.id not in known}
        pending = [d for d in known.values() if d.evidence is None] + list(remembered.values())
        if not pending:
            self._delete_unknown()
            self._unfinished = False
            return []
        return self._complete(sorted(pending, key=lambda denial: denial.ordinal))

    def finish_pending(self) -> None:
        """Finish an erasure that failed in this process (a full disk) before anything new is decided."""
        if self._unfinished:
            self.finish()

    def _merge(self, known: Mapping[bytes, Denial]) -> None:
        """Evidence stands in the database, the rest in the keystore; what it dropped is over."""
        over = []
        for denial in known.values():
            stored = self._keyring.denial_by_id(denial.id)
            if denial.evidence is not None and stored is not None:
                self._keyring.note(msgspec.structs.replace(stored, evidence=denial.evidence, canary=None))
            elif denial.evidence is not None and denial.settled:
                over.append(denial.id)
        if over:
            with self._database.write("denial") as tx:
                for id_ in over:
                    tx.drop_denial(id_)

    def _complete(self, pending: list[Denial]) -> list[Denial]:
        stored = [self._keyring.denial_by_id(d.id) or d for d in pending]
        todo = [d for d in stored if self._must_destroy(d)]
        done = {d.id: d for d in self._keyring.destroy(todo, self._step)} if todo else {}
        denials = [done.get(d.id, d) for d in stored]
        counts = {d.id: Counter[str]() for d in denials}
        counts[denials[0].id].update(self._delete_unknown())
        with self._database.write("denial") as tx:
            for denial in denials:
                self._announce(tx, denial)
        return self._conclude(denials, counts)

    def _must_destroy(self, denial: Denial) -> bool:
        key = self._keyring.by_pseudonym(*denial.pair)
        doomed = key is not None and key.ordinal < denial.ordinal
        return doomed or self._keyring.denial_by_id(denial.id) is None

    def _silence(self, keys: Iterable[DataKey]) -> dict[str, Mapping[str, int]]:
        purposes: dict[str, list[str]] = {}
        for key in keys:
            purposes.setdefault(key.subject, []).append(key.purpose)
        return {subject: self._forget(subject, names) for subject, names in purposes.items()}

    def _delete_rows(self, handles: Mapping[bytes, bytes]) -> dict[bytes, dict[str, int]]:
        if not handles:
            self._step("rows")
            return {}
        with self._database.write("erase") as tx:
            counts = {denial: tx.forget(handle) for denial, handle in handles.items()}
            for denial, handle in handles.items():
                counts[denial]["outbox"] = drop_unsent(tx, {handle})
        self._step("rows")
        return counts

    def _delete_unknown(self) -> dict[str, int]:
        """What hangs on no living key is unreadable; it goes too."""
        living = self._keyring.handles()
        with self._database.read() as tx:
            if not tx.handles() - living and not tx.outbox("report", limit=1):
                return {}
        with self._database.write("erase") as tx:
            return {**tx.forget_unknown(living), "outbox": drop_dead(tx, living)}

    def _conclude(self, denials: Sequence[Denial], counts: Mapping[bytes, Counter[str]]) -> list[Denial]:
        if any(d.held for d in denials) or any(sum(c.values()) for c in counts.values()):
            self._database.checkpoint_truncate()
        self._step("wal")
        now_us = self._clock.now_us()
        done = [self._with_evidence(d, counts[d.id], now_us) for d in denials]
        self._step("canary")
        with self._database.write("receipt") as tx:
            for denial in done:
                self.store(tx, denial)
                if denial.settled:
                    self.queue_receipt(tx, denial)
        for denial in done:
            self._keyring.note(denial)
        self._unfinished = False
        self._step("receipt")
        return done

    def _with_canary(self, denial: Denial, key: DataKey | None) -> Denial:
        return denial if key is None else msgspec.structs.replace(denial, canary=key.canary())

    def _with_evidence(self, denial: Denial, rows: Mapping[str, int], now_us: int) -> Denial:
        unreadable = None
        if denial.canary is not None:
            left = [*self._keyring.keys(), self._keyring.device_key()]
            unreadable = not any(key.opens_canary(denial.canary) for key in left)
        evidence = Evidence(
            denial.held, dict(rows), denial.counter_before, denial.counter_after, unreadable, now_us
        )
        return msgspec.structs.replace(denial, evidence=evidence, canary=None)

    def _known(self) -> dict[bytes, Denial]:
        with self._database.read() as tx:
            return {d.id: d for d in map(denials_of.decode, tx.denials())}

    # ---- telling the server -----------------------------------------------------------------------------

    def _announce(self, tx: WriteTransaction, denial: Denial) -> None:
        """Queue the decision for the ledger, unless it came from there or is settled."""
        if denial.settled or not denial.taken_here or not self._keyring.identity.enrolled:
            return
        d = denial
        tx.enqueue(
            "decision",
            d.id,
            seal.canonical(Decision(d.id, d.subject, d.purpose, d.state, d.notice, d.base, d.at_us)),
        )

    def queue_receipt(self, tx: WriteTransaction, denial: Denial) -> ErasureReceipt:
        """Sign the receipt that answers a denial, and queue it once the denial has a number."""
        receipt = self.receipt([denial])
        if denial.seq:
            self.queue(tx, receipt)
        return receipt

    def queue(self, tx: WriteTransaction, receipt: ErasureReceipt) -> None:
        """Queue a receipt for the server; a runtime without one keeps it as the denial's evidence only."""
        if self._keyring.identity.enrolled:
            tx.enqueue("receipt", receipt.receipt.id, codec.encode(receipt.note()))

    def store(self, tx: WriteTransaction, denial: Denial) -> None:
        """Store what is now known of a denial."""
        tx.put_denial(denial.id, denials_of.encode(denial), denial.evidence is None)

    def receipt(self, denials: Sequence[Denial]) -> ErasureReceipt:
        """The signed statement of what `denials` of one subject removed here."""
        proofs = [d.evidence for d in denials if d.evidence is not None]
        rows: Counter[str] = Counter()
        for proof in proofs:
            rows.update(proof.rows_deleted)
        canaries = [p.canary_unreadable for p in proofs if p.canary_unreadable is not None]
        body = Receipt(
            id=self._receipt_id([(d.id, d.seq) for d in denials]),
            kind="erased" if any(p.keys_destroyed for p in proofs) else "held_none",
            device_id=self._keyring.identity.device_id,
            subject=denials[0].subject,
            purposes=[d.purpose for d in denials],
            denials=[d.seq for d in denials if d.seq],
            decisions=[d.id for d in denials if d.taken_here],
            keys_destroyed=sum(p.keys_destroyed for p in proofs),
            rows_deleted=dict(rows),
            counter_before=min((p.counter_before for p in proofs), default=self._keyring.counter),
            counter_after=max((p.counter_after for p in proofs), default=self._keyring.counter),
            canary_unreadable=all(canaries) if canaries else None,
            assurance=self._keyring.assurance,
            cold_start=self._cold_start(),
            at_us=max((p.at_us for p in proofs), default=self._clock.now_us()),
        )
        return ErasureReceipt.sign(self._keyring, body)

    def held_none(self, subject: bytes, purpose: str, seq: int) -> ErasureReceipt:
        """The signed statement that a numbered denial found nothing here."""
        counter = self._keyring.counter
        body = Receipt(
            id=self._receipt_id([(subject + purpose.encode(), seq)]),
            kind="held_none",
            device_id=self._keyring.identity.device_id,
            subject=subject,
            purposes=[purpose],
            denials=[seq],
            decisions=[],
            keys_destroyed=0,
            rows_deleted={},
            counter_before=counter,
            counter_after=counter,
            canary_unreadable=None,
            assurance=self._keyring.assurance,
            cold_start=self._cold_start(),
            at_us=self._clock.now_us(),
        )
        return ErasureReceipt.sign(self._keyring, body)

    def _receipt_id(self, answered: Sequence[tuple[bytes, int]]) -> bytes:
        """One id for one answer, so that saying it twice is once."""
        body = seal.canonical((self._keyring.identity.device_id, list(answered)))
        return hashlib.blake2b(body, digest_size=16, person=b"edge-receipt").digest()
