"""Data keys: one per (subject, purpose, grant). Destroying one makes everything sealed under it unreadable.

A sealed payload is `nonce (12) || AES-256-GCM ciphertext and tag`; the authenticated context binds database,
subject, purpose, key, table and row, so a payload moved anywhere else does not open.
"""

from __future__ import annotations

import os
import secrets
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge_runtime.errors import DatabaseUnreadable, RuntimeClosed
from edge_runtime.keys.secret import wipe
from edge_runtime.wire.messages import Bytes16, Position
from edge_runtime.wire.seal import canonical

_NONCE_BYTES: Final = 12
_CANARY: Final = b"edge-canary-1"


class Restriction(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A restriction (Art. 18) taken on this device that the ledger has not acknowledged."""

    id: Bytes16
    """Of the decision."""
    base: Position
    at_us: int


class KeyFacts(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is known of a data key besides its secret and its subject."""

    handle: Bytes16
    """16 random bytes that this key's rows hang on."""
    purpose: str
    grant: Position
    """Ledger seq of the grant; 0 until the ledger numbered it (or for ever, under another legal basis than
    consent)."""
    decision: Bytes16
    """Id of the decision it was made in."""
    notice: str
    """Version of the text last agreed to."""
    base: Position
    """Newest lane position seen when the decision was taken."""
    at_us: int
    """When the decision was taken."""
    ordinal: Position
    """Place in this device's own order of decisions."""
    pending: tuple[bytes, ...] = ()
    """Ids of decisions (the first and renewals) that the ledger has not acknowledged."""
    signals: tuple[str, ...] = ()
    """What the subject's software said beside the subject: `gpc`."""
    after: Bytes16 | None = None
    """Id of this device's own denial that its decision knowingly follows; see `Decision.after`."""
    restricted: Restriction | None = None
    """While it stands here, nothing is used under the key, whatever the lane says."""

    def __repr__(self) -> str:
        return f"KeyFacts(purpose={self.purpose!r}, grant={self.grant})"


class DataKey:
    """The key of one (subject, purpose) under one grant, in memory. One object for each living key.

    Attributes:
        subject: typed id, `user:alice`; empty for the device's own key.
        facts: see `KeyFacts`; its most asked fields stand here too.
        resting: whether the key may rest in the keystore; False for purposes kept in memory only.
        barred: the state by which the ledger forbids its use; None when it does not.
        alive: False once it was destroyed; whoever still holds it must let go.
    """

    __slots__ = (
        "__weakref__",
        "_aad",
        "_cipher",
        "_database_id",
        "_secret",
        "alive",
        "barred",
        "facts",
        "grant",
        "handle",
        "purpose",
        "resting",
        "subject",
    )

    def __init__(
        self, database_id: bytes, subject: str, facts: KeyFacts, secret: bytearray, *, resting: bool = True
    ) -> None:
        self._database_id, self._secret = database_id, secret
        self.subject, self.handle, self.purpose = subject, facts.handle, facts.purpose
        self.resting, self.alive = resting, True
        self.barred: str | None = None
        self.know(facts)
        self._cipher: AESGCM | None = None
        self._aad = canonical((database_id, subject, facts.purpose, facts.handle))

    def __repr__(self) -> str:
        return f"DataKey(purpose={self.purpose!r}, grant={self.grant})"

    def __del__(self) -> None:
        wipe(self._secret)

    def know(self, facts: KeyFacts) -> None:
        """The key's facts are these now."""
        self.facts, self.grant = facts, facts.grant

    def seal(self, table: str, row: bytes, plain: bytes | bytearray) -> bytes:
        """Encrypt `plain` for one place: it opens only as this `row` of this `table`.

        Raises `RuntimeClosed` for a key that was wiped.
        """
        cipher = self._cipher or self._made()
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + cipher.encrypt(nonce, plain, self._aad + _named(table) + row)

    def open(self, table: str, row: bytes, sealed: bytes) -> bytes:
        """Decrypt what `seal` made for this very place; raises `DatabaseUnreadable` for anything else."""
        cipher = self._cipher or self._made()
        place = self._aad + _named(table) + row
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
        except (InvalidTag, ValueError):
            raise DatabaseUnreadable(f"a sealed row of {table} does not open: damaged or moved") from None

    def canary(self) -> bytes:
        """A sealed sample by which it can be told later whether this key is still there."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._made().encrypt(nonce, _CANARY, self._database_id)

    def opens_canary(self, canary: bytes) -> bool:
        """Whether `canary` was made with this key."""
        try:
            self._made().decrypt(canary[:_NONCE_BYTES], canary[_NONCE_BYTES:], self._database_id)
        except InvalidTag:
            return False
        return True

    def destroy(self) -> None:
        """The key is no more: nobody may use this object, and its secret is overwritten."""
        self.alive = False
        self.wipe()

    def wipe(self) -> None:
        """Overwrite the secret in memory; the key may still rest in the keystore."""
        self._cipher = None
        wipe(self._secret)
        self._secret = bytearray()

    def secret_copy(self) -> bytearray:
        """The secret, for the keystore; the caller wipes it."""
        return bytearray(self._secret)

    def _made(self) -> AESGCM:
        """The cipher, made at first use: many keys are only listed."""
        if self._cipher is None:
            if not self._secret:
                raise RuntimeClosed("the data key was wiped: erased, or the runtime was closed")
            self._cipher = AESGCM(self._secret)
        return self._cipher


@lru_cache(maxsize=64)
def _named(table: str) -> bytes:
    """A table's name as it stands in a place: with an end, so that it does not run into the row."""
    return table.encode() + b"\x00"


def new_facts(
    purpose: str,
    decision: bytes,
    notice: str,
    *,
    base: int,
    at_us: int,
    grant: int,
    ordinal: int,
    pending: tuple[bytes, ...] = (),
    signals: tuple[str, ...] = (),
    after: bytes | None = None,
) -> KeyFacts:
    """Facts of a new key, with a fresh handle; see `KeyFacts`."""
    handle = secrets.token_bytes(16)
    told = (notice, base, at_us, ordinal, pending, signals, after)
    return KeyFacts(handle, purpose, grant, decision, *told)
