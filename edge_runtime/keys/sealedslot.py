"""A slot sealed under a passphrase, as it stands in a file.

`magic, memory_kib, iterations, lanes, salt, nonce` (the header, authenticated), AES-256-GCM ciphertext and
tag, and an unkeyed checksum of all that. The checksum tells damage from a wrong passphrase, which the tag
alone cannot; it says nothing about the slot.
"""

from __future__ import annotations

import hashlib
import os
import struct
import weakref
from typing import Final, NamedTuple, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from edge_runtime.errors import KeyMismatch, KeyUnreadable
from edge_runtime.keys.secret import KEY_BYTES, wipe
from edge_runtime.wire.printing import prints_only

SALT_BYTES: Final = 16
LEAST_MEMORY_KIB: Final = 7_168
LEAST_WORK_KIB: Final = 35_840
"""memory_kib times iterations. Source: the weakest Argon2id setting in OWASP's Password Storage Cheat Sheet,
7 MiB five times."""
MOST_MEMORY_KIB: Final = 1_048_576
MOST_WORK_KIB: Final = 4_194_304
"""1 GiB four times took 4.7 s on a 2-core machine: a file cannot make us work longer or take more."""
MOST_LANES: Final = 16

_MAGIC: Final = b"EDGEPASS1"
_HEADER: Final = struct.Struct(f">{len(_MAGIC)}sIIB{SALT_BYTES}s12s")
_TAG_BYTES: Final = 16
_CHECK_BYTES: Final = 16


class Cost(NamedTuple):
    """What one guess at the passphrase costs: Argon2id's parameters."""

    memory_kib: int
    iterations: int
    lanes: int

    def fault(self) -> str | None:
        """What is wrong with it; None when it lies within the bounds of this file."""
        if not LEAST_MEMORY_KIB <= self.memory_kib <= MOST_MEMORY_KIB:
            return f"memory_kib from {LEAST_MEMORY_KIB} to {MOST_MEMORY_KIB}"
        if not LEAST_WORK_KIB <= self.memory_kib * self.iterations <= MOST_WORK_KIB:
            return f"memory_kib times iterations from {LEAST_WORK_KIB} to {MOST_WORK_KIB}"
        if not 1 <= self.lanes <= MOST_LANES:
            return f"lanes from 1 to {MOST_LANES}"
        return None


class DerivedKey:
    """The key of one (passphrase, salt, cost), overwritten by `wipe` or when nobody holds it any more.

    Deriving takes a tenth of a second; sealing, microseconds.
    """

    def __init__(self, passphrase: bytearray, salt: bytes, cost: Cost) -> None:
        self.salt, self.cost = salt, cost
        self.secret = bytearray(KEY_BYTES)
        self.wipe = weakref.finalize(self, wipe, self.secret)
        Argon2id(
            salt=salt,
            length=KEY_BYTES,
            iterations=cost.iterations,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        ).derive_into(cast(bytes, passphrase), self.secret)  # any buffer will do, whatever its types say

    def __repr__(self) -> str:
        return f"DerivedKey({self.cost})"

    def seal(self, slot: bytes) -> bytes:
        """What the file holds, under a nonce of its own."""
        nonce = os.urandom(12)
        header = _HEADER.pack(_MAGIC, *self.cost, self.salt, nonce)
        body = header + AESGCM(self.secret).encrypt(nonce, slot, header)
        return body + _checksum(body)


@prints_only("cost")
class SealedSlot(NamedTuple):
    """A file's parts, whole and within bounds, not opened yet."""

    cost: Cost
    salt: bytes
    nonce: bytes
    header: bytes
    ciphertext: bytes

    @classmethod
    def parse(cls, raw: bytes) -> SealedSlot:
        """The parts of `raw`; raises `KeyUnreadable`, before anything costs time or memory."""
        if not raw.startswith(_MAGIC):
            raise KeyUnreadable("the sealed key file is not one of ours; nothing was touched")
        body, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
        if len(body) < _HEADER.size + _TAG_BYTES or _checksum(body) != check:
            raise KeyUnreadable("the sealed key file is truncated or damaged; nothing was touched")
        header, ciphertext = body[: _HEADER.size], body[_HEADER.size :]
        _, memory_kib, iterations, lanes, salt, nonce = _HEADER.unpack(header)
        cost = Cost(memory_kib, iterations, lanes)
        fault = cost.fault()
        if fault is not None:
            raise KeyUnreadable(
                f"the sealed key file asks for what none of ours does: expected {fault}; untouched"
            )
        return cls(cost, salt, nonce, header, ciphertext)

    def fits(self, key: DerivedKey) -> bool:
        """Whether `key` was derived with this salt and cost."""
        return key.salt == self.salt and key.cost == self.cost

    def open(self, key: DerivedKey) -> bytes:
        """The slot; raises `KeyMismatch` when the passphrase is another one."""
        try:
            return AESGCM(key.secret).decrypt(self.nonce, self.ciphertext, self.header)
        except InvalidTag:
            raise KeyMismatch(
                "the passphrase does not open the sealed key file: expected the one it was sealed with; "
                "nothing was touched"
            ) from None


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_BYTES, person=b"edge-passphrase").digest()
