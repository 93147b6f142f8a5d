"""Signed statements about a revocation: what they are, and the verifier that needs only our public key. Pure.

A statement is JSON: `{"statement": {...}, "signature": ...}`, Ed25519 over the canonical MessagePack of
`statement`; bytes stand as base64url. It embeds for each denial the ledger leaf, the salt that opens its
commitment, its inclusion proof, and the signed head; a completion also embeds every device's signed receipt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.ledger import verify_head
from edge_runtime.wire.merkle import verify_inclusion
from edge_runtime.wire.messages import LedgerHead
from edge_runtime.wire.receipt import Receipt, open_receipt
from sync_server.consent import ledger
from sync_server.consent.receipts import is_wipe
from sync_server.devices.enrolment import decode, encode
from sync_server.store.records import DENIALS


class StatementFailure(Exception):
    """A statement that does not hold; the message names the first thing that does not."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a statement proved."""

    kind: str
    id: str
    subject: bytes | None
    """Pseudonym; None where the salts were destroyed."""
    purposes: tuple[str, ...]
    denials: tuple[int, ...]
    receipts: tuple[Receipt, ...]
    overdue: tuple[str, ...] = ()
    """Devices that it says still owe a receipt."""


def head_document(head: LedgerHead) -> dict[str, object]:
    """A signed ledger head as JSON."""
    return {
        "size": head.size,
        "root": encode(head.root),
        "time": head.time_us,
        "incarnation": encode(head.incarnation),
        "signature": encode(head.signature),
    }


def verify(document: Mapping[str, Any], server_key: bytes) -> Verified:
    """Return what `document` proves under the pinned `server_key`, or raise `StatementFailure`.

    Checks the server's signature, the head's, each leaf's inclusion under it and its opening for the named
    subject, and each device receipt's signature, subject and coverage: of the denials, or of everything.
    Needs no server and no clock.
    """
    try:
        body = document["statement"]
        seal.verify(server_key, seal.REVOCATION, seal.canonical(body), decode(document["signature"]))
        head = head_of(body["head"])
        verify_head(head, server_key)
        subject = None if body["subject"] is None else seal.token_subject(body["subject"])
        denials = {d["seq"]: _verified_leaf(d, head, subject, body) for d in body["denials"]}
        named = {d["seq"]: denials[d["seq"]] for d in body["denials"] if d["salt"] is not None}
        receipts = [r for d in body.get("devices", ()) for r in _verified_device(d, subject, denials, named)]
        overdue = tuple(str(d["device_id"]) for d in body.get("overdue", ()))
    except (KeyError, TypeError, ValueError, AttributeError, msgspec.MsgspecError, WireFailure) as error:
        raise StatementFailure(f"the statement does not hold: {error}") from None
    if sorted(set(denials.values())) != sorted(body["purposes"]):
        raise StatementFailure("the purposes are not those of the denials")
    return Verified(
        *(body["kind"], body["id"], subject, tuple(body["purposes"]), tuple(denials), tuple(receipts)),
        overdue,
    )


def head_of(document: Mapping[str, Any]) -> LedgerHead:
    """The head in a JSON document; not verified yet."""
    return LedgerHead(
        size=document["size"],
        root=decode(document["root"]),
        time_us=document["time"],
        incarnation=decode(document["incarnation"]),
        signature=decode(document["signature"]),
    )


def _verified_leaf(
    document: Mapping[str, Any], head: LedgerHead, subject: bytes | None, body: Mapping[str, Any]
) -> str:
    """The purpose of a leaf that is in the log, denies, was recorded when it is said, and is about `subject`.

    Of a leaf without its salt nobody can say any more whom it is about.
    """
    raw, proof = decode(document["leaf"]), [decode(step) for step in document["inclusion"]]
    if not verify_inclusion(raw, document["seq"] - 1, head.size, proof, head.root):
        raise ValueError("a denial is not included under the head")
    leaf = msgspec.msgpack.decode(raw, type=ledger.Leaf)
    if leaf.seq != document["seq"] or leaf.state not in DENIALS:
        raise ValueError("a leaf is not the denial it is said to be")
    if leaf.recorded_us != body["accepted_at"]:
        raise ValueError("a denial was recorded at another time than the statement says")
    if document["salt"] is None:
        return leaf.purpose
    if subject is None or leaf.commitment != ledger.commitment(decode(document["salt"]), subject):
        raise ValueError("a leaf is about another subject")
    return leaf.purpose


def _verified_device(
    document: Mapping[str, Any], subject: bytes | None, denials: Mapping[int, str], named: Mapping[int, str]
) -> list[Receipt]:
    """The receipts of one device, which together answer every denial, as one for everything does alone.

    That one names neither the subject nor a position: see `receipts.is_wipe` for why it needs none. A device
    that nobody waited for says what it erased, of at least one denial; of the others it held nothing.

    Args:
        named: the denials whose salts are there; what answered only others went with theirs.
    """
    if subject is None:
        return []  # they name the subject: they went with the salts
    key = document["public_key"]
    opened = [
        open_receipt(decode(r["body"]), decode(r["signature"]), decode(r.get("public_key", key)))
        for r in document["receipts"]
    ]
    wiped = [receipt for receipt in opened if is_wipe(receipt)]
    if (document.get("answered_by") == "wipe") is not bool(wiped):
        raise ValueError("a device is said to have erased everything, and its receipts say otherwise")
    for receipt in opened:
        if receipt.device_id != document["device_id"]:
            raise ValueError("a receipt is another device's")
        if receipt.subject != subject and receipt not in wiped:
            raise ValueError("a receipt is about another subject")
        if receipt.canary_unreadable is False:
            raise ValueError("a receipt says that its canary can still be read")
    answered = {
        seq for seq, purpose in denials.items() if wiped or any(_answers(r, seq, purpose) for r in opened)
    }
    if document["late"] and not answered and len(named) == len(denials):
        raise ValueError("the receipts of a device that nobody waited for answer no denial")
    if not document["late"] and not named.keys() <= answered:
        raise ValueError("a device's receipts do not answer every denial")
    return opened


def _answers(receipt: Receipt, seq: int, purpose: str) -> bool:
    """A receipt for a newer denial answers an older one; one that names the device's own decisions, the
    denials that these became."""
    newest = max(receipt.denials, default=0)
    return purpose in receipt.purposes and (newest >= seq or bool(receipt.decisions))
