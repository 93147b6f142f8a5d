"""Erasure receipts: signed statements of what a denial removed on this device, or that it held none."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from edge_runtime.clock import Clock
from edge_runtime.errors import MalformedRequest
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import ReceiptNote
from edge_runtime.wire.receipt import Receipt, open_receipt, receipt_bytes


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
        """For people and files: the statement, with bytes in hex, and its proof. See `from_json`."""
        proof = {
            "body": self.body.hex(),
            "signature": self.signature.hex(),
            "public_key": self.public_key.hex(),
        }
        return json.dumps({**_readable(self.receipt), "proof": proof}, indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, public_key: bytes | None = None) -> ErasureReceipt:
        """Read back and verify what `to_json` wrote.

        The readable part must say what was signed: a text that was changed does not verify, though the
        signature beside it would.

        Args:
            public_key: 32 bytes, the device's Ed25519 key; the one in the text by default.

        Raises:
            MalformedRequest: it is no receipt in JSON.
            WireFailure: it does not verify; the reason says what differs.
        """
        try:
            told = msgspec.json.decode(text, type=dict[str, object])
            proof = msgspec.convert(told.pop("proof", None), _Proof)
            body, signature = bytes.fromhex(proof.body), bytes.fromhex(proof.signature)
            key = bytes.fromhex(proof.public_key) if public_key is None else public_key
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, ValueError):
            raise MalformedRequest("receipt", "an erasure receipt in JSON", "something else") from None
        signed = open_receipt(body, signature, key)
        readable = _readable(signed)
        differ = sorted(name for name in {*told, *readable} if told.get(name) != readable.get(name))
        if differ:
            raise WireFailure("bad_signature", f"the readable part is not what was signed: {differ[0]!r}")
        return cls(signed, body, signature, key)


class _Proof(msgspec.Struct, frozen=True):
    body: str
    signature: str
    public_key: str


def _readable(receipt: Receipt) -> dict[str, object]:
    said = msgspec.to_builtins(receipt, builtin_types=(bytes,))
    shown = {name: _shown(value) for name, value in said.items()}
    return {**shown, "key_epoch": {"before": receipt.counter_before, "after": receipt.counter_after}}


def _shown(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value


class Receipts:
    """Makes the receipts of one device.

    Args:
        cold_start: what receipts say of cold starts.
    """

    def __init__(
        self,
        keyring: Keyring,
        clock: Clock,
        cold_start: Callable[[], Literal["server", "lease", "standalone"]],
    ) -> None:
        self._keyring, self._clock, self._cold_start = keyring, clock, cold_start

    def of(
        self, denials: Sequence[Denial], subject: bytes | None = None, *, shut_out: bool = False
    ) -> ErasureReceipt:
        """The signed statement of what `denials` removed here.

        Args:
            denials: of one subject, unless `subject` says otherwise.
            shut_out: everything went for good; see `Receipt.shut_out`.
        """
        proofs = [d.evidence for d in denials if d.evidence is not None]
        rows: Counter[str] = Counter()
        for proof in proofs:
            rows.update(proof.rows_deleted)
        canaries = [p.canary_unreadable for p in proofs if p.canary_unreadable is not None]
        body = Receipt(
            v=1,
            id=self._id([(d.id, d.seq) for d in denials]),
            kind="erased" if any(p.keys_destroyed for p in proofs) else "held_none",
            device_id=self._keyring.identity.device_id,
            subject=denials[0].subject if subject is None else subject,
            purposes=list(dict.fromkeys(d.purpose for d in denials)),
            denials=[d.seq for d in denials if d.seq and subject is None],
            decisions=[d.id for d in denials if d.taken_here and subject is None],
            keys_destroyed=sum(p.keys_destroyed for p in proofs),
            rows_deleted=dict(rows),
            counter_before=min((p.counter_before for p in proofs), default=self._keyring.counter),
            counter_after=max((p.counter_after for p in proofs), default=self._keyring.counter),
            canary_unreadable=all(canaries) if canaries else None,
            assurance=self._keyring.assurance,
            cold_start=self._cold_start(),
            at_us=max((p.at_us for p in proofs), default=self._clock.now_us()),
            shut_out=shut_out,
        )
        return ErasureReceipt.sign(self._keyring, body)

    def held_none(self, subject: bytes, purpose: str, seq: int) -> ErasureReceipt:
        """The signed statement that a numbered denial found nothing here."""
        counter = self._keyring.counter
        body = Receipt(
            v=1,
            id=self._id([(subject + purpose.encode(), seq)]),
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

    def _id(self, answered: Sequence[tuple[bytes, int]]) -> bytes:
        """One id for one answer, so that saying it twice is once."""
        body = seal.canonical((self._keyring.identity.device_id, list(answered)))
        return hashlib.blake2b(body, digest_size=16, person=b"edge-receipt").digest()
