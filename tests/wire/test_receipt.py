"""Receipts: signed, canonical, and exactly what they say."""

from __future__ import annotations

import msgpack
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.receipt import Receipt, open_receipt, receipt_bytes

KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x02")
PUBLIC = seal.public_bytes(KEY)
RECEIPT = Receipt(
    v=1,
    id=bytes(16),
    kind="erased",
    device_id="dev-1",
    subject=bytes(16),
    purposes=["personalization"],
    denials=[8],
    decisions=[],
    keys_destroyed=1,
    rows_deleted={"journal": 3, "memory": 1},
    counter_before=1,
    counter_after=2,
    canary_unreadable=True,
    assurance="file",
    cold_start="server",
    at_us=5,
)


def signed(body: bytes) -> bytes:
    return seal.sign(KEY, seal.RECEIPT, body)


def test_a_signed_receipt_opens_to_what_was_signed() -> None:
    """Round trip under the device's key."""
    body = receipt_bytes(RECEIPT)
    assert open_receipt(body, signed(body), PUBLIC) == RECEIPT


def test_another_body_under_the_same_signature_does_not_open() -> None:
    """A changed count is a bad signature."""
    body = receipt_bytes(RECEIPT)
    other = receipt_bytes(msgspec.structs.replace(RECEIPT, keys_destroyed=2))
    with pytest.raises(WireFailure, match="bad_signature"):
        open_receipt(other, signed(body), PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "lost"},
        {"rows_deleted": {"journal": -1}},
        {"keys_destroyed": True},
        {"id": "A" * 24},
        {"extra": 1},
        {"at_us": 1.0},
    ],
)
def test_a_signed_body_that_is_no_receipt_is_malformed(change: dict[str, object]) -> None:
    """A device's signature does not make nonsense true."""
    fields = {**msgpack.unpackb(receipt_bytes(RECEIPT)), **change}
    body = bytes(msgpack.packb(fields))
    with pytest.raises(WireFailure, match="malformed"):
        open_receipt(body, signed(body), PUBLIC)


def test_a_receipt_from_before_a_field_was_there_still_opens() -> None:
    """Devices hand in, and servers keep, what was signed years ago."""
    assert b"shut_out" not in receipt_bytes(RECEIPT)
    spelled = msgpack.packb({**msgpack.unpackb(receipt_bytes(RECEIPT)), "shut_out": False})
    with pytest.raises(WireFailure, match="canonical"):
        open_receipt(spelled, signed(spelled), PUBLIC)
    wiped = receipt_bytes(msgspec.structs.replace(RECEIPT, shut_out=True))
    assert open_receipt(wiped, signed(wiped), PUBLIC).shut_out


def test_only_the_canonical_form_is_a_receipt() -> None:
    """The same fields in another order or doubled would be two receipts with one meaning."""
    fields = msgpack.unpackb(receipt_bytes(RECEIPT))
    turned = bytes(msgpack.packb(dict(reversed(fields.items()))))
    with pytest.raises(WireFailure, match="malformed"):
        open_receipt(turned, signed(turned), PUBLIC)
