"""Sealing under several data keys at once: it opens while every one of them lives, and never again after.

The body has a key of its own, cut into shares: all but one are random, and all of them XORed are the key.
Each share rests sealed under one data key. Without any one of them the others are random bytes that say
nothing of the key. Each data key adds 60 bytes; seals inside one another would have to be opened in turn.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.secret import fresh_secret, wipe

_NONCE_BYTES: Final = 12


class Joint(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A body, and a sealed share of its key for each data key, in their order."""

    shares: list[bytes]
    body: bytes


def seal_jointly(keys: Sequence[DataKey], table: str, row: bytes, plain: bytes) -> Joint:
    """Seal `plain` for one `row` of `table`, under all `keys` (at least one)."""
    key, shares = fresh_secret(), []
    try:
        nonce = os.urandom(_NONCE_BYTES)
        body = nonce + AESGCM(key).encrypt(nonce, plain, row)
        for held in keys[1:]:
            share = fresh_secret()
            shares.append(held.seal(table, row, share))
            _add(key, share)
            wipe(share)
        return Joint([keys[0].seal(table, row, key), *shares], body)
    finally:
        wipe(key)


def open_jointly(keys: Sequence[DataKey], table: str, row: bytes, joint: Joint) -> bytes:
    """What `seal_jointly` sealed under the same keys; raises `DatabaseUnreadable` for anything else."""
    if len(keys) != len(joint.shares):
        raise DatabaseUnreadable(f"expected {len(joint.shares)} keys, got {len(keys)}")
    whole = fresh_secret()
    wipe(whole)
    try:
        for held, share in zip(keys, joint.shares, strict=True):
            _add(whole, held.open(table, row, share))
        return AESGCM(whole).decrypt(joint.body[:_NONCE_BYTES], joint.body[_NONCE_BYTES:], row)
    except (InvalidTag, ValueError):
        raise DatabaseUnreadable(f"a sealed row of {table} does not open: damaged or moved") from None
    finally:
        wipe(whole)


def _add(sum_: bytearray, share: bytes | bytearray) -> None:
    """XOR, in place. Raises `ValueError` for a share of another length."""
    for at, (_, byte) in enumerate(zip(sum_, share, strict=True)):
        sum_[at] ^= byte
