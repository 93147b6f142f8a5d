"""Taking in a device's signed receipt: verified, matched with the denials it answers, counted once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.receipt import EVERYBODY, Receipt, open_receipt
from sync_server.consent.decisions import device_actor
from sync_server.events.telling import notice
from sync_server.journal.record import Wiped
from sync_server.store.protocol import WriteTx
from sync_server.store.records import DENIALS, Answer, Denial, DeviceRow, Evidence, StoredReceipt


class Accepted(NamedTuple):
    """A receipt that was taken in, and the revocations that it moved: to be concluded by the caller."""

    id: bytes
    revocations: tuple[str, ...]


def accept(tx: WriteTx, device: DeviceRow, body: bytes, signature: bytes, *, now_us: int) -> Accepted:
    """Store the receipt in `body` and let it answer. The same one again changes nothing.

    A receipt for a newer denial of a pair also answers the older ones. One whose canary could still be read
    proves no erasure and answers nothing. A device that nobody waited for is heard about what its receipt
    says it erased, and owes no more. A revoked device's word that it erased everything answers all that waits
    for it. What answers nothing is acknowledged and not kept.

    The caller concludes what it moved, in the same transaction; see `conclude`.

    Raises `WireFailure`, before anything is written: the signature is not this device's, or it names what it
    cannot answer.
    """
    receipt = _opened(tx, device, body, signature)
    if receipt.device_id != device.device_id:
        raise WireFailure("bad_signature", "the receipt is another device's")
    known = tx.receipt(receipt.id)
    if known is not None:
        if (known.device_id, known.body) != (device.device_id, body):
            raise WireFailure("malformed", "another receipt has this id")
        return Accepted(receipt.id, ())
    named = _named(tx, device, receipt)
    answered = [] if receipt.canary_unreadable is False else _answered(tx, receipt, named)
    kept = [d for d in answered if _concerns(tx, d, device.device_id, receipt, named)]
    wiped = device.revoked and is_wipe(receipt)
    if kept or wiped:
        tx.add_receipt(StoredReceipt(receipt.id, device.device_id, body, signature, now_us))
    for denial in kept:
        tx.add_answer(Answer(denial.seq, device.device_id, receipt.id, receipt.kind))
        _settle(tx, denial, device.device_id, now_us)
    settled = _wiped(tx, device, receipt, now_us) if wiped else []
    if wiped:
        tx.told.append(Wiped(device.device_id, body, signature, tx.lane_head()))
    moved = tuple(sorted({*(d.revocation for d in kept), *settled}))
    return Accepted(receipt.id, moved)


def conclude(tx: WriteTx, revocations: Iterable[str], now_us: int) -> None:
    """Say what receipts that were accepted in this transaction made true of these revocations.

    Once for all of them: a revocation that waits for two thousand devices hears many in one transaction.
    """
    for revocation in sorted(set(revocations)):
        tx.complete(revocation, now_us)
        notice(tx, revocation, now_us)


def is_wipe(receipt: Receipt) -> bool:
    """Whether a receipt says that the device erased everything for good, because it was shut out.

    Such a receipt answers every denial, whatever its position. It names no position and needs none: who was
    shut out holds nothing from then on and takes nothing in any more, so a denial from before found it erased
    and one from after finds nothing. An app that erases everything on its own and goes on says something
    else, and answers nothing by it.
    """
    return receipt.subject == EVERYBODY and receipt.shut_out and receipt.canary_unreadable is not False


def _wiped(tx: WriteTx, device: DeviceRow, receipt: Receipt, now_us: int) -> list[str]:
    """The device is gone for good: let its receipt answer all that waits for it; returns those revocations.

    One that held something may have held some of whatever it had not heard of when it was shut out, though
    its lease had ended and nobody waited for it: those are amended.
    """
    if receipt.kind == "erased":
        tx.add_unheard_targets(device.device_id, device.lane_acked)
    settled = tx.wiped_answers(device.device_id, receipt.id, now_us)
    tx.device_wiped(device.device_id, now_us)
    return settled


def _opened(tx: WriteTx, device: DeviceRow, body: bytes, signature: bytes) -> Receipt:
    """The receipt under the device's key, or under one of before: it may have waited for days."""
    for key in tx.device_keys(device.device_id):
        with contextlib.suppress(WireFailure):
            return open_receipt(body, signature, key)
    return open_receipt(body, signature, device.public_key)


def _named(tx: WriteTx, device: DeviceRow, receipt: Receipt) -> dict[int, str]:
    """seq -> purpose of the denials that the receipt itself names."""
    found = [tx.evidence(seq) for seq in receipt.denials]
    actor = device_actor(device.device_id)
    found += [tx.evidence_of_decision(actor, d) for d in receipt.decisions]
    if any(step is not None and step.erased for step in found):
        return {}  # it comes after the evidence was erased: nobody asks any more
    steps = [_denial_step(step, receipt) for step in found]
    return {step.seq: step.purpose for step in steps}


def _answered(tx: WriteTx, receipt: Receipt, named: Mapping[int, str]) -> list[Denial]:
    """Every denial that the receipt speaks for: those it names, and older ones of the same pairs."""
    newest: dict[str, int] = {}
    for seq, purpose in named.items():
        newest[purpose] = max(seq, newest.get(purpose, 0))
    return [d for p, seq in newest.items() for d in tx.denials_of_pair(receipt.subject, p, seq)]


def _denial_step(step: Evidence | None, receipt: Receipt) -> Evidence:
    if step is None or step.state not in DENIALS:
        raise WireFailure("malformed", "the receipt answers a denial that is not in the ledger")
    if step.subject != receipt.subject or step.purpose not in receipt.purposes:
        raise WireFailure("malformed", "the receipt answers a denial of another subject or purpose")
    return step


def _concerns(
    tx: WriteTx, denial: Denial, device_id: str, receipt: Receipt, named: Mapping[int, str]
) -> bool:
    """Whether anybody waits for this answer, or should hear it: a holder that erased what it names, late."""
    target = tx.target(denial.revocation, device_id)
    if target is not None and target.erased_us is None:
        return True
    if receipt.kind != "erased" or denial.seq not in named:
        return False
    before = tx.answer(denial.seq, device_id)
    return before is None or before.kind == "held_none"


def _settle(tx: WriteTx, denial: Denial, device_id: str, now_us: int) -> None:
    target = tx.target(denial.revocation, device_id)
    if target is None:
        tx.add_late_target(denial.revocation, device_id, denial.seq, now_us)
    late = target is None or target.late
    if late or tx.answered(denial.revocation, device_id):  # who came by itself owes nothing
        tx.target_erased(denial.revocation, device_id, now_us)
