"""The root slot: the few secrets everything else hangs on, and the counters that show an old copy.

Two unrelated secrets: the page key of the database, changed only by a rekey, and the root, which opens the
trunk of the keystore and is new at every change of it. While a rekey runs the slot holds both page keys, so
that a crash loses neither.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

import msgspec

from edge_runtime.errors import KeyMismatch
from edge_runtime.wire.messages import Bytes16, Bytes32, Position
from edge_runtime.wire.printing import prints_only

_MAGIC: Final = b"EDGESLOT2"
_CHECK_BYTES: Final = 16


@prints_only("offset", "length")
class Root(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where the keystore's trunk rests, and the key that opens it."""

    key: Bytes32
    offset: Position
    length: Position


@prints_only("counter", "generation", "opening")
class Slot(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a `KeyProvider` keeps. Opaque bytes to the provider (`encode`, `decode`)."""

    database_id: Bytes16
    """Random name of this database, bound into every sealed payload and node."""
    page_key: Bytes32
    next_page_key: Bytes32 | None
    """The page key that an unfinished rekey is moving to; None otherwise."""
    root: Root | None
    """None until the keystore exists: a crash at first creation is no missing file."""
    generation: Position
    """Which file the keystore is: the next one after each compaction."""
    counter: Position
    """Key epoch: grows by one with each erasure that destroyed a key, and with each rotation."""
    opening: Position
    """How often the database was opened; a database that counts fewer is an old copy."""

    @classmethod
    def new(cls, counter: int = 0) -> Slot:
        """A slot for a database that does not exist yet."""
        token = secrets.token_bytes
        return cls(token(16), token(32), None, None, 0, counter, 0)

    @property
    def fresh(self) -> bool:
        """Whether the database and the keystore were not both made yet."""
        return self.root is None

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
