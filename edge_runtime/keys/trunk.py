"""The trunk: the one node of the keystore that the root slot points to, and what it holds beside the tree."""

from __future__ import annotations

import secrets
from typing import Self

import msgspec

from edge_runtime.keys.identity import Identity
from edge_runtime.keys.node import Ref, mismatch
from edge_runtime.wire.messages import Bytes16, Bytes32, Position
from edge_runtime.wire.printing import prints_only

Pair = tuple[bytes, str]
"""(pseudonym, purpose)."""


@prints_only("offset", "length")
class TreeRoot(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The reference to the root of the key tree."""

    key: Bytes32
    offset: Position
    length: Position
    leaf: bool

    @classmethod
    def of(cls, ref: Ref | None) -> Self | None:
        """A reference as the trunk holds it."""
        return None if ref is None else cls(bytes(ref.key), ref.offset, ref.length, ref.leaf)

    def ref(self) -> Ref:
        """The reference, with a key of its own."""
        return Ref(bytearray(self.key), self.offset, self.length, self.leaf)


@prints_only("keys", "subjects")
class Trunk(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything of the keystore that is not about one subject."""

    authority: Bytes16
    """Changes when the identity does: what a database says of another authority is void."""
    sequence: Position
    """This device's own count of decisions."""
    identity: Identity
    device_handle: Bytes16
    device_secret: Bytes32
    """The key of rows that are about nobody."""
    keys: Position
    """How many data keys rest in the tree."""
    subjects: Position
    """How many subjects have at least one of them."""
    doubt: tuple[Pair, ...]
    """Consents of which it is not certain that the outbox has them: a crash may have come between."""
    tree: TreeRoot | None
    live_bytes: Position
    """How long the living nodes of the tree are; the rest of the file is waste."""
    ledger: bytes = b""
    """The server's ledger head as it was kept at the last change of the keystore; see `consent.witness`."""

    @classmethod
    def new(cls) -> Self:
        """Of a runtime that is its own authority and knows nobody."""
        token = secrets.token_bytes
        return cls(token(16), 0, Identity.standalone(), token(16), token(32), 0, 0, (), None, 0)

    @property
    def root_of_tree(self) -> Ref | None:
        """The reference to the tree's root, with a key of its own; None for a tree without entries."""
        return None if self.tree is None else self.tree.ref()

    def encode(self) -> bytearray:
        """Its bytes, to be wiped by the caller."""
        return bytearray(msgspec.msgpack.encode(self))


def decode(raw: bytearray) -> Trunk:
    """The trunk in `raw`; raises `KeystoreMismatch` for one of another release."""
    try:
        return msgspec.msgpack.decode(raw, type=Trunk)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError):
        raise mismatch("was written by another release") from None
