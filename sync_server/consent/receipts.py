"""Taking in a device's signed receipt: verified, matched with the denials it answers, counted once."""

from __future__ import annotations

from typing import NamedTuple

from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.receipt import Receipt, open_receipt
from sync_server.consent.decisions import device_actor
from sync_server.store.protocol import WriteTx
from sync_server.store.records import DENIALS, Answer, Denial, DeviceRow, Evidence, StoredReceipt


class Accepted(NamedTuple):
    """A receipt that was taken in, and the revocations that it moved."""

    id: bytes
    revocations: tuple[str, ...]


def accept(tx: WriteTx, device: DeviceRow, body: bytes, signature: bytes, *, now_us: int) -> Accepted:
    """Store the receipt in `body` and let it answer. The same one again changes nothing.

    A receipt for a newer denial of a pair also answers the older ones. One whose canary could still be read
    proves no erasure and answers nothing. What answers nothing is acknowledged and not kept.

    Raises `WireFailure`: the signature is not this device's, or it names what it cannot answer.
    """
    receipt = open_receipt(body, signature, device.public_key)
    if receipt.device_id != device.device_id:
        raise WireFailure("bad_signature", "the receipt is another device's")
    known = tx.receipt(receipt.id)
    if known is not None:
        if (known.device_id, known.body) != (device.device_id, body):
            raise WireFailure("malformed", "another receipt has this id")
        return Accepted(receipt.id, ())
    answered = [] if receipt.canary_unreadable is False else _answered(tx, device, receipt)
    kept = [d for d in answered if _concerns(tx, d, device.device_id, receipt)]
    if kept:
        tx.add_receipt(StoredReceipt(receipt.id, device.device_id, body, signature, now_us))
    for denial in kept:
        tx.add_answer(Answer(denial.seq, device.device_id, receipt.id, receipt.kind))
        _settle(tx, denial, device.device_id, now_us)
    moved = tuple(sorted({d.revocation for d in kept}))
    for revocation in moved:
        tx.complete(revocation, now_us)
    return Accepted(receipt.id, moved)


def _answered(tx: WriteTx, device: DeviceRow, receipt: Receipt) -> list[Denial]:
    """Every denial that the receipt speaks for, oldest first."""
    named = [_denial_step(tx.evidence(seq), receipt) for seq in receipt.denials]
    actor = device_actor(device.device_id)
    for decision in receipt.decisions:
        named.append(_denial_step(tx.evidence_of_decision(actor, decision), receipt))
    newest: dict[str, int] = {}
    for step in named:
        newest[step.purpose] = max(step.seq, newest.get(step.purpose, 0))
    return [d for p, seq in newest.items() for d in tx.denials_of_pair(receipt.subject, p, seq)]


def _denial_step(step: Evidence | None, receipt: Receipt) -> Evidence:
    if step is None or step.state not in DENIALS:
        raise WireFailure("malformed", "the receipt answers a denial that is not in the ledger")
    if step.subject != receipt.subject or step.purpose not in receipt.purposes:
        raise WireFailure("malformed", "the receipt answers a denial of another subject or purpose")
    return step


def _concerns(tx: WriteTx, denial: Denial, device_id: str, receipt: Receipt) -> bool:
    """Whether anybody waits for this answer, or should hear it: a late holder that erased something."""
    target = tx.target(denial.revocation, device_id)
    return receipt.kind == "erased" if target is None else target.erased_us is None


def _settle(tx: WriteTx, denial: Denial, device_id: str, now_us: int) -> None:
    tx.add_late_target(denial.revocation, device_id, denial.seq, now_us)
    if tx.answered(denial.revocation, device_id):
        tx.target_erased(denial.revocation, device_id, now_us)
