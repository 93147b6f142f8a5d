"""A report as it travels: padded, and sealed to the collector alone by HPKE (RFC 9180).

Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, base mode. The round's id goes in as `info`, so a
report sealed for one round opens in no other. Who carries it sees which round and how many bytes, and the
bytes come in powers of two.
"""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import InvalidTag

from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import Bytes16
from edge_runtime.wire.printing import prints_only

if TYPE_CHECKING:  # an app that answers no round loads no HPKE: the erasure needs ids of reports alone
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.hpke import Suite

LEAST_BYTES: Final = 128
"""Padded length of the smallest report."""
MOST_BYTES: Final = 1 << 18
"""Longest padded report: a kiosk's, with noise over thousands of its own subjects."""
_SEAL_BYTES: Final = 32 + 16
"""The encapsulated key and the tag."""
_LENGTH_BYTES: Final = 4
_INFO: Final = b"edge-report-1"


@prints_only()
class Answered(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the collector reads: an answer, and the tickets of whom it covers. No subject, no device."""

    definition: Bytes16
    """Of the metric as the device knows it."""
    tickets: list[Bytes16]
    """One from a local mechanism; from a curator one for each subject in the sum. Each admits once."""
    answer: bytes


def sealed_bytes(body_bytes: int) -> int:
    """Length of a sealed report whose packed content has `body_bytes`: 48 bytes over a power of two.

    Raises `ValueError` over the limit.
    """
    least = max(LEAST_BYTES, body_bytes + _LENGTH_BYTES)
    padded = 1 << (least - 1).bit_length()
    if padded > MOST_BYTES:
        raise ValueError(f"expected a report of at most {MOST_BYTES} bytes, got {body_bytes}")
    return padded + _SEAL_BYTES


@lru_cache(maxsize=64)
def can_seal(collector: bytes) -> bool:
    """Whether these 32 bytes are a key that something can be sealed to: no point of small order."""
    try:
        _encrypt(b"", collector, b"")
    except ValueError:
        return False
    return True


def seal_report(collector: bytes, round_id: bytes, answered: Answered) -> bytes:
    """`answered`, padded and sealed to the collector's X25519 key; the library draws the ephemeral key.

    Raises `ValueError` for a report over the limit, or 32 bytes that are no key.
    """
    body = msgspec.msgpack.encode(answered)
    length = sealed_bytes(len(body)) - _SEAL_BYTES
    padded = (len(body).to_bytes(_LENGTH_BYTES, "big") + body).ljust(length, b"\0")
    return _encrypt(padded, collector, _INFO + round_id)


def open_report(key: X25519PrivateKey, round_id: bytes, sealed: bytes) -> Answered:
    """What `seal_report` sealed.

    Raises `WireFailure`: `unsealed` for what this key does not open for this round; `malformed` for what was
    sealed to it and is no report.
    """
    try:
        padded = _suite().decrypt(sealed, key, info=_INFO + round_id)
    except (InvalidTag, ValueError):
        raise WireFailure("unsealed", "expected a report sealed to this collector for this round") from None
    length = int.from_bytes(padded[:_LENGTH_BYTES], "big")
    body, rest = padded[_LENGTH_BYTES : _LENGTH_BYTES + length], padded[_LENGTH_BYTES + length :]
    try:
        if len(body) != length or any(rest) or len(sealed) != sealed_bytes(length):
            raise WireFailure("malformed", "expected padding of zeros to a power of two")
        return msgspec.msgpack.decode(body, type=Answered)
    except (ValueError, msgspec.MsgspecError):
        raise WireFailure("malformed", "expected an answer with its tickets") from None


def report_id(sealed: bytes) -> bytes:
    """16 bytes that name a sealed report in its acknowledgement, and to whom it was sent again."""
    return hashlib.blake2b(sealed, digest_size=16, person=b"edge-report").digest()


def _encrypt(plain: bytes, collector: bytes, info: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    return _suite().encrypt(plain, X25519PublicKey.from_public_bytes(collector), info=info)


@cache
def _suite() -> Suite:
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
