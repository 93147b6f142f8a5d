"""Makes signed statements about a revocation; `statement.py` says what they are and verifies them. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import LedgerHead
from edge_runtime.wire.receipt import Receipt, open_receipt
from sync_server.consent.progress import Enforced, Progress
from sync_server.consent.receipts import is_wipe
from sync_server.consent.statement import head_document
from sync_server.devices.enrolment import encode
from sync_server.store.recipients import RecipientAnswer
from sync_server.store.records import Evidence, RevocationRow, StoredReceipt, Target

ANONYMITY = "pseudonymous until the salts are destroyed"
ANONYMOUS = "anonymous: the salts were destroyed, and the devices' receipts with them"


@dataclass(frozen=True, slots=True)
class Proven:
    """A denial with what proves it under the head."""

    step: Evidence
    inclusion: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class DeviceProof:
    """A target, the key it enrolled, and the receipts by which it answered."""

    target: Target
    enforced: Enforced | None
    public_key: bytes
    receipts: Sequence[StoredReceipt]
    earlier_keys: Sequence[bytes] = ()
    """Those that it signed with before."""
    shut_out: str | None = None
    """Why it was shut out; None: it was not."""


def accepted(
    key: Ed25519PrivateKey, row: RevocationRow, denials: Sequence[Proven], head: LedgerHead
) -> dict[str, object]:
    """The statement that a revocation was accepted and stands in the ledger."""
    return _signed(key, _core("revocation_accepted", row, denials, head))


def completed(
    key: Ed25519PrivateKey,
    row: RevocationRow,
    denials: Sequence[Proven],
    head: LedgerHead,
    progress: Progress,
    devices: Iterable[DeviceProof],
    recipients: Iterable[RecipientAnswer] = (),
    assurance: str = "file",
) -> dict[str, object]:
    """The statement that every target answered, with each one's own signed receipt, and what each onward
    recipient said."""
    proven = (row, denials, head, progress, devices, recipients, assurance)
    return _signed(key, _outcome("revocation_completed", *proven))


def partially_completed(
    key: Ed25519PrivateKey,
    row: RevocationRow,
    denials: Sequence[Proven],
    head: LedgerHead,
    progress: Progress,
    devices: Iterable[DeviceProof],
    overdue: Iterable[DeviceProof],
    recipients: Iterable[RecipientAnswer] = (),
    assurance: str = "file",
) -> dict[str, object]:
    """The statement that the due time is over: who answered, with their receipts, and who still owes one."""
    proven = (row, denials, head, progress, devices, recipients, assurance)
    owing = {"overdue": [_device(device, row.due_us) for device in overdue]}
    return _signed(key, _outcome("revocation_partially_completed", *proven) | owing)


def _outcome(
    kind: str,
    row: RevocationRow,
    denials: Sequence[Proven],
    head: LedgerHead,
    progress: Progress,
    devices: Iterable[DeviceProof],
    recipients: Iterable[RecipientAnswer],
    assurance: str,
) -> dict[str, object]:
    return _core(kind, row, denials, head) | {
        "enforced_at": progress.enforced_us,
        "erased_at": progress.erased_us,
        "completed_at": progress.completed_us,
        "amended": progress.amended,
        "server": {
            "erased_at": row.server_erased_us,
            "rows_deleted": row.server_rows,
            "assurance": assurance,
        },
        "devices": [_device(device, row.due_us) for device in devices],
        "recipients": [_recipient(r) for r in recipients],
    }


def _core(kind: str, row: RevocationRow, denials: Sequence[Proven], head: LedgerHead) -> dict[str, object]:
    return {
        "v": 1,
        "kind": kind,
        "id": row.id,
        "subject": seal.subject_token(row.subject) if row.subject else None,
        "purposes": sorted(d.step.purpose for d in denials),
        "initiator": row.initiator,
        "accepted_at": row.accepted_us,
        "due_at": row.due_us,
        "anonymity": ANONYMITY if row.subject else ANONYMOUS,
        "denials": [
            {
                "seq": d.step.seq,
                "leaf": encode(d.step.leaf),
                "salt": None if d.step.erased else encode(d.step.salt),
                "inclusion": [encode(step) for step in d.inclusion],
            }
            for d in denials
        ],
        "head": head_document(head),
    }


def _device(device: DeviceProof, due_us: int) -> dict[str, object]:
    target, stopped = device.target, device.enforced
    answered = (
        None if target.erased_us is None else "wipe" if any(map(_wiped, device.receipts)) else "receipt"
    )
    return {
        "device_id": target.device_id,
        "public_key": encode(device.public_key),
        "late": target.late,
        "enforced_at": None if stopped is None else stopped.at_us,
        "enforced_by": None if stopped is None else stopped.by,
        "remark": None if stopped is None else stopped.remark,
        "cold_start": target.cold_start,
        "shut_out": device.shut_out,
        "erased_at": target.erased_us,
        "answered_by": answered,
        "overdue": target.erased_us is None or target.erased_us >= due_us,
        "receipts": [_receipt(r, device) for r in device.receipts],
    }


def _wiped(receipt: StoredReceipt) -> bool:
    return is_wipe(msgspec.msgpack.decode(receipt.body, type=Receipt))


def _recipient(answer: RecipientAnswer) -> dict[str, object]:
    """A recipient's word as it gave it; unlike a device's it carries no signature of its own."""
    return {
        "name": answer.recipient,
        "told_at": answer.told_us,
        "answered_at": answer.answered_us,
        "outcome": answer.outcome,
        "reason": answer.reason,
    }


def _receipt(receipt: StoredReceipt, device: DeviceProof) -> dict[str, object]:
    """A receipt, and the key that signed it when the device has named another since."""
    document: dict[str, object] = {"body": encode(receipt.body), "signature": encode(receipt.signature)}
    for key in device.earlier_keys:
        with contextlib.suppress(WireFailure):
            open_receipt(receipt.body, receipt.signature, key)
            document["public_key"] = encode(key)
    return document


def _signed(key: Ed25519PrivateKey, body: dict[str, object]) -> dict[str, object]:
    signature = seal.sign(key, seal.REVOCATION, seal.canonical(body))
    return {"statement": body, "signature": encode(signature), "public_key": encode(seal.public_bytes(key))}
