"""Nodes of the key tree, as they are sealed and as they stand in their bytes. Pure.

A node is sealed with AES-256-GCM under a key of its own, used once and kept in the reference that points to
it. So a reference opens one version of one node and nothing else: an older version has another key, and
whoever loses the reference loses the whole subtree. Since no key seals twice, the nonce is always zero.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge_runtime.errors import KeystoreMismatch
from edge_runtime.keys.secret import KEY_BYTES, fresh_secret, joined, wipe

FANOUT: Final = 64
_BITS: Final = 6
_ID_BYTES: Final = 16
DEPTH_LIMIT: Final = _ID_BYTES * 8 // _BITS
"""A leaf this deep is never divided: the id has no more bits to tell its entries apart."""
TAG_BYTES: Final = 16
_NONCE: Final = bytes(12)
_REF: Final = struct.Struct(">32sQI")
_LEAF: Final = 1 << 31
_HEAD: Final = struct.Struct(">16sI")


Entries = Mapping[bytes, bytearray | None]
"""Id -> encoded entry; None for one that is to go."""


class Ref(NamedTuple):
    """Where a node rests, and the key that opens it."""

    key: bytearray
    offset: int
    length: int
    leaf: bool

    def __repr__(self) -> str:
        return f"Ref(offset={self.offset}, length={self.length}, leaf={self.leaf})"


def mismatch(what: str) -> KeystoreMismatch:
    """The error for a keystore that is not the one the root slot names, with what to do about it."""
    return KeystoreMismatch(
        f"the keystore {what}. Nothing was touched. Put the right keystore back, or open with "
        "recover='discard': it is set aside, every personal row goes, and the device must enrol again"
    )


def seal(plain: bytearray, context: bytes) -> tuple[bytearray, bytes]:
    """(a fresh key, `plain` sealed under it)."""
    key = fresh_secret()
    return key, AESGCM(key).encrypt(_NONCE, plain, context)


def unseal(key: bytearray, sealed: bytes, context: bytes) -> bytearray:
    """What `seal` was given, to be wiped by the caller; anything else is a `KeystoreMismatch`."""
    plain = bytearray(max(len(sealed) - TAG_BYTES, 0))
    try:
        AESGCM(key).decrypt_into(_NONCE, sealed, context, plain)
    except (InvalidTag, ValueError):
        raise mismatch(
            "does not open under the root slot: an old copy, damaged, or another device's"
        ) from None
    return plain


def slot_of(id: bytes, depth: int) -> int:
    """Which of the 64 children of a branch at `depth` leads to a 16-byte id."""
    return int.from_bytes(id, "big") >> (_ID_BYTES * 8 - _BITS * (depth + 1)) & (FANOUT - 1)


def by_slot(entries: Entries, depth: int) -> dict[int, dict[bytes, bytearray | None]]:
    """`entries` (id -> entry) divided as a branch at `depth` divides them."""
    parts: dict[int, dict[bytes, bytearray | None]] = {}
    for id_, raw in entries.items():
        parts.setdefault(slot_of(id_, depth), {})[id_] = raw
    return parts


# ---- branches: 64 places of 44 bytes -----------------------------------------------------------------


def new_branch() -> bytearray:
    """A branch without children."""
    return bytearray(_REF.size * FANOUT)


def child(branch: bytearray, slot: int) -> Ref | None:
    """The child in a slot, with a key of its own; None where there is none."""
    key, offset, length = _REF.unpack_from(branch, slot * _REF.size)
    return Ref(bytearray(key), offset, length & ~_LEAF, bool(length & _LEAF)) if length else None


def put_child(branch: bytearray, slot: int, ref: Ref | None) -> None:
    """Set, or clear, the child in a slot."""
    if ref is None:
        branch[slot * _REF.size : (slot + 1) * _REF.size] = bytes(_REF.size)
    else:
        _REF.pack_into(
            branch, slot * _REF.size, bytes(ref.key), ref.offset, ref.length | (_LEAF if ref.leaf else 0)
        )
        wipe(ref.key)


def children(branch: bytearray) -> Iterator[tuple[int, Ref]]:
    """(slot, child) of each child, in order."""
    for slot in range(FANOUT):
        ref = child(branch, slot)
        if ref is not None:
            yield slot, ref


# ---- leaves: `id (16) || length (4) || entry`, one after another, by id ---------------------------------


def pack_leaf(entries: Mapping[bytes, bytearray]) -> bytearray:
    """A leaf's bytes."""
    parts: list[bytes | bytearray] = []
    for id_ in sorted(entries):
        parts += _HEAD.pack(id_, len(entries[id_])), entries[id_]
    return joined(parts)


def unpack_leaf(plain: bytearray) -> dict[bytes, bytearray]:
    """Id -> entry of a leaf, each with bytes of its own, to be wiped by the caller."""
    return {id_: plain[start:end] for id_, start, end in _places(plain)}


def find_in_leaf(plain: bytearray, id: bytes) -> bytearray | None:
    """The entry of one id, with bytes of its own."""
    for found, start, end in _places(plain):
        if found == id:
            return plain[start:end]
    return None


def _places(plain: bytearray) -> Iterator[tuple[bytes, int, int]]:
    at = 0
    while at < len(plain):
        id_, length = _HEAD.unpack_from(plain, at)
        start = at + _HEAD.size
        at = start + length
        yield id_, start, at


assert _REF.size == KEY_BYTES + 12
