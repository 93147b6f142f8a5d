"""The keystore: every data key, the identity and every denial in one sealed file beside the database.

The file is `magic || nonce (12) || AES-256-GCM under the slot's root`. It is rewritten whole, so it costs
O(keys) per decision; a tree that rewrites only a path can take its place behind the same words.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge_runtime.errors import KeystoreMismatch
from edge_runtime.keys.datakey import KeyRecord
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.identity import Identity
from edge_runtime.keys.slot import Slot
from edge_runtime.wire.messages import Bytes16, Position

_MAGIC: Final = b"EDGEKEYS1"
_NONCE_BYTES: Final = 12


class Keystore(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the file holds."""

    authority: Bytes16
    """Changes when the identity does: what a database says of another authority is void."""
    revision: Position
    sequence: Position
    """This device's own count of decisions."""
    identity: Identity
    device: KeyRecord
    """Key of rows that are about nobody."""
    keys: tuple[KeyRecord, ...]
    denials: tuple[Denial, ...]

    def __repr__(self) -> str:
        return f"Keystore(revision={self.revision}, keys={len(self.keys)})"

    @classmethod
    def empty(cls, device: KeyRecord, revision: int) -> Keystore:
        """A keystore of a runtime that is its own authority and knows nobody."""
        return cls(secrets.token_bytes(16), revision, 0, Identity.standalone(), device, (), ())


def seal(slot: Slot, keystore: Keystore) -> bytes:
    """The file's bytes under the slot's newer root."""
    nonce = os.urandom(_NONCE_BYTES)
    body = AESGCM(slot.root).encrypt(nonce, msgspec.msgpack.encode(keystore), _context(slot))
    return _MAGIC + nonce + body


def open_sealed(slot: Slot, raw: bytes) -> Keystore:
    """The keystore in `raw` under either root of the slot; an old or foreign one is a `KeystoreMismatch`."""
    for root in (slot.root, slot.old_root):
        plain = None if root is None else _decrypted(root, raw, _context(slot))
        if plain is None:
            continue
        try:
            keystore = msgspec.msgpack.decode(plain, type=Keystore)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError):
            raise mismatch("was written by another release") from None
        if keystore.revision < slot.revision:
            raise mismatch(f"is an old copy: expected revision {slot.revision}, got {keystore.revision}")
        return keystore
    raise mismatch("does not open under the root slot: an old copy, damaged, or another device's")


def mismatch(what: str) -> KeystoreMismatch:
    """The error, with what to do about it."""
    return KeystoreMismatch(
        f"the keystore {what}. Nothing was touched. Put the right keystore back, or open with "
        "recover='discard': it is set aside, every personal row goes, and the device must enrol again"
    )


def _decrypted(root: bytes, raw: bytes, context: bytes) -> bytes | None:
    head = len(_MAGIC) + _NONCE_BYTES
    if not raw.startswith(_MAGIC) or len(raw) < head + 16:
        return None
    try:
        return AESGCM(root).decrypt(raw[len(_MAGIC) : head], raw[head:], context)
    except InvalidTag:
        return None


def _context(slot: Slot) -> bytes:
    return _MAGIC + slot.database_id
