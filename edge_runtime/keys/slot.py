"""The root slot: the few secrets everything else hangs on, and the counter that shows an old copy.

Two unrelated secrets: the page key of the database, changed only by a rekey, and the root under which the
keystore is sealed, new at every erasure. While an erasure runs the slot holds both roots, so that a crash
loses neither; opening resolves it forward.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

import msgspec

from edge_runtime.errors import KeyMismatch
from edge_runtime.wire.messages import Bytes16, Bytes32, Position

_MAGIC: Final = b"EDGESLOT1"
_CHECK_BYTES: Final = 16


class Slot(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a `KeyProvider` keeps. Opaque bytes to the provider (`encode`, `decode`)."""

    database_id: Bytes16
    """Random name of this database, bound into every sealed payload."""
    page_key: Bytes32
    root: Bytes32
    """Seals the keystore; the newer one while two stand here."""
    old_root: Bytes32 | None
    """The root that an unfinished erasure is leaving; None otherwise."""
    counter: Position
    """Grows by one with each erasure that destroyed a key."""
    revision: Position
    """Oldest keystore revision that may be believed; a lower one is an old copy."""
    fresh: bool
    """True until the database and the keystore exist: a crash at first creation is no missing file."""

    @classmethod
    def new(cls) -> Slot:
        """A slot for a database that does not exist yet."""
        token = secrets.token_bytes
        return cls(token(16), token(32), token(32), None, 0, 0, True)

    def __repr__(self) -> str:
        return f"Slot(counter={self.counter}, revision={self.revision}, fresh={self.fresh})"

    def encode(self) -> bytes:
        """The bytes a provider keeps, with a checksum."""
        body = msgspec.msgpack.encode(self)
        return _MAGIC + _checksum(body) + body


def decode(raw: bytes) -> Slot:
    """The slot in `raw`; raises `KeyMismatch` when it is not one, or was damaged."""
    body = raw[len(_MAGIC) + _CHECK_BYTES :]
    if not raw.startswith(_MAGIC) or raw[len(_MAGIC) :][:_CHECK_BYTES] != _checksum(body):
        raise KeyMismatch("the key is not a root slot of ours, or it was damaged; nothing was touched")
    try:
        return msgspec.msgpack.decode(body, type=Slot)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError):
        raise KeyMismatch("the key was written by another release; nothing was touched") from None


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_BYTES, person=b"edge-slot").digest()
