"""The erasure receipt: a device's signed statement of what a denial removed there, or that it held none."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from edge_runtime.wire.codec import FRAME_LIMIT_BYTES, unpack
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import Bytes16, Micros, Name, Position
from edge_runtime.wire.seal import RECEIPT, canonical, verify

EVERYBODY: Final = bytes(16)
"""The subject of a receipt for all that a device held: nobody's pseudonym."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one device says about one denial. Counts are of this device; no personal value is in it.

    A field with a default is left out where it has it: what was signed before there was such a field holds.
    """

    v: int
    id: Bytes16
    kind: Literal["erased", "held_none"]
    device_id: Name
    """`standalone` for a runtime that never enrolled."""
    subject: Bytes16
    purposes: list[Name]
    denials: list[Position]
    """Ledger seqs of the denials answered; empty for a withdrawal taken here and not yet recorded."""
    decisions: list[Bytes16]
    """Ids of withdrawals taken on this device that this answers."""
    keys_destroyed: Position
    rows_deleted: dict[Name, Position]
    """table -> rows; also `memory` (live states zeroed) and `outbox` (unsent reports dropped)."""
    counter_before: Position
    counter_after: Position
    """The root slot's counter; greater by one for each erasure that destroyed a key."""
    canary_unreadable: bool | None
    """True: a sealed sample taken before no longer opens with any key left. None: nothing was sealed."""
    assurance: Literal["memory", "file", "passphrase", "os_keychain", "tpm"]
    cold_start: Literal["server", "lease", "standalone"]
    at_us: Micros
    shut_out: bool = False
    """True: the server shut this device out, so it erased everything of everybody, and takes nothing personal
    in any more under this identity. The subject is then 16 zero bytes."""


def receipt_bytes(receipt: Receipt) -> bytes:
    """The bytes a receipt's signature covers, and the form in which it travels."""
    return canonical(receipt)


def open_receipt(body: bytes, signature: bytes, public_key: bytes) -> Receipt:
    """Return the receipt in `body` after verifying it, or raise `WireFailure`."""
    verify(public_key, RECEIPT, body, signature)
    try:
        receipt = msgspec.convert(
            unpack(body, FRAME_LIMIT_BYTES), Receipt, strict=True, builtin_types=(bytes,)
        )
    except (msgspec.ValidationError, UnicodeError):
        raise WireFailure("malformed", "expected an erasure receipt") from None
    if receipt_bytes(receipt) != body:
        raise WireFailure("malformed", "expected the canonical form of a receipt")
    return receipt
