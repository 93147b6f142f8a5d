"""Data keys: one per (subject, purpose, grant). Destroying one makes everything sealed under it unreadable.

A sealed payload is `nonce (12) || AES-256-GCM ciphertext and tag`; the authenticated context binds database,
subject, purpose, key, table and row, so a payload moved anywhere else does not open.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.wire.messages import Bytes16, Bytes32, Position
from edge_runtime.wire.seal import canonical

_NONCE_BYTES: Final = 12
_CANARY: Final = b"edge-canary-1"


class KeyRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A data key as the keystore holds it."""

    handle: Bytes16
    secret: Bytes32
    subject: str
    purpose: str
    grant: Position
    decision: Bytes16
    notice: str
    base: Position
    at_us: int
    ordinal: Position
    pending: tuple[bytes, ...]


class DataKey:
    """The key of one (subject, purpose) under one grant.

    Attributes:
        subject: typed id, `user:alice`; empty for the device's own key.
        purpose: purpose name.
        handle: 16 random bytes that this key's rows hang on.
        grant: ledger seq of the grant; 0 until the ledger numbered it (or for ever, under another legal
            basis than consent).
        decision: id of the decision it was made in.
        notice: version of the text last agreed to.
        base: newest lane position seen when the decision was taken.
        at_us: when the decision was taken.
        ordinal: place in this device's own order of decisions.
        pending: ids of decisions (the first and renewals) that the ledger has not acknowledged.
        resting: whether the key may rest in the keystore; False for purposes kept in memory only.
    """

    __slots__ = (
        "_aad",
        "_cipher",
        "_database_id",
        "_secret",
        "at_us",
        "base",
        "decision",
        "grant",
        "handle",
        "notice",
        "ordinal",
        "pending",
        "purpose",
        "resting",
        "subject",
    )

    def __init__(self, database_id: bytes, record: KeyRecord, *, resting: bool = True) -> None:
        self.subject, self.purpose, self.handle = record.subject, record.purpose, record.handle
        self.grant, self.decision, self.notice = record.grant, record.decision, record.notice
        self.base, self.at_us, self.ordinal = record.base, record.at_us, record.ordinal
        self.pending, self.resting = record.pending, resting
        self._database_id, self._secret = database_id, record.secret
        self._cipher = AESGCM(record.secret)
        self._aad = canonical((database_id, record.subject, record.purpose, record.handle))

    def __repr__(self) -> str:
        return f"DataKey(purpose={self.purpose!r}, grant={self.grant})"

    def seal(self, table: str, row: bytes, plain: bytes) -> bytes:
        """Encrypt `plain` for one place: it opens only as this `row` of this `table`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, self._place(table, row))

    def open(self, table: str, row: bytes, sealed: bytes) -> bytes:
        """Decrypt what `seal` made for this very place; raises `DatabaseUnreadable` for anything else."""
        try:
            nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, body, self._place(table, row))
        except (InvalidTag, ValueError):
            raise DatabaseUnreadable(f"a sealed row of {table} does not open: damaged or moved") from None

    def canary(self) -> bytes:
        """A sealed sample by which it can be told later whether this key is still there."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, _CANARY, self._database_id)

    def opens_canary(self, canary: bytes) -> bool:
        """Whether `canary` was made with this key."""
        try:
            self._cipher.decrypt(canary[:_NONCE_BYTES], canary[_NONCE_BYTES:], self._database_id)
        except InvalidTag:
            return False
        return True

    def record(self) -> KeyRecord:
        """The form in which the keystore holds it."""
        return KeyRecord(
            self.handle,
            self._secret,
            self.subject,
            self.purpose,
            self.grant,
            self.decision,
            self.notice,
            self.base,
            self.at_us,
            self.ordinal,
            self.pending,
        )

    def _place(self, table: str, row: bytes) -> bytes:
        return b"%b%b\x00%b" % (self._aad, table.encode(), row)


def new_record(
    subject: str,
    purpose: str,
    decision: bytes,
    notice: str,
    *,
    base: int,
    at_us: int,
    grant: int,
    ordinal: int,
    pending: tuple[bytes, ...],
) -> KeyRecord:
    """A record with a fresh handle and secret."""
    handle, secret = secrets.token_bytes(16), secrets.token_bytes(32)
    return KeyRecord(handle, secret, subject, purpose, grant, decision, notice, base, at_us, ordinal, pending)


def device_record() -> KeyRecord:
    """A fresh key for rows that are about nobody."""
    return new_record("", "", bytes(16), "", base=0, at_us=0, grant=0, ordinal=0, pending=())
