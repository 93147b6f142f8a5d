"""The consent ledger: what a leaf says, how a head is signed, how both are proven. Pure.

A leaf names its subject only by a commitment under a salt of its own, so that destroying the salt makes the
leaf anonymous without touching what was hashed. Ledger seq n is leaf n - 1, and lane position n.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import seal
from edge_runtime.wire.messages import LedgerHead
from sync_server.consent import merkle
from sync_server.consent.merkle import NodeReader

SALT_BYTES: Final = 32
LEAF_VERSION: Final = 2
"""Of the leaves made now. Those of version 1 end with their grant, and verify as they did."""


class Leaf(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One step as the ledger hashes it (canonical MessagePack of this)."""

    v: int
    seq: int
    commitment: bytes
    purpose: str
    state: str
    outcome: Literal["recorded", "superseded"]
    notice: str
    base: int
    actor: Literal["api", "device"]
    at_us: int
    recorded_us: int
    grant: int
    notice_hash: bytes = b""
    """SHA-256 of the text that was shown, as its notice declares; from version 2 on, empty when none does."""
    registry: bytes = b""
    """Fingerprint of the privacy part in force; from version 2 on, empty before any catalog."""
    signals: tuple[str, ...] = ()
    """What the subject's software said beside the subject: `gpc`."""
    author: bytes = b""
    """Commitment under the same salt to who decided and their own id for it; from version 2 on."""


def commitment(salt: bytes, subject: bytes) -> bytes:
    """32 bytes that bind a pseudonym and tell nothing without the salt."""
    return hashlib.blake2b(subject, digest_size=32, key=salt, person=b"edge-commitment").digest()


def author(salt: bytes, actor: str, decision: bytes | None) -> bytes:
    """32 bytes that bind an actor and its id for a decision, and tell nothing without the salt."""
    said = seal.canonical((actor, decision))
    return hashlib.blake2b(said, digest_size=32, key=salt, person=b"edge-author").digest()


def leaf_bytes(leaf: Leaf) -> bytes:
    """The bytes that are hashed."""
    return seal.canonical(leaf)


def sign_head(
    key: Ed25519PrivateKey, size: int, node: NodeReader, time_us: int, incarnation: bytes
) -> LedgerHead:
    """The signed head of the log at `size` leaves."""
    head = LedgerHead(size=size, root=merkle.root(size, node), time_us=time_us, incarnation=incarnation)
    signature = seal.sign(key, seal.LEDGER_HEAD, seal.head_bytes(head))
    return msgspec.structs.replace(head, signature=signature)
