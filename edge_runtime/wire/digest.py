"""The state digest of a channel: order-free, so it survives compaction and any order of arrival.

Sum mod 2^128 of a keyed BLAKE2b-128 of each live row; a change adds one hash and takes another away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from edge_runtime.wire.messages import RANGES, Row
from edge_runtime.wire.seal import canonical

MODULUS: Final = 1 << 128


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
"""`canonical`, without a call of ours for each of many rows."""
_PAIR: Final = canonical((0, 0))[:1]


def row_hash(key: bytes, channel: str, row: Row) -> int:
    """The contribution of one delivered row; a delete contributes 0.

    Args:
        key: the tenant's 32-byte digest key, learned at enrolment.
    """
    return 0 if row.deleted else from_bytes(RowHasher(key, channel).hash(row))


class RowHasher:
    """Hashes many rows of one channel: key and channel are taken in once.

    Args:
        key: the tenant's 32-byte digest key.
    """

    def __init__(self, key: bytes, channel: str) -> None:
        begun = _PAIR + canonical(channel)
        self._begun = hashlib.blake2b(begun, digest_size=16, key=key, person=b"edge-digest")

    def hash(self, row: Row) -> bytes:
        """16 bytes of a row that is no delete: the keyed BLAKE2b-128 of `canonical((channel, row))`."""
        return self.hashes([row])[0]

    def hashes(self, rows: Iterable[Row]) -> list[bytes]:
        """As `hash`, of each row."""
        begun, hashes = self._begun.copy, list[bytes]()
        for body in map(_encode, rows):
            one = begun()
            one.update(body)
            hashes.append(one.digest())
        return hashes


def range_of(key: bytes, entity: str, view: str, version: int) -> int:
    """The sub-range, 0..63, that a row belongs to in whatever channel it stands."""
    body = canonical((entity, view, version))
    return hashlib.blake2b(body, digest_size=1, key=key, person=b"edge-range").digest()[0] % RANGES


def add(digest: int, *, removed: int = 0, added: int = 0) -> int:
    """The digest after one row changed."""
    return (digest - removed + added) % MODULUS


def total(parts: Iterable[bytes]) -> int:
    """The sum of 16-byte parts, not yet reduced."""
    return sum(map(int.from_bytes, parts))


def to_bytes(digest: int) -> bytes:
    """16 bytes, big-endian."""
    return digest.to_bytes(16, "big")


def from_bytes(raw: bytes) -> int:
    """The integer in 16 big-endian bytes."""
    return int.from_bytes(raw, "big")
