"""The receipt that a subject gets for a decision, after ISO/IEC TS 27560:2023, and its verifier. Pure.

Its sections are those of the specification: header, processing, parties, events; so are its field names, and
terms are IRIs of the W3C Data Privacy Vocabulary where that has one. What the specification asks for and the
catalog does not declare is null. Besides it carries the ledger leaf,
the salt that opens it, its inclusion proof and the signed head, so that it proves by itself that the decision
stands in the ledger. Source of the names: the DPVCG guide "Consent Records and Receipts as per ISO/IEC TS
27560:2023 using DPV" (https://w3id.org/dpv/guides/consent-27560).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.catalog import dpv
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.ledger import verify_head
from edge_runtime.wire.merkle import verify_inclusion
from edge_runtime.wire.messages import LedgerHead
from edge_runtime.wire.printing import prints_only
from sync_server.consent import ledger
from sync_server.consent.signed_document import DocumentFailure, SignedDocument, opened, signed
from sync_server.consent.statement import head_document, head_of
from sync_server.devices.enrolment import decode, encode
from sync_server.store.records import Evidence
from sync_server.store.registry import NoticeRow, RegistryRow

SCHEMA: Final = "ISO/IEC TS 27560:2023"
KIND: Final = "consent_receipt"
_CONTROLLER: Final = "controller"
"""The controller's id among the parties."""
_ALWAYS: Final = ("A15", "A16", "A17", "A18")
_RIGHTS: Final[Mapping[str, tuple[str, ...]]] = {
    "consent": ("A7-3", "A20"),
    "contract": ("A20",),
    "public_task": ("A21",),
    "legitimate_interest": ("A21",),
}
"""Rights beside access, rectification, erasure and restriction, by legal basis (GDPR Art. 7(3), 20, 21)."""


@prints_only("id", "inclusion")
@dataclass(frozen=True, slots=True)
class Decided:
    """A decision with what proves it under the head."""

    id: str
    """Name of the record."""
    step: Evidence
    inclusion: Sequence[bytes]
    head: LedgerHead


@prints_only("purpose", "state", "seq")
@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a receipt proved."""

    record: str
    subject: bytes
    """Pseudonym."""
    purpose: str
    state: str
    seq: int
    at_us: int
    size: int
    """Of the ledger, under the head that it is proven with."""


def consent_receipt(
    key: Ed25519PrivateKey,
    decided: Decided,
    registry: RegistryRow | None,
    notice: NoticeRow | None,
    earlier: Iterable[tuple[bytes, bytes]] = (),
) -> SignedDocument:
    """The signed receipt of a decision.

    Args:
        registry: the version that was in force when it was recorded; None for one from before there were any.
        notice: the text that was shown, where a catalog declares it.
        earlier: (key, its word for the next) of the server's keys before `key`, in order.
    """
    step = decided.step
    part: dict[str, Any] = {} if registry is None else msgspec.json.decode(registry.part)
    statement = {
        "v": 1,
        "kind": KIND,
        "header": _header(decided),
        "processing": _processing(step, part, notice),
        "parties": _parties(step, part.get("controller")),
        "events": [_event(step, part.get("purposes", {}).get(step.purpose, {}).get("legal_basis"))],
        "registry": None if registry is None else _registry(registry),
        "ledger": {
            "seq": step.seq,
            "leaf": encode(step.leaf),
            "salt": encode(step.salt),
            "inclusion": [encode(one) for one in decided.inclusion],
            "head": head_document(decided.head),
        },
    }
    return signed(key, seal.CONSENT_RECEIPT, statement, earlier)


def verify_receipt(document: Mapping[str, Any], server_key: bytes) -> VerifiedReceipt:
    """What `document` proves under the pinned `server_key`; needs no server. Raises `DocumentFailure`.

    Checks the server's signature, the head's, the leaf's inclusion under it, that it opens for the subject
    named, and that the receipt says of the decision what the leaf says.
    """
    statement = opened(document, seal.CONSENT_RECEIPT, server_key)
    try:
        return _verified(statement, server_key)
    except (KeyError, TypeError, ValueError, IndexError, msgspec.MsgspecError, WireFailure) as error:
        raise DocumentFailure(f"the receipt does not hold: {error}") from None


def _verified(statement: Mapping[str, Any], server_key: bytes) -> VerifiedReceipt:
    proof, (event,) = statement["ledger"], statement["events"]
    head, raw = head_of(proof["head"]), decode(proof["leaf"])
    verify_head(head, server_key)
    path = [decode(step) for step in proof["inclusion"]]
    if not verify_inclusion(raw, proof["seq"] - 1, head.size, path, head.root):
        raise ValueError("the decision is not included under the head")
    leaf = msgspec.msgpack.decode(raw, type=ledger.Leaf)
    subject = seal.token_subject(statement["header"]["pii_principal_id"])
    if leaf.commitment != ledger.commitment(decode(proof["salt"]), subject):
        raise ValueError("the leaf is about another subject")
    (processed,) = statement["processing"]["purposes"]
    notice, version = statement["processing"]["privacy_notice"], statement["registry"]
    said = (
        *(processed["purpose"], event["state"], event["event_time"], event["signals"]),
        *(notice["version"], notice["content_hash"], "" if version is None else version["fingerprint"]),
    )
    meant = (
        *(leaf.purpose, leaf.state, leaf.at_us, list(leaf.signals)),
        *(leaf.notice, leaf.notice_hash.hex(), leaf.registry.hex()),
    )
    if (*said, proof["seq"], event["event_state"]) != (*meant, leaf.seq, dpv.STATES[leaf.state]):
        raise ValueError("the receipt says something else than the ledger")
    record = statement["header"]["record_id"]
    return VerifiedReceipt(record, subject, leaf.purpose, leaf.state, leaf.seq, leaf.at_us, head.size)


def _header(decided: Decided) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA,
        "record_id": decided.id,
        "receipt_id": f"{decided.id}.{decided.head.size}",
        "pii_principal_id": seal.subject_token(decided.step.subject),
    }


def _processing(step: Evidence, part: Mapping[str, Any], notice: NoticeRow | None) -> dict[str, Any]:
    declared: dict[str, Any] = {} if notice is None else msgspec.json.decode(notice.notice)
    purpose: dict[str, Any] = part.get("purposes", {}).get(step.purpose, {})
    basis = purpose.get("legal_basis")
    controller = part.get("controller")
    return {
        "privacy_notice": {
            "version": step.notice,
            "title": declared.get("title"),
            "url": declared.get("url"),
            "content_hash": step.notice_hash.hex(),
        },
        "language": declared.get("language"),
        "purposes": [
            {
                "purpose": step.purpose,
                "purpose_type": purpose.get("dpv"),
                "title": purpose.get("title"),
                "description": purpose.get("description"),
                "lawful_basis": None if basis is None else dpv.LEGAL_BASES[basis],
                "pii_information": purpose.get("data_categories", []),
                "pii_controllers": [] if controller is None else [_CONTROLLER],
                "recipient_third_parties": purpose.get("recipients", []),
                "jurisdiction": None if controller is None else controller.get("jurisdiction"),
                "geographic_restrictions": purpose.get("transfers", []),
                "retention_period": purpose.get("retention"),
                "storage_locations": ["the device, encrypted", "the sync server, encrypted"],
                "withdrawal_method": "POST /v1/consent-revocations, or in the app: as easy as giving",
                "privacy_rights": [dpv.right(name) for name in (*_ALWAYS, *_RIGHTS.get(basis or "", ()))],
            }
        ],
    }


def _parties(step: Evidence, controller: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    token = seal.subject_token(step.subject)
    subject = {"party_id": token, "party_role": "pii_principal", "party_type": "natural person"}
    if controller is None:
        return [subject]
    officer = controller.get("dpo")
    named = {
        "party_id": _CONTROLLER,
        "party_role": "pii_controller",
        "party_type": "organisation",
        "party_name": controller["name"],
        "party_address": controller.get("address"),
        "party_contact": controller.get("contact"),
    }
    protecting = (
        [] if officer is None else [{"party_id": "dpo", "party_role": "dpo", "party_contact": officer}]
    )
    return [named, *protecting, subject]


def _event(step: Evidence, basis: str | None) -> dict[str, Any]:
    return {
        "event_time": step.at_us,
        "recorded_time": step.recorded_us,
        "validity_duration": "until it is ended" if step.state == "given" else None,
        "event_type": dpv.EXPRESSED_CONSENT if basis == "consent" else None,
        "event_state": dpv.STATES[step.state],
        "state": step.state,
        "outcome": step.outcome,
        "entity_id": _CONTROLLER if step.state == "revoked" else seal.subject_token(step.subject),
        "taken_by": step.actor,
        "signals": list(step.signals),
    }


def _registry(row: RegistryRow) -> dict[str, Any]:
    signature = None if row.signature is None else msgspec.json.decode(row.signature)
    return {"version": row.version, "fingerprint": row.fingerprint.hex(), "signature": signature}
